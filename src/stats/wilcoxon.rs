//! Wilcoxon's signed rank test of paired differences, as scipy does it.

use super::correlation::ranks;
use super::describe::finite;
use super::significance::two_sided_normal;
use super::{Defined, Undefined};

/// Up to so many differences, none tied and none zero, the p-value is exact.
const MOST_EXACT: usize = 50;
/// Up to so many it is exact with ties and zeros as well.
const MOST_EXACT_WITH_TIES: usize = 13;

/// The test's result.
#[derive(Clone, Copy, PartialEq, Debug, serde::Serialize)]
pub struct SignedRank {
    /// The sum of the ranks of positive differences.
    pub positive: f64,
    /// The sum of the ranks of negative ones.
    pub negative: f64,
    /// Differences that are not zero.
    pub n: usize,
    /// Two-sided.
    pub p: f64,
    /// Whether the p-value is exact; else it is the normal approximation with its correction for ties and none for continuity.
    pub exact: bool,
}

impl SignedRank {
    /// The matched rank-biserial correlation (Kerby 2014): from −1, all differences negative, to 1, all positive.
    pub fn rank_biserial(&self) -> f64 {
        (self.positive - self.negative) / (self.positive + self.negative)
    }
}

/// The two-sided test that `differences` lie evenly about zero. Zeros are left out (Wilcoxon's own way).
pub fn signed_rank(differences: &[f64]) -> Defined<SignedRank> {
    finite(differences)?;
    let kept: Vec<f64> = differences.iter().copied().filter(|it| *it != 0.0).collect();
    if differences.is_empty() {
        return Err(Undefined::TooFew);
    }
    if kept.is_empty() {
        return Err(Undefined::Constant);
    }
    let sizes: Vec<f64> = kept.iter().map(|it| it.abs()).collect();
    let ranks = ranks(&sizes);
    let positive: f64 = kept.iter().zip(&ranks).filter(|it| *it.0 > 0.0).map(|it| it.1).sum();
    let n = kept.len();
    let negative = (n * (n + 1)) as f64 / 2.0 - positive;
    let mut sorted = sizes;
    sorted.sort_by(f64::total_cmp);
    let runs: Vec<f64> = sorted.chunk_by(|a, b| a == b).map(|it| it.len() as f64).collect();
    let has_ties = runs.len() < n || n < differences.len();
    let exact = differences.len() <= if has_ties { MOST_EXACT_WITH_TIES } else { MOST_EXACT };
    let p = if exact {
        exact_p(&ranks, positive.min(negative))
    } else {
        let n = n as f64;
        let correction: f64 = runs.iter().map(|t| t.powi(3) - t).sum();
        let variance = (n * (n + 1.0) * (2.0 * n + 1.0) - correction / 2.0) / 24.0;
        two_sided_normal((positive - n * (n + 1.0) / 4.0) / variance.sqrt())
    };
    Ok(SignedRank { positive, negative, n, p, exact })
}

/// Twice the share of all signs that give at most so small a sum of ranks.
fn exact_p(ranks: &[f64], smaller: f64) -> f64 {
    // Mean ranks are halves: doubled, they are whole.
    let doubled: Vec<usize> = ranks.iter().map(|it| (2.0 * it).round() as usize).collect();
    let mut shares = vec![0.0; doubled.iter().sum::<usize>() + 1];
    shares[0] = 1.0;
    let mut most = 0;
    for rank in doubled {
        most += rank;
        for sum in (0..=most).rev() {
            let with = if sum >= rank { shares[sum - rank] } else { 0.0 };
            shares[sum] = (shares[sum] + with) / 2.0;
        }
    }
    let up_to = (2.0 * smaller).round() as usize;
    (2.0 * shares[..=up_to].iter().sum::<f64>()).min(1.0)
}
