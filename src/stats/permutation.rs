//! The paired permutation test: whether differences that could as well have the other sign have a mean this far from zero.

use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;

use super::describe::finite;
use super::{Defined, Undefined};

/// Up to so many differences, all 2^n signs are tried.
const MOST_EXACT: usize = 20;
/// So many draws are made by one thread at a time.
const PIECE: usize = 256;

/// The test's result.
#[derive(Clone, Copy, PartialEq, Debug, serde::Serialize)]
pub struct Permuted {
    /// Two-sided.
    pub p: f64,
    /// Whether all signs were tried; else the p-value is (1 + n) / (1 + N) of those that were drawn.
    pub exact: bool,
}

/// The two-sided test of the mean of `differences`: exact for up to 20, else over `n_draws` random signs.
pub fn paired_permutation(differences: &[f64], n_draws: usize, seed: u64) -> Defined<Permuted> {
    finite(differences)?;
    if differences.is_empty() {
        return Err(Undefined::TooFew);
    }
    let sizes: Vec<f64> = differences.iter().map(|it| it.abs()).filter(|it| *it > 0.0).collect();
    let seen = differences.iter().sum::<f64>().abs();
    // Sums in another order differ in their last digits: what ties with the seen sum counts.
    let threshold = seen - 1e-12 * sizes.iter().sum::<f64>();
    if sizes.len() <= MOST_EXACT {
        return Ok(Permuted { p: share_of_all(&sizes, threshold), exact: true });
    }
    let n_words = sizes.len().div_ceil(64);
    let start = Pcg64::seed_from_u64(seed);
    let n_as_far: usize = (0..n_draws.div_ceil(PIECE))
        .into_par_iter()
        .map(|piece| {
            let draws = piece * PIECE..((piece + 1) * PIECE).min(n_draws);
            let mut rng = start.clone();
            rng.advance((draws.start * n_words) as u128);
            draws.filter(|_| random_sum(&sizes, &mut rng).abs() >= threshold).count()
        })
        .sum();
    Ok(Permuted { p: (1 + n_as_far) as f64 / (1 + n_draws) as f64, exact: false })
}

/// The share of all choices of signs whose sum is at least so far from zero.
fn share_of_all(sizes: &[f64], threshold: f64) -> f64 {
    let n_signs = 1_u32 << sizes.len();
    let sum_of = |signs: u32| -> f64 {
        sizes.iter().enumerate().map(|(idx, it)| if signs >> idx & 1 == 1 { -it } else { *it }).sum()
    };
    let n_as_far = (0..n_signs).into_par_iter().filter(|it| sum_of(*it).abs() >= threshold).count();
    n_as_far as f64 / f64::from(n_signs)
}

fn random_sum(sizes: &[f64], rng: &mut Pcg64) -> f64 {
    let mut sum = 0.0;
    for sizes in sizes.chunks(64) {
        let signs = rng.next_u64();
        for (idx, it) in sizes.iter().enumerate() {
            sum += if signs >> idx & 1 == 1 { -it } else { *it };
        }
    }
    sum
}
