//! Two sides compared pair by pair: mean difference, interval, tests, effect.

use rayon::prelude::*;
use serde::Serialize;

use super::bootstrap::Bootstrap;
use super::describe::{mean, sd};
use super::effect::{cohens_dz, smallest_detectable_dz};
use super::permutation::{Permuted, paired_permutation};
use super::wilcoxon::{SignedRank, signed_rank};
use super::{Defined, Interval};

/// The level of the tests that a detectable difference is about.
pub const ALPHA: f64 = 0.05;
/// The chance with which it would have been seen.
pub const POWER: f64 = 0.8;

/// What the differences of pairs say.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Pairs.
    pub n: usize,
    /// Mean of the differences.
    pub mean: Defined,
    /// Its BCa bootstrap interval over pairs, or over clusters of them the percentile one.
    pub interval: Option<Interval>,
    /// Their standard deviation.
    pub sd: Defined,
    /// Wilcoxon's signed rank test.
    pub wilcoxon: Defined<SignedRank>,
    /// The paired permutation test of the mean.
    pub permutation: Defined<Permuted>,
    /// Cohen's d of paired differences.
    pub cohens_dz: Defined,
    /// The matched rank-biserial correlation.
    pub rank_biserial: Defined,
    /// The smallest mean difference that so many pairs show with a chance of 0.8 at level 0.05.
    pub smallest_detectable: Defined,
}

/// The differences of two sides, one a pair.
#[derive(Clone, Debug, Default)]
pub struct Pairs {
    /// One a pair.
    pub differences: Vec<f64>,
    /// Lists of pairs that belong together, such as the seeds of one prompt.
    pub clusters: Vec<Vec<usize>>,
}

impl Pairs {
    fn is_clustered(&self) -> bool {
        self.clusters.iter().any(|it| it.len() > 1)
    }
}

/// Compares by `differences`, one a pair. `clusters` are lists of pairs that belong together, such as the seeds of one
/// prompt: where one has several, intervals draw clusters whole and the tests are of the clusters' means.
pub fn compare(differences: &[f64], clusters: &[Vec<usize>], bootstrap: &Bootstrap) -> Comparison {
    let pairs = Pairs { differences: differences.to_vec(), clusters: clusters.to_vec() };
    let interval = if pairs.is_clustered() { None } else { bootstrap.bca_of_mean(differences) };
    with_interval(&pairs, interval, bootstrap)
}

/// [`compare`] of each, to the bit, in less time: what has no clusters shares its draws.
pub fn compare_all(all: &[&Pairs], bootstrap: &Bootstrap) -> Vec<Comparison> {
    let lone: Vec<&[f64]> = all.iter().filter(|it| !it.is_clustered()).map(|it| it.differences.as_slice()).collect();
    let mut intervals = bootstrap.bca_of_means(&lone).into_iter();
    let with: Vec<(&Pairs, Option<Interval>)> =
        all.iter().map(|it| (*it, if it.is_clustered() { None } else { intervals.next().flatten() })).collect();
    with.into_par_iter().map(|(pairs, interval)| with_interval(pairs, interval, bootstrap)).collect()
}

/// `interval` is that of pairs without clusters.
fn with_interval(pairs: &Pairs, interval: Option<Interval>, bootstrap: &Bootstrap) -> Comparison {
    let Pairs { differences, clusters } = pairs;
    let is_clustered = pairs.is_clustered();
    let of_clusters: Vec<f64> = clusters
        .iter()
        .filter(|it| !it.is_empty())
        .map(|it| it.iter().map(|pair| differences[*pair]).sum::<f64>() / it.len() as f64)
        .collect();
    let units = if is_clustered { &of_clusters } else { differences };
    let mean_of =
        |drawn: &[usize]| Some(drawn.iter().map(|it| differences[*it]).sum::<f64>() / drawn.len().max(1) as f64);
    let interval = if is_clustered { bootstrap.clustered(clusters, mean_of) } else { interval };
    let wilcoxon = signed_rank(units);
    let spread = sd(units);
    Comparison {
        n: differences.len(),
        mean: mean(differences),
        interval,
        sd: sd(differences),
        rank_biserial: wilcoxon.as_ref().map(SignedRank::rank_biserial).map_err(|why| *why),
        wilcoxon,
        permutation: paired_permutation(units, bootstrap.n_resamples, bootstrap.seed),
        cohens_dz: cohens_dz(units),
        smallest_detectable: spread.and_then(|spread| Ok(spread * smallest_detectable_dz(units.len(), ALPHA, POWER)?)),
    }
}
