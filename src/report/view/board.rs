//! Who stands against whom: models with their standings by metric.

use serde::Serialize;

use super::SetCell;
use crate::stats::{Interval, Undefined};

/// A model under one setting: sources that differ in the seed alone are one entrant.
#[derive(Clone, Debug, Serialize)]
pub struct Entrant {
    /// The sources' name, less the seed.
    pub name: String,
    /// The model that its pictures are by, or stand for; none for pictures that nobody made, which are not ranked.
    pub model: Option<String>,
    /// The size of its pictures, where all have one.
    pub size: Option<(u32, u32)>,
    /// Indices into [`super::Report::sources`].
    pub sources: Vec<usize>,
    /// Whose colour it has.
    pub family: usize,
    /// How many images it has.
    pub n_images: usize,
    /// One for each of [`super::Report::metrics`].
    pub standings: Vec<Standing>,
    /// One for each of [`super::Report::set_scores`]: that of its source, or the mean where it has several.
    pub set: Vec<Option<SetCell>>,
    /// The mean of its ranks by the main metrics; ties share their mean rank.
    pub mean_rank: Option<f64>,
}

/// One entrant by one metric.
#[derive(Clone, Debug, Serialize)]
pub struct Standing {
    /// How many samples have a value; images of one sample from several seeds count as their mean.
    pub n: usize,
    /// The mean over samples.
    pub mean: Result<f64, Undefined>,
    /// Its interval, BCa bootstrap over samples.
    pub interval: Option<Interval>,
    /// 1 for the best and for all that cannot be told apart from it, 2 for the best of the others, and so on.
    pub tier: Option<usize>,
}

/// The best by one metric, and the best of the others.
#[derive(Clone, Debug, Serialize)]
pub struct Lead {
    /// Index into [`super::Report::metrics`].
    pub metric: usize,
    /// The best mean: index into [`super::Report::entrants`].
    pub first: usize,
    /// The second best.
    pub second: usize,
    /// First less second, over the samples that both have.
    pub difference: Option<f64>,
    /// Its interval at the level that tiers use, percentile bootstrap over pairs.
    pub interval: Option<Interval>,
    /// How many samples both have.
    pub n: usize,
    /// How many entrants are in the first tier.
    pub n_tied: usize,
}
