//! What answers come to: verdicts, a caption, one more question, or nothing of use. The same for answers that came over the
//! wire and for those of batch files.

use super::parse::{Choice, Reading, Verdict, verdicts};
use super::reply::Reply;
use super::text::plain;
use crate::job::task::asking::{Aspect, Judge};

/// How often a machine is asked one thing before its answers stand as they are: once more than needed.
pub const MOST_ASKS: usize = 2;

/// What the answers so far come to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Weighed<T> {
    /// Enough.
    Done(T),
    /// It has to be asked; how often it was before.
    Ask(u16),
}

/// The verdicts of the answers to one question, the first answer first. An aspect that no answer speaks of is invalid, and
/// one that the first leaves open is the second's.
pub fn judged(task: &Judge, replies: &[Reply]) -> Weighed<Vec<Verdict>> {
    let mut best: Vec<Verdict> = task.aspects.iter().map(|it| nothing(*it)).collect();
    for reply in replies.iter().take(MOST_ASKS) {
        for (best, said) in best.iter_mut().zip(verdicts(whole(reply), &task.aspects, Reading::Tolerant)) {
            if best.choice == Choice::Invalid {
                *best = said;
            }
        }
    }
    let is_open = best.iter().any(|it| it.choice == Choice::Invalid);
    if is_open && replies.len() < MOST_ASKS { Weighed::Ask(n_asked(replies)) } else { Weighed::Done(best) }
}

fn nothing(aspect: Aspect) -> Verdict {
    Verdict { aspect, choice: Choice::Invalid, reason: String::new() }
}

fn n_asked(replies: &[Reply]) -> u16 {
    u16::try_from(replies.len()).unwrap_or(u16::MAX)
}

/// What an answer has said to the end: of one that ran out of tokens, its whole sentences.
fn whole(reply: &Reply) -> &str {
    let text = reply.content.as_str();
    if !reply.is_cut() {
        return text;
    }
    let end = text.rfind(['.', '!', '?', '\n', '。']).map_or(0, |at| text.ceil_char_boundary(at + 1));
    &text[..end]
}

/// The caption of the answers to one question, or why there is none.
pub fn captioned(replies: &[Reply]) -> Weighed<Result<String, String>> {
    let mut why = "the captioner has written nothing".to_owned();
    for (nth, reply) in replies.iter().take(MOST_ASKS).enumerate() {
        match caption(reply) {
            // A longer answer may fit next time; if not, its whole sentences will do.
            Ok(_) if reply.is_cut() && nth + 1 < MOST_ASKS => {}
            Ok(text) => return Weighed::Done(Ok(text)),
            Err(error) => why = error,
        }
    }
    if replies.len() < MOST_ASKS { Weighed::Ask(n_asked(replies)) } else { Weighed::Done(Err(why)) }
}

/// How refusals begin.
const REFUSALS: [&str; 9] = [
    "i'm sorry",
    "i am sorry",
    "sorry,",
    "i can't",
    "i cannot",
    "i'm unable",
    "i am unable",
    "i'm not able",
    "as an ai",
];

/// A caption as it is used: one line, without quotes around it.
fn caption(reply: &Reply) -> Result<String, String> {
    if let Some(refusal) = &reply.refusal {
        return Err(format!("the captioner refuses: {refusal}"));
    }
    let text = plain(whole(reply)).replace(|it: char| it.is_control(), " ");
    let mut line = text.split_whitespace().collect::<Vec<&str>>().join(" ");
    for (open, close) in [('"', '"'), ('\'', '\''), ('`', '`'), ('«', '»')] {
        let inner = line.strip_prefix(open).and_then(|it| it.strip_suffix(close));
        if let Some(inner) = inner.filter(|it| !it.contains(open)) {
            line = inner.trim().to_owned();
        }
    }
    let lower = line.to_lowercase();
    if line.is_empty() {
        return Err("the captioner has written nothing".to_owned());
    }
    if REFUSALS.iter().any(|it| lower.starts_with(it)) {
        return Err(format!("the captioner refuses: {line}"));
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Hash;
    use crate::job::task::Picture;
    use crate::job::task::asking::Manner;

    fn reply(content: &str) -> Reply {
        Reply { content: content.to_owned(), ..Reply::default() }
    }

    fn cut(content: &str) -> Reply {
        Reply { finish: Some("length".to_owned()), ..reply(content) }
    }

    fn task() -> Judge {
        let picture = |it: &[u8]| Picture::of_file(Hash::of(it), Vec::new());
        let manner = Manner { model: String::new(), url: None, side: 1, max_tokens: 1, temperature: None };
        Judge {
            first: picture(b"a"),
            second: picture(b"b"),
            turned: false,
            words: None,
            aspects: vec![Aspect::VisualAesthetics, Aspect::FineDetails],
            question: Hash::of(b"q"),
            crop: None,
            manner,
        }
    }

    fn choices(replies: &[Reply]) -> Option<Vec<Choice>> {
        match judged(&task(), replies) {
            Weighed::Done(verdicts) => Some(verdicts.iter().map(|it| it.choice).collect()),
            Weighed::Ask(n) => {
                assert_eq!(usize::from(n), replies.len());
                None
            }
        }
    }

    #[test]
    fn what_an_answer_leaves_open_is_asked_once_more() {
        use Choice::{First, Invalid, Second};
        let whole = reply("Visual Aesthetics: the first image is better.\nFine Details: the second image is better.");
        let half = reply("Visual Aesthetics: the second image is better.");
        assert_eq!(choices(&[]), None);
        assert_eq!(choices(std::slice::from_ref(&whole)), Some(vec![First, Second]));
        assert_eq!(choices(std::slice::from_ref(&half)), None);
        assert_eq!(
            choices(&[half.clone(), whole]),
            Some(vec![Second, Second]),
            "the first answer stands where it says something"
        );
        assert_eq!(choices(&[half.clone(), half]), Some(vec![Second, Invalid]));
        assert_eq!(choices(&[reply("I can't."), reply("")]), Some(vec![Invalid, Invalid]));
    }

    #[test]
    fn half_a_sentence_of_an_answer_that_ran_out_of_tokens_says_nothing() {
        let text = "Visual Aesthetics: the first image is better. Fine Details: the second";
        assert_eq!(choices(&[cut(text)]), None);
        assert_eq!(choices(&[reply(text)]), Some(vec![Choice::First, Choice::Second]));
    }

    #[test]
    fn captions_are_one_line_without_quotes() {
        let of = |text: &str| captioned(&[reply(text)]);
        assert_eq!(of(" \"A red fox\n in\0  snow.\" \u{1b}"), Weighed::Done(Ok("A red fox in snow.".to_owned())));
        assert_eq!(of("' '"), Weighed::Ask(1));
        assert_eq!(of("A sign says \"open\""), Weighed::Done(Ok("A sign says \"open\"".to_owned())));
    }

    #[test]
    fn a_captioner_that_refuses_or_runs_out_is_asked_once_more() {
        let no = || reply("I'm sorry, I can't help with that.");
        assert_eq!(captioned(&[no()]), Weighed::Ask(1));
        assert_eq!(captioned(&[no(), reply("A fox.")]), Weighed::Done(Ok("A fox.".to_owned())));
        let Weighed::Done(Err(why)) = captioned(&[reply(""), no()]) else { panic!() };
        assert!(why.contains("refuses: I'm sorry"), "{why}");
        assert_eq!(captioned(&[cut("A fox. It is")]), Weighed::Ask(1));
        assert_eq!(captioned(&[cut("A fox. It is"), cut("A fox. It sits")]), Weighed::Done(Ok("A fox.".to_owned())));
        assert!(matches!(captioned(&[cut("A fox"), cut("A fox")]), Weighed::Done(Err(_))));
    }
}
