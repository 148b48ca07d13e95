//! One correlation for several groups: the mean by Fisher's transformation.

use statrs::distribution::{ContinuousCDF, Normal};

use super::significance::two_sided_normal;
use super::{Defined, Interval, Undefined};

/// What the variance of arctanh r is, over 1/(n − `less`): for r of Pearson 1 and 3, and after Fieller, Hartley and
/// Pearson (1957) for Spearman's 1.06 and 3, for Kendall's 0.437 and 4.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Spread {
    /// The numerator.
    pub factor: f64,
    /// What is taken from n.
    pub less: f64,
}

impl Spread {
    /// Pearson's.
    pub const PEARSON: Self = Self { factor: 1.0, less: 3.0 };
    /// Spearman's.
    pub const SPEARMAN: Self = Self { factor: 1.06, less: 3.0 };
    /// Kendall's.
    pub const KENDALL: Self = Self { factor: 0.437, less: 4.0 };
}

/// tanh of the mean of arctanh r. Undefined where an r is exactly ±1, as of two pairs, and would drown all others.
pub fn pooled(coefficients: &[f64]) -> Defined {
    if coefficients.is_empty() {
        return Err(Undefined::TooFew);
    }
    if coefficients.iter().any(|it| !it.is_finite()) {
        return Err(Undefined::NotFinite);
    }
    // A perfect line's coefficient may lack the last digit.
    if coefficients.iter().any(|it| it.abs() > 1.0 - 1e-12) {
        return Err(Undefined::Perfect);
    }
    Ok((coefficients.iter().map(|it| it.atanh()).sum::<f64>() / coefficients.len() as f64).tanh())
}

/// The standard error of the mean of arctanh r over groups of these sizes; none where a group is too small for it.
fn standard_error(sizes: &[usize], spread: Spread) -> Defined {
    let variances = sizes.iter().map(|n| (*n as f64 - spread.less, spread.factor));
    let mut sum = 0.0;
    for (room, factor) in variances {
        if room <= 0.0 {
            return Err(Undefined::TooFew);
        }
        sum += factor / room;
    }
    if sizes.is_empty() { Err(Undefined::TooFew) } else { Ok(sum.sqrt() / sizes.len() as f64) }
}

/// The interval of a [`pooled`] coefficient by Fisher's transformation.
pub fn pooled_interval(value: f64, sizes: &[usize], spread: Spread, level: f64) -> Defined<Interval> {
    let reach = Normal::standard().inverse_cdf(0.5 + level / 2.0) * standard_error(sizes, spread)?;
    Ok(Interval { low: (value.atanh() - reach).tanh(), high: (value.atanh() + reach).tanh() })
}

/// The two-sided p-value of a [`pooled`] coefficient, by the normal distribution of the mean of arctanh r.
pub fn pooled_p(value: f64, sizes: &[usize], spread: Spread) -> Defined {
    Ok(two_sided_normal(value.atanh() / standard_error(sizes, spread)?))
}
