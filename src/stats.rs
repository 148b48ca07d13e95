//! What numbers say together: means, correlations and intervals, as pure functions over slices.

pub mod agreement;
pub mod bootstrap;
pub mod bradley_terry;
pub mod columns;
pub mod correlation;
pub mod coverage;
pub mod crossed;
pub mod dependent;
pub mod describe;
pub mod effect;
pub mod family;
pub mod logistic;
pub mod paired;
pub mod permutation;
pub mod pooled;
pub mod preference;
pub mod screening;
pub mod significance;
mod solve;
pub mod study;
pub mod wilcoxon;

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
    /// The fit found no best parameters.
    #[error("the fit does not converge")]
    NotConverged,
    /// A coefficient is exactly 1 or −1, where its transformation is infinite.
    #[error("a coefficient is exactly ±1")]
    Perfect,
    /// Some side always wins, or was never compared with the others: its strength has no finite estimate.
    #[error("some side always wins or loses, or was never compared with the others")]
    Separated,
    /// Units have unequal numbers of ratings, and the statistic needs as many of each.
    #[error("units have unequal numbers of ratings")]
    Uneven,
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
