//! The tasks that ask a machine: which of two pictures is better, and what a picture shows.

use serde::{Deserialize, Serialize};

use super::Picture;
use crate::job::Hash;

/// What two pictures are compared on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aspect {
    /// Which is of higher quality and more pleasing.
    VisualAesthetics,
    /// Which shows what the prompt says.
    PromptAdherence,
    /// Which has the finer and truer details.
    FineDetails,
}

impl Aspect {
    /// Every aspect, in the order in which they are asked for.
    pub const ALL: [Self; 3] = [Self::VisualAesthetics, Self::PromptAdherence, Self::FineDetails];

    /// The word that sweeps use.
    pub fn word(self) -> &'static str {
        match self {
            Self::VisualAesthetics => "visual_aesthetics",
            Self::PromptAdherence => "prompt_adherence",
            Self::FineDetails => "fine_details",
        }
    }

    /// What the question, its answer and the tables call it.
    pub fn title(self) -> &'static str {
        match self {
            Self::VisualAesthetics => "Visual Aesthetics",
            Self::PromptAdherence => "Prompt Adherence",
            Self::FineDetails => "Fine Details",
        }
    }
}

/// How a machine is asked: all of it may change what it answers.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manner {
    /// The model, as its endpoint calls it.
    pub model: String,
    /// The endpoint, where the sweep insists on one; else that of whichever worker asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The longest side of a picture that is sent, in pixels; larger ones are made smaller.
    pub side: u32,
    /// The most tokens of an answer.
    pub max_tokens: u32,
    /// The endpoint's own where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
}

/// A text that is known, or that the job of this key writes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Words {
    /// The text.
    Text(String),
    /// The key of a job that captions a picture.
    Caption(Hash),
}

/// A part of a picture, in its pixels, sent in the picture's place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crop {
    /// Left edge.
    pub x: u32,
    /// Upper edge.
    pub y: u32,
    /// Width.
    pub width: u32,
    /// Height.
    pub height: u32,
}

/// Asks which of two pictures is better, in one order.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Judge {
    /// One of the pair: the one whose key is less, so that a pair is the same whichever way a sweep names it.
    pub first: Picture,
    /// The other.
    pub second: Picture,
    /// Whether the second is shown first.
    pub turned: bool,
    /// What both ought to show; none where nobody says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub words: Option<Words>,
    /// What is compared, in the order of [`Aspect::ALL`].
    pub aspects: Vec<Aspect>,
    /// The hash of the question's text without the prompt: another text is another question.
    pub question: Hash,
    /// The same part of both is shown, and not the whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crop: Option<Crop>,
    /// How it is asked.
    pub manner: Manner,
}

/// Asks what a picture shows.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Caption {
    /// The picture.
    pub picture: Picture,
    /// What is asked.
    pub question: String,
    /// How it is asked.
    pub manner: Manner,
}

impl Judge {
    /// What the tables call an aspect: verdicts on parts stand apart from those on whole pictures.
    pub fn title(&self, aspect: Aspect) -> String {
        match self.crop {
            Some(_) => format!("{} (crops)", aspect.title()),
            None => aspect.title().to_owned(),
        }
    }

    /// The pictures in the order in which they are shown.
    pub fn shown(&self) -> [&Picture; 2] {
        if self.turned { [&self.second, &self.first] } else { [&self.first, &self.second] }
    }
}
