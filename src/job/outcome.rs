//! What tasks hand back, what pools are computed from, and why attempts end without a result.

use serde::{Deserialize, Serialize};

use super::Hash;
use super::task::MetricId;

/// A picture as it was made.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Made {
    /// The hash of its RGB bytes.
    pub pixels: Hash,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
}

/// A score as it was computed.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Scored {
    /// Which metric.
    pub metric: MetricId,
    /// Whether it compared the image with the reference.
    pub with_reference: bool,
    /// The value, or none where it is undefined.
    pub value: Option<f64>,
    /// Why it is undefined.
    pub why: Option<String>,
    /// What a reader of the value should know.
    pub note: Option<String>,
}

/// A set score as it was computed.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SetScored {
    /// Which metric.
    pub metric: MetricId,
    /// The value, or none where it is undefined.
    pub value: Option<f64>,
    /// Why it is undefined.
    pub why: Option<String>,
    /// How many images it was computed over.
    pub n: u32,
}

/// A picture's size and one of its scores, as a pool takes them.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PoolInput {
    /// Which metric.
    pub metric: MetricId,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// The picture's score.
    pub value: f64,
}

/// Why an attempt ended without a result.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Cause {
    /// The task's fault, as it says itself: trying again cannot help.
    Task,
    /// The machine's fault, as the task says.
    Machine,
    /// Memory ran out, the machine's or the GPU's.
    Memory,
    /// A signal killed its process.
    Signal,
    /// Its process ended by itself.
    Exit,
    /// Its process said something that is not understood, or stopped listening or talking.
    Pipe,
    /// It took longer than it may.
    Deadline,
    /// Its worker died or fell silent.
    Lost,
    /// It was told to end.
    Order,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 9] = [
        Self::Task,
        Self::Machine,
        Self::Memory,
        Self::Signal,
        Self::Exit,
        Self::Pipe,
        Self::Deadline,
        Self::Lost,
        Self::Order,
    ];

    /// The word that the database and the command line use.
    pub fn word(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Machine => "machine",
            Self::Memory => "memory",
            Self::Signal => "signal",
            Self::Exit => "exit",
            Self::Pipe => "pipe",
            Self::Deadline => "deadline",
            Self::Lost => "lost",
            Self::Order => "order",
        }
    }

    /// Whether the task could not say itself what happened: then its last words are worth keeping.
    pub fn is_death(self) -> bool {
        !matches!(self, Self::Task | Self::Machine | Self::Order)
    }
}
