//! What an endpoint sends back: a chat completion, an error, or something else.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::text::storable;

/// The most bytes of an answer's text that are kept.
pub const MOST_CONTENT: usize = 64 << 10;
/// The most bytes of a raw reply that are kept.
pub const MOST_RAW: usize = 1 << 20;

/// An answer, whatever it says.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Reply {
    /// What the model wrote; empty if it wrote nothing.
    pub content: String,
    /// Why it declined, where it says so.
    pub refusal: Option<String>,
    /// Why it ended: `stop`, `length`, `content_filter`.
    pub finish: Option<String>,
    /// The model's exact version.
    pub snapshot: Option<String>,
    /// Tokens that were read, as the endpoint counts them.
    pub tokens_in: Option<u32>,
    /// Tokens that were written.
    pub tokens_out: Option<u32>,
}

impl Reply {
    /// Reads the body of a chat completion. What is no chat completion is an answer without content: it was given, and
    /// perhaps paid for, but says nothing.
    pub fn read(body: &str) -> Self {
        let Ok(value) = serde_json::from_str::<Value>(body) else { return Self::default() };
        let text = |it: &Value| it.as_str().filter(|it| !it.is_empty()).map(|it| storable(it, MOST_CONTENT));
        let choice = &value["choices"][0];
        let message = &choice["message"];
        let count = |key: &str| value["usage"][key].as_u64().and_then(|it| u32::try_from(it).ok());
        Self {
            content: content(&message["content"]),
            refusal: text(&message["refusal"]),
            finish: text(&choice["finish_reason"]),
            snapshot: text(&value["model"]),
            tokens_in: count("prompt_tokens"),
            tokens_out: count("completion_tokens"),
        }
    }

    /// Whether the model ran out of tokens before it had finished.
    pub fn is_cut(&self) -> bool {
        self.finish.as_deref() == Some("length")
    }
}

/// A string, or the texts of a list of parts.
fn content(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|it| it["text"].as_str()).collect::<Vec<_>>().join("\n"),
        _ => String::new(),
    };
    storable(&text, MOST_CONTENT)
}

/// A raw body as it is kept: text, without NUL, its beginning if it is long.
pub fn kept(body: &[u8]) -> String {
    let beginning = &body[..body.len().min(MOST_RAW)];
    storable(&String::from_utf8_lossy(beginning), MOST_RAW)
}

/// What an error says, and its code: `{"error": {"message", "code", "type"}}`, or the beginning of whatever it is.
pub fn error_of(body: &str) -> (String, String) {
    let value: Value = serde_json::from_str(body).unwrap_or_default();
    let error = &value["error"];
    let said = error["message"].as_str().or_else(|| error.as_str()).unwrap_or(body).trim();
    let code = error["code"].as_str().or_else(|| error["type"].as_str()).unwrap_or_default();
    (storable(said, 500), storable(code, 100))
}

#[cfg(test)]
mod tests {
    use super::{MOST_CONTENT, Reply, error_of, kept};

    #[test]
    fn a_completion_is_read_and_anything_else_is_an_empty_answer() {
        let body = r#"{"model": "gpt-4o-2024-08-06", "choices": [{"finish_reason": "stop", "message": {"content": "a fox"}}],
            "usage": {"prompt_tokens": 1700, "completion_tokens": 4}}"#;
        let reply = Reply::read(body);
        assert_eq!((reply.content.as_str(), reply.tokens_in, reply.tokens_out), ("a fox", Some(1700), Some(4)));
        assert_eq!(reply.snapshot.as_deref(), Some("gpt-4o-2024-08-06"));
        for body in ["", "<html>", "[]", "{}", r#"{"choices": []}"#, r#"{"choices": [{"message": {"content": null}}]}"#]
        {
            assert_eq!(Reply::read(body).content, "", "{body}");
        }
        let parts = r#"{"choices": [{"message": {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}}]}"#;
        assert_eq!(Reply::read(parts).content, "a\nb");
        let refused = r#"{"choices": [{"message": {"content": null, "refusal": "I can't."}}]}"#;
        assert_eq!(Reply::read(refused).refusal.as_deref(), Some("I can't."));
    }

    #[test]
    fn long_and_strange_texts_are_kept_as_text() {
        let long = serde_json::json!({ "choices": [{ "message": { "content": "ä".repeat(10 << 20) } }] }).to_string();
        assert_eq!(Reply::read(&long).content.len(), MOST_CONTENT);
        let strange = "{\"choices\": [{\"message\": {\"content\": \"\\u0000\\u001b[2J<script>\"}}]}";
        assert_eq!(Reply::read(strange).content, "\u{fffd}\u{1b}[2J<script>");
        assert_eq!(kept(b"\xff\0"), "\u{fffd}\u{fffd}");
    }

    #[test]
    fn errors_are_read_in_both_shapes() {
        let of = |body: &str| error_of(body).0;
        assert_eq!(of(r#"{"error": {"message": "too fast", "code": "rate_limit_exceeded"}}"#), "too fast");
        assert_eq!(of(r#"{"error": "no"}"#), "no");
        assert_eq!(of("<html>bad gateway"), "<html>bad gateway");
        assert_eq!(error_of(r#"{"error": {"type": "insufficient_quota"}}"#).1, "insufficient_quota");
    }
}
