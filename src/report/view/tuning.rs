//! What training came to, over seeds and held-out pictures.

use std::path::PathBuf;

use serde::Serialize;

use crate::stats::Defined;
use crate::stats::crossed::Crossed;

/// What training came to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Tuning {
    /// Held-out losses compared, every setting with what it was before and with the others.
    pub differences: Vec<LossDifference>,
    /// The same in words, one sentence for each.
    pub sentences: Vec<String>,
    /// What the models make beside what was held out.
    pub samples: Vec<Beside>,
    /// What was made on the way.
    pub strips: Vec<Strip>,
}

/// The pictures of one prompt that a model has made on the way.
#[derive(Clone, Debug, Serialize)]
pub struct Strip {
    /// What the sweep calls the model.
    pub model: String,
    /// The prompt.
    pub prompt: String,
    /// After how many steps, and where the picture's file is.
    pub frames: Vec<(u64, PathBuf)>,
}

impl Tuning {
    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.differences.is_empty() && self.samples.is_empty() && self.strips.is_empty()
    }
}

/// The held-out losses of two settings, paired by seed and picture.
#[derive(Clone, Debug, Serialize)]
pub struct LossDifference {
    /// A setting: a model's name without its seed.
    pub first: String,
    /// Another one; none is the first one's models before training.
    pub second: Option<String>,
    /// Training seeds that both have.
    pub n_seeds: usize,
    /// Held-out pictures.
    pub n_pictures: usize,
    /// The mean loss of the first.
    pub first_mean: f64,
    /// The mean loss of the second.
    pub second_mean: f64,
    /// The first less the second.
    pub difference: Defined<Crossed>,
    /// The p-value after Holm's adjustment over all comparisons that are shown.
    pub p_holm: Option<f64>,
}

/// The pictures of a setting beside those that were held out, by one metric.
#[derive(Clone, Debug, Serialize)]
pub struct Beside {
    /// A setting, or what training started from.
    pub model: String,
    /// The source of what was held out.
    pub held_out: String,
    /// Index into [`Report::metrics`](super::Report::metrics).
    pub metric: usize,
    /// How many pictures of the model have a score, over all seeds.
    pub n: usize,
    /// How many of those that were held out.
    pub n_held_out: usize,
    /// The mean of the model's pictures.
    pub mean: f64,
    /// The mean of those that were held out.
    pub held_out_mean: f64,
    /// The model's mean less that of what was held out.
    pub distance: f64,
}
