//! What people and machine judges say of pictures: ratings, and choices between two.

pub mod agreement;
pub mod mapping;
pub mod rows;
pub mod table;

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::job::Hash;

/// A part of a picture, in its pixels.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Area {
    /// Left edge.
    pub x: u32,
    /// Upper edge.
    pub y: u32,
    /// Width, at least 1.
    pub width: u32,
    /// Height, at least 1.
    pub height: u32,
}

/// What kind of judge somebody is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JudgeKind {
    /// A person.
    Human,
    /// A model.
    Machine,
}

/// Who says something.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Judge {
    /// What kind of judge it is.
    pub kind: JudgeKind,
    /// A rater's id, or the name of a model with its snapshot.
    pub name: String,
    /// Of a machine: which of its prompts, or which time it was asked; empty for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

impl Judge {
    /// A person.
    pub fn human(name: impl Into<String>) -> Self {
        Self { kind: JudgeKind::Human, name: name.into(), variant: String::new() }
    }

    /// A model. What its answers depend on beside its name, such as the hash of its prompts, is its `variant`.
    pub fn machine(name: impl Into<String>, variant: impl Into<String>) -> Self {
        Self { kind: JudgeKind::Machine, name: name.into(), variant: variant.into() }
    }
}

/// The two ends of a scale, the worst and the best.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Scale {
    /// The least that can be said.
    pub low: f64,
    /// The most that can be said.
    pub high: f64,
}

/// A number that somebody gave a picture on one aspect; more is better.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Rating {
    /// The picture's key ([`crate::job::task::Picture::key`]); of a patch, of the picture that it is a part of.
    pub picture: Hash,
    /// The patch that was rated; none: all of the picture.
    pub area: Option<Area>,
    /// Such as `quality`.
    pub aspect: String,
    /// By whom.
    pub judge: Judge,
    /// The number, finite.
    pub value: f64,
    /// The scale that it is on, where that is known.
    pub scale: Option<Scale>,
    /// None for an ordinary rating. Of an attention check: whether it was passed. Checks count in no statistic.
    pub attention: Option<bool>,
}

/// What is compared.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pair {
    /// Two pictures, by their keys.
    Pictures {
        /// The one.
        first: Hash,
        /// The other.
        second: Hash,
    },
    /// Two models, by what each made of a prompt; the pictures themselves are not known.
    Models {
        /// The one.
        first: String,
        /// The other.
        second: String,
        /// The prompt's text or id.
        prompt: String,
    },
}

/// Which of a pair a judge was shown first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shown {
    /// The pair's first.
    FirstFirst,
    /// The pair's second.
    SecondFirst,
    /// Nobody noted it.
    Unknown,
}

/// Which of a pair is better: the pair's first or second, wherever it was shown.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// The pair's first.
    First,
    /// The pair's second.
    Second,
    /// Neither.
    Tie,
    /// The answer says none of these. It is never a vote, and is counted.
    Invalid,
}

/// One answer of one judge to the question which of two is better on one aspect.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Verdict {
    /// What is compared.
    pub pair: Pair,
    /// The part of both that was shown; none: all.
    pub area: Option<Area>,
    /// Such as `Visual Aesthetics`.
    pub aspect: String,
    /// By whom.
    pub judge: Judge,
    /// In which order they were shown.
    pub shown: Shown,
    /// Which is better.
    pub choice: Choice,
    /// Why, in the judge's words; empty where nothing was said.
    pub reason: String,
    /// None for an ordinary question. Of an attention check: whether it was passed. Checks count in no statistic.
    pub attention: Option<bool>,
}

impl Rating {
    /// Names what was rated, on which aspect, by whom: two of one key are the same rating given twice.
    pub fn key(&self) -> Hash {
        Hash::of_value(&("rating", &self.picture, &self.area, &self.aspect, &self.judge))
    }
}

impl Verdict {
    /// Names what was asked of whom, in which order: two of one key are the same answer given twice.
    pub fn key(&self) -> Hash {
        Hash::of_value(&("verdict", &self.pair, &self.area, &self.aspect, &self.judge, &self.shown))
    }

    /// Which was chosen by where it was shown: `Some(true)` for what was shown first. None for ties and invalid answers, and where nobody
    /// noted the order.
    pub fn chose_first_shown(&self) -> Option<bool> {
        match (self.shown, self.choice) {
            (Shown::FirstFirst, Choice::First) | (Shown::SecondFirst, Choice::Second) => Some(true),
            (Shown::FirstFirst, Choice::Second) | (Shown::SecondFirst, Choice::First) => Some(false),
            _ => None,
        }
    }
}

impl Choice {
    /// The same answer about the pair the other way round.
    pub fn turned(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
            other => other,
        }
    }
}

/// Gives an enum the words that tables and files have for it.
macro_rules! words {
    ($type:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        impl $type {
            /// Its word in tables and files.
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }
        }

        impl FromStr for $type {
            type Err = anyhow::Error;

            fn from_str(word: &str) -> anyhow::Result<Self> {
                match word {
                    $($word => Ok(Self::$variant),)+
                    other => anyhow::bail!("`{other}` is none of {}", [$($word),+].join(", ")),
                }
            }
        }
    };
}

words!(JudgeKind { Human = "human", Machine = "machine" });
words!(Shown { FirstFirst = "first_first", SecondFirst = "second_first", Unknown = "unknown" });
words!(Choice { First = "first", Second = "second", Tie = "tie", Invalid = "invalid" });

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(shown: Shown, choice: Choice) -> Verdict {
        Verdict {
            pair: Pair::Pictures { first: Hash::of(b"a"), second: Hash::of(b"b") },
            area: None,
            aspect: "Fine Details".to_owned(),
            judge: Judge::machine("judge-1", ""),
            shown,
            choice,
            reason: String::new(),
            attention: None,
        }
    }

    #[test]
    fn the_order_shown_says_what_was_chosen_by_place() {
        assert_eq!(verdict(Shown::FirstFirst, Choice::First).chose_first_shown(), Some(true));
        assert_eq!(verdict(Shown::SecondFirst, Choice::First).chose_first_shown(), Some(false));
        assert_eq!(verdict(Shown::SecondFirst, Choice::Tie).chose_first_shown(), None);
        assert_eq!(verdict(Shown::Unknown, Choice::First).chose_first_shown(), None);
    }

    #[test]
    fn another_order_is_another_question_and_another_answer_is_not() {
        let one = verdict(Shown::FirstFirst, Choice::First);
        assert_eq!(one.key(), verdict(Shown::FirstFirst, Choice::Tie).key());
        assert_ne!(one.key(), verdict(Shown::SecondFirst, Choice::First).key());
    }

    #[test]
    fn words_are_read_as_they_are_written() {
        for it in [Choice::First, Choice::Second, Choice::Tie, Choice::Invalid] {
            assert_eq!(it.word().parse::<Choice>().unwrap(), it);
            assert_eq!(serde_json::to_value(it).unwrap(), it.word());
        }
        assert!("left".parse::<Choice>().is_err());
        assert_eq!(serde_json::to_value(Shown::FirstFirst).unwrap(), Shown::FirstFirst.word());
        assert_eq!(serde_json::to_value(JudgeKind::Machine).unwrap(), JudgeKind::Machine.word());
    }
}
