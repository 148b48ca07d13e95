//! From a judge's answer to its choices: strictly in the form that was asked for, or tolerantly.

mod clause;
mod headers;

use serde::{Deserialize, Serialize};

use super::text::plain;
use crate::job::task::asking::Aspect;

/// Which of two pictures a judge prefers, in the order in which they were shown.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// The first.
    First,
    /// The second.
    Second,
    /// Neither, or both.
    Tie,
    /// The answer does not say, or it says both: never a vote.
    Invalid,
}

impl Choice {
    /// The word that tables use.
    pub fn word(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Second => "second",
            Self::Tie => "tie",
            Self::Invalid => "invalid",
        }
    }
}

/// What an answer says on one aspect.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Verdict {
    /// On which.
    pub aspect: Aspect,
    /// The choice.
    pub choice: Choice,
    /// Why, in the judge's words; empty where it does not say.
    pub reason: String,
}

/// How much of the form an answer must have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reading {
    /// The form that was asked for, up to the case of letters, blanks, markdown and brackets.
    Strict,
    /// Whatever says clearly which side is meant.
    Tolerant,
}

/// The most bytes of a reason.
const MOST_REASON: usize = 4 << 10;

/// One verdict for each of the aspects, in their order. What is not said is invalid.
pub fn verdicts(text: &str, aspects: &[Aspect], reading: Reading) -> Vec<Verdict> {
    let text = plain(text);
    let segments = headers::segments(&text, aspects, reading);
    let verdict = |aspect: &Aspect| {
        let of_aspect: Vec<&str> = segments.iter().filter(|it| it.0 == *aspect).map(|it| it.1).collect();
        let read = |it: &&str| clause::read(it, reading).filter(|it| it.0 != Choice::Invalid);
        let mut said = of_aspect.iter().filter_map(|it| Some((read(it)?, *it)));
        let Some(((choice, rest), segment)) = said.next() else {
            return Verdict { aspect: *aspect, choice: Choice::Invalid, reason: String::new() };
        };
        // Whoever says both things has said neither.
        if said.any(|it| it.0.0 != choice) {
            return Verdict { aspect: *aspect, choice: Choice::Invalid, reason: String::new() };
        }
        Verdict { aspect: *aspect, choice, reason: clause::reason(&segment[rest..]) }
    };
    aspects.iter().map(verdict).collect()
}
