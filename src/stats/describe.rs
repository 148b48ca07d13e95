//! One sample of numbers: its mean, its spread, its quantiles.

use super::{Defined, Undefined};

/// The arithmetic mean.
pub fn mean(values: &[f64]) -> Defined {
    if values.is_empty() {
        return Err(Undefined::TooFew);
    }
    finite(values)?;
    let n = values.len() as f64;
    let first = values.iter().sum::<f64>() / n;
    // What the first pass lost to rounding: values far from zero keep their digits.
    Ok(first + values.iter().map(|it| it - first).sum::<f64>() / n)
}

/// The standard deviation of a sample, with n − 1 in the denominator; needs two values.
pub fn sd(values: &[f64]) -> Defined {
    if values.len() < 2 {
        return Err(Undefined::TooFew);
    }
    let mean = mean(values)?;
    let sum_of_squares: f64 = values.iter().map(|it| (it - mean).powi(2)).sum();
    Ok((sum_of_squares / (values.len() - 1) as f64).sqrt())
}

/// The `p`-quantile, 0 ≤ `p` ≤ 1, linear between the order statistics (Hyndman and Fan's type 7, numpy's default).
pub fn quantile(values: &[f64], p: f64) -> Defined {
    if values.is_empty() {
        return Err(Undefined::TooFew);
    }
    finite(values)?;
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    Ok(quantile_of_sorted(&sorted, p))
}

/// [`quantile`] of values that are finite, sorted and at least one.
pub(super) fn quantile_of_sorted(sorted: &[f64], p: f64) -> f64 {
    let place = p.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    let share = place - below as f64;
    sorted[below] + share * (sorted[above] - sorted[below])
}

/// Nothing, or [`Undefined::NotFinite`].
pub(super) fn finite(values: &[f64]) -> Defined<()> {
    if values.iter().all(|it| it.is_finite()) { Ok(()) } else { Err(Undefined::NotFinite) }
}
