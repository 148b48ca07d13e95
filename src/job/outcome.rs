//! What tasks hand back, and what pools are computed from.

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
