//! Whether two correlations with one and the same column differ.

use statrs::distribution::{ContinuousCDF, Normal};

use super::bootstrap::Bootstrap;
use super::significance::two_sided_normal;
use super::{Defined, Interval, Undefined};

/// A difference between two correlations on Fisher's scale, and its test.
#[derive(Clone, Copy, PartialEq, Debug, serde::Serialize)]
pub struct Difference {
    /// arctanh of the first less arctanh of the second.
    pub difference: f64,
    /// Its interval.
    pub interval: Interval,
    /// Over its standard error.
    pub z: f64,
    /// Two-sided.
    pub p: f64,
}

/// The test of Meng, Rosenthal and Rubin (1992) for the correlations `first` and `second` of two columns with a third
/// one, where the two go together as `between`, over `n` rows; needs four.
pub fn meng_rosenthal_rubin(first: f64, second: f64, between: f64, n: usize, level: f64) -> Defined<Difference> {
    if n < 4 {
        return Err(Undefined::TooFew);
    }
    if [first, second, between].iter().any(|it| !it.is_finite()) {
        return Err(Undefined::NotFinite);
    }
    if first.abs() >= 1.0 || second.abs() >= 1.0 || between >= 1.0 {
        return Err(Undefined::Perfect);
    }
    let mean_square = (first * first + second * second) / 2.0;
    let f = ((1.0 - between) / (2.0 * (1.0 - mean_square))).min(1.0);
    let h = (1.0 - f * mean_square) / (1.0 - mean_square);
    let difference = first.atanh() - second.atanh();
    let error = (2.0 * (1.0 - between) * h / (n as f64 - 3.0)).sqrt();
    let reach = Normal::standard().inverse_cdf(0.5 + level / 2.0) * error;
    let z = difference / error;
    let interval = Interval { low: difference - reach, high: difference + reach };
    Ok(Difference { difference, interval, z, p: two_sided_normal(z) })
}

/// The interval of a difference of two statistics of the same resamples, and how often its sign turns: the two-sided
/// p-value of a paired bootstrap, (1 + n) / (1 + N) on the rarer side, twice. None where half has no value.
pub fn bootstrap_difference(bootstrap: &Bootstrap, replicates: Vec<Option<f64>>) -> Option<(Interval, f64)> {
    let defined: Vec<f64> = replicates.iter().flatten().copied().filter(|it| it.is_finite()).collect();
    let share = |n: usize| (1 + n) as f64 / (1 + defined.len()) as f64;
    let n_below = defined.iter().filter(|it| **it <= 0.0).count();
    let n_above = defined.iter().filter(|it| **it >= 0.0).count();
    let p = (2.0 * share(n_below.min(n_above))).min(1.0);
    Some((bootstrap.between_quantiles(replicates)?, p))
}
