//! What one part of an answer says: the clause with the verdict, and the reason behind it.

use super::{Choice, MOST_REASON, Reading};
use crate::judge::text::cut;

/// What may stand around a verdict.
const MARKS: &[char] =
    &['*', '_', '`', '"', '\'', '<', '>', '[', ']', '(', ')', '{', '}', '#', '|', '-', '•', ' ', '\n'];

/// The choice that a part of an answer makes, and where the rest of it begins; none if it makes none.
pub(super) fn read(segment: &str, reading: Reading) -> Option<(Choice, usize)> {
    let lower = segment.to_ascii_lowercase();
    let begin = lower.len() - lower.trim_start_matches(MARKS).len();
    let end = clause_end(&lower, begin);
    let clause = &lower[begin..end];
    let choice = match reading {
        Reading::Strict => strict(clause),
        Reading::Tolerant => tolerant(clause, &segment[begin..end]),
    };
    match choice {
        Some(choice) => Some((choice, end)),
        None if reading == Reading::Tolerant => later(segment, &lower),
        None => None,
    }
}

/// The whole sentence further on: after the question, say, or after what is seen in each picture.
fn later(segment: &str, lower: &str) -> Option<(Choice, usize)> {
    let mut said = None;
    let mut start = 0;
    for part in lower.split_inclusive(['.', '!', '?', ';', '\n']) {
        let end = start + part.len();
        if part.contains("first image is better") || part.contains("second image is better") {
            // Of a sentence that takes it back nothing is left.
            let choice = tolerant(part, &segment[start..end])?;
            if said.is_some_and(|(earlier, _)| earlier != choice) {
                return None;
            }
            said = said.or(Some((choice, end)));
        }
        start = end;
    }
    said
}

/// Where the clause with the verdict ends: before its reason, its first full stop, or its line.
fn clause_end(lower: &str, begin: usize) -> usize {
    let rest = &lower[begin..];
    let ends = ["the reason", "reason:", "because", "reasoning", "explanation"];
    let words = ends.iter().filter_map(|it| rest.find(it));
    let stops = rest.char_indices().filter(|it| matches!(it.1, '.' | '!' | '?' | ';' | '\n')).map(|it| it.0);
    begin + words.chain(stops).min().unwrap_or(rest.len())
}

/// `the first image is better`, and nothing else.
fn strict(clause: &str) -> Option<Choice> {
    let said = clause.trim_matches(|it: char| it == ',' || MARKS.contains(&it));
    match said {
        "the first image is better" => Some(Choice::First),
        "the second image is better" => Some(Choice::Second),
        _ => None,
    }
}

/// Words that turn what a clause says, or take it back.
const DOUBTS: [&str; 22] = [
    "not", "no", "cannot", "can't", "don't", "doesn't", "isn't", "nor", "unable", "whether", "if", "worse", "worst",
    "inferior", "less", "lower", "lacks", "hardly", "sorry", "unclear", "neither", "than",
];
/// Words for a draw.
const TIES: [&str; 13] = [
    "both",
    "neither",
    "equal",
    "equally",
    "similar",
    "similarly",
    "tie",
    "tied",
    "draw",
    "comparable",
    "identical",
    "indistinguishable",
    "same",
];

/// The sentence, or a word for a draw, or exactly one side named. `original` is the clause with its capitals.
fn tolerant(clause: &str, original: &str) -> Option<Choice> {
    let words: Vec<&str> = clause
        .split(|it: char| !(it.is_alphanumeric() || it == '\''))
        .map(|it| it.trim_matches('\''))
        .filter(|it| !it.is_empty())
        .collect();
    let has = |list: &[&str]| words.iter().any(|it| list.contains(it));
    let says = |side: &str| has_run(&words, &[side, "image", "is", "better"]);
    match (says("first"), says("second")) {
        // The form of the question, given back.
        (true, true) => return None,
        (first, second) if first || second => {
            if has(&["neither"]) {
                return Some(Choice::Tie);
            }
            let doubts: Vec<&str> = DOUBTS.iter().copied().filter(|it| *it != "than").collect();
            return (!has(&doubts)).then_some(if first { Choice::First } else { Choice::Second });
        }
        _ => {}
    }
    let (first, second) = (names(&words, original, 0), names(&words, original, 1));
    // `Both are good, but the first image wins` is no draw.
    let draws = has(&TIES);
    match (first, second) {
        (true, false) if !draws && !has(&DOUBTS) => Some(Choice::First),
        (false, true) if !draws && !has(&DOUBTS) => Some(Choice::Second),
        (true, false) | (false, true) if draws && has(&["but", "however", "though", "although", "slightly"]) => None,
        _ if draws && !has(&["not", "isn't", "aren't", "never"]) => Some(Choice::Tie),
        _ => None,
    }
}

/// Whether the words name the side: `first image`, `image 1`, `image A`, or a lone `A`.
fn names(words: &[&str], original: &str, side: usize) -> bool {
    let (ordinal, short, number, numeral, letter) =
        [("first", "1st", "1", "one", "a"), ("second", "2nd", "2", "two", "b")][side];
    let things = ["image", "picture", "photo", "one", "option"];
    let by_pair = words.windows(2).any(|pair| {
        let before = (pair[0] == ordinal || pair[0] == short) && things.contains(&pair[1]);
        let after = things.contains(&pair[0]) && (pair[1] == number || pair[1] == numeral && pair[0] != "one");
        before || after
    });
    // In small letters `a` is an article.
    let capital = letter.to_ascii_uppercase();
    let capitals: Vec<&str> = original.split(|it: char| !it.is_alphanumeric()).filter(|it| !it.is_empty()).collect();
    let by_letter = capitals.windows(2).any(|pair| {
        things.contains(&pair[0].to_ascii_lowercase().as_str()) && pair[1] == capital
            || pair[0] == capital && ["is", "wins", "looks"].contains(&pair[1])
    });
    let alone = matches!(words, [word] if *word == ordinal || *word == short || *word == number)
        || matches!(words, ["the", word] if *word == ordinal || *word == short)
        || matches!(capitals.as_slice(), [word] if *word == capital);
    by_pair || by_letter || alone
}

fn has_run(words: &[&str], run: &[&str]) -> bool {
    words.windows(run.len()).any(|it| it == run)
}

/// The reason in what follows a verdict: after `The reason is`, where it says that, up to the end.
pub(super) fn reason(rest: &str) -> String {
    let lower = rest.to_ascii_lowercase();
    let leads = ["the reason is that", "the reason is:", "the reason is", "the reason:", "reason:", "because"];
    let after = leads
        .iter()
        .filter_map(|it| lower.find(it).map(|at| (at, at + it.len())))
        .min_by_key(|it| (it.0, usize::MAX - it.1));
    let said = after.map_or(rest, |it| &rest[it.1..]);
    let marks: &[char] = &['*', '_', '`', '"', '<', '>', '[', ']', '{', '}', '#', '|', '-', '\n', ' ', ':', ','];
    let said = said.trim_start_matches(['.', ';', '!', '?']).trim_matches(marks);
    let plain: Vec<&str> = said.split_whitespace().collect();
    cut(&plain.join(" "), MOST_REASON).to_owned()
}
