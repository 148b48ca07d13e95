//! How surprising a correlation would be if there were none: two-sided p-values, as scipy computes them.

use std::cmp::Ordering;

use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

use super::{Defined, Undefined};

/// Up to so many pairs without ties, Kendall's p-value is exact.
const MOST_EXACT: usize = 33;

/// The p-value of Pearson's `r` over `n` independent pairs of normal variables, by Student's distribution with n − 2
/// degrees of freedom. Two pairs always lie on a line: their p-value is 1.
pub fn pearson_p(r: f64, n: usize) -> Defined {
    match n {
        ..2 => Err(Undefined::TooFew),
        2 => Ok(1.0),
        _ => Ok(student(r, n)),
    }
}

/// The p-value of Spearman's ρ over `n` pairs, by the same distribution; needs three pairs.
pub fn spearman_p(rho: f64, n: usize) -> Defined {
    if n < 3 { Err(Undefined::TooFew) } else { Ok(student(rho, n)) }
}

fn student(r: f64, n: usize) -> f64 {
    let degrees = (n - 2) as f64;
    if r.abs() >= 1.0 {
        return 0.0;
    }
    let t = r * (degrees / ((1.0 - r) * (1.0 + r))).sqrt();
    two_sided_student(t, degrees)
}

/// The share of Student's distribution that lies at least as far out as `t`.
pub(super) fn two_sided_student(t: f64, degrees: f64) -> f64 {
    let student = StudentsT::new(0.0, 1.0, degrees).expect("degrees of freedom are positive");
    (2.0 * student.sf(t.abs())).min(1.0)
}

/// The share of the normal distribution that lies at least as far out as `z`.
pub(super) fn two_sided_normal(z: f64) -> f64 {
    (2.0 * Normal::standard().sf(z.abs())).min(1.0)
}

/// The p-value of Kendall's τ-b of two columns: exact for up to 33 pairs without ties, and where at most one pair is out
/// of order; else by the normal approximation with its correction for ties.
pub fn kendall_p(x: &[f64], y: &[f64]) -> Defined {
    assert_eq!(x.len(), y.len(), "a correlation is of pairs");
    let n = x.len();
    if n < 2 {
        return Err(Undefined::TooFew);
    }
    super::describe::finite(x)?;
    super::describe::finite(y)?;
    let (x_ties, y_ties) = (Ties::of(x), Ties::of(y));
    let n_pairs = n * (n - 1) / 2;
    if x_ties.pairs == n_pairs as f64 || y_ties.pairs == n_pairs as f64 {
        return Err(Undefined::Constant);
    }
    let tau = super::correlation::kendall(x, y)?;
    let span = ((n_pairs as f64 - x_ties.pairs) * (n_pairs as f64 - y_ties.pairs)).sqrt();
    let concordant_less_discordant = (tau * span).round();
    if x_ties.pairs == 0.0 && y_ties.pairs == 0.0 {
        let n_discordant = ((n_pairs as f64 - concordant_less_discordant) / 2.0).round() as usize;
        let fewer = n_discordant.min(n_pairs - n_discordant);
        if n <= MOST_EXACT || fewer <= 1 {
            return Ok(exact_kendall(n, fewer));
        }
    }
    let m = (n * (n - 1)) as f64;
    let n = n as f64;
    let mut variance = (m * (2.0 * n + 5.0) - x_ties.twos - y_ties.twos) / 18.0 + 2.0 * x_ties.pairs * y_ties.pairs / m;
    if n > 2.0 {
        variance += x_ties.threes * y_ties.threes / (9.0 * m * (n - 2.0));
    }
    Ok(two_sided_normal(concordant_less_discordant / variance.sqrt()))
}

/// Sums over the runs of t equal values.
struct Ties {
    /// t(t − 1)/2.
    pairs: f64,
    /// t(t − 1)(t − 2).
    threes: f64,
    /// t(t − 1)(2t + 5).
    twos: f64,
}

impl Ties {
    fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(|a, b| a.partial_cmp(b).unwrap_or(Ordering::Equal));
        let mut ties = Self { pairs: 0.0, threes: 0.0, twos: 0.0 };
        for run in sorted.chunk_by(|a, b| a == b) {
            let t = run.len() as f64;
            ties.pairs += t * (t - 1.0) / 2.0;
            ties.threes += t * (t - 1.0) * (t - 2.0);
            ties.twos += t * (t - 1.0) * (2.0 * t + 5.0);
        }
        ties
    }
}

/// Twice the share of the orders of `n` things that have at most `most` pairs the wrong way round.
fn exact_kendall(n: usize, most: usize) -> f64 {
    // The share of orders of k things with c such pairs: the k-th takes any of k places, each with its own number of them.
    let mut shares = vec![0.0; most + 1];
    shares[0] = 1.0;
    for k in 2..=n {
        let before = shares.clone();
        for (c, share) in shares.iter_mut().enumerate() {
            *share = before[c.saturating_sub(k - 1)..=c].iter().sum::<f64>() / k as f64;
        }
    }
    (2.0 * shares.iter().sum::<f64>()).min(1.0)
}
