//! What numbers say together: means, correlations and intervals, as pure functions over slices.

pub mod bootstrap;
pub mod correlation;
pub mod describe;

use serde::{Deserialize, Serialize};

/// Why a statistic has no value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Undefined {
    /// There are fewer values than the statistic needs.
    #[error("too few values")]
    TooFew,
    /// One side does not vary, so that nothing can vary with it.
    #[error("all values are equal")]
    Constant,
    /// Infinite or not a number.
    #[error("a value is not finite")]
    NotFinite,
}

/// A statistic, or why there is none.
pub type Defined<T = f64> = Result<T, Undefined>;

/// From `low` to `high`, both included.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Interval {
    /// Whether `value` lies in it.
    pub fn holds(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }
}
