//! Requests for chat completions: a text and pictures as data URLs.

use serde_json::{Value, json};

use super::cost::{self, PictureTokens, Tokens};
use super::prompts::{self, Question};
use crate::job::Hash;
use crate::job::task::asking::{Caption, Judge, Manner, Words};

/// The path of chat completions below an endpoint's address, and the whole of it in batch files.
pub const PATH: &str = "chat/completions";
/// See [`PATH`].
pub const BATCH_PATH: &str = "/v1/chat/completions";

/// The texts of a request, without its pictures.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Texts {
    /// Who the machine is; none where that is left to it.
    pub system: Option<String>,
    /// What it is asked.
    pub text: String,
}

impl Texts {
    /// What a judge is asked. A caption that a job writes must have been put in its place.
    pub fn of_judge(task: &Judge) -> Self {
        let words = match &task.words {
            Some(Words::Text(text)) => Some(text.as_str()),
            _ => None,
        };
        let Question { system, text } = prompts::question(&task.aspects, words);
        Self { system: Some(system), text }
    }

    /// What a captioner is asked.
    pub fn of_caption(task: &Caption) -> Self {
        Self { system: None, text: task.question.clone() }
    }

    /// Their hash, which is kept with every request.
    pub fn hash(&self) -> Hash {
        Hash::of_value(&(&self.system, &self.text))
    }

    /// The tokens of a request with pictures of these sizes, and the most of its answer.
    pub fn most_tokens(&self, manner: &Manner, pictures: PictureTokens, sizes: &[(u32, u32)]) -> Tokens {
        Tokens { input: self.input_tokens(manner, pictures, sizes), output: manner.max_tokens }
    }

    /// The tokens that a request reads, roughly.
    pub fn input_tokens(&self, manner: &Manner, pictures: PictureTokens, sizes: &[(u32, u32)]) -> u32 {
        let texts = self.system.iter().chain([&self.text]).map(|it| cost::text_tokens(it) + cost::FRAME);
        let shown = sizes.iter().map(|it| {
            let (width, height) = cost::fitted(*it, manner.side);
            pictures.of(width, height)
        });
        texts.chain(shown).fold(0, u32::saturating_add)
    }

    /// The request. `pictures` are JPEG files in base64, in the order in which they are shown.
    pub fn body(&self, manner: &Manner, pictures: &[String]) -> Value {
        let mut content = vec![json!({ "type": "text", "text": self.text })];
        content.extend(pictures.iter().map(|it| {
            let url = format!("data:image/jpeg;base64,{it}");
            json!({ "type": "image_url", "image_url": { "url": url, "detail": "high" } })
        }));
        let system = self.system.iter().map(|it| json!({ "role": "system", "content": it }));
        let messages: Vec<Value> = system.chain([json!({ "role": "user", "content": content })]).collect();
        let mut body = json!({ "model": manner.model, "messages": messages, "max_tokens": manner.max_tokens });
        if let Some(temperature) = manner.temperature {
            body["temperature"] = temperature.into();
        }
        body
    }
}

/// What a request is called in batch files: 62 digits of the job's key, and two that say how often it was asked before. At
/// most 64 characters are taken there; 31 bytes of a hash tell jobs apart as well.
pub fn custom_id(key: &Hash, nth: u16) -> String {
    format!("{}{nth:02}", &key.to_string()[..62])
}

/// The first 31 bytes of a job's key, and which ask it is; none if the text is no such name.
pub fn read_custom_id(text: &str) -> Option<(Vec<u8>, u16)> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let (key, nth) = text.split_at(62);
    let byte = |at: usize| u8::from_str_radix(&key[at..at + 2], 16).ok();
    let bytes: Option<Vec<u8>> = (0..62).step_by(2).map(byte).collect();
    Some((bytes?, nth.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{custom_id, read_custom_id};
    use crate::job::Hash;

    #[test]
    fn names_in_batch_files_lead_back() {
        let key = Hash([0xab; 32]);
        let name = custom_id(&key, 1);
        assert_eq!(name.len(), 64);
        assert_eq!(read_custom_id(&name), Some((vec![0xab; 31], 1)));
        for wrong in ["", "request-1", &"z".repeat(64), &"ä".repeat(32)] {
            assert_eq!(read_custom_id(wrong), None, "{wrong}");
        }
    }
}
