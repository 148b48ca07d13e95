//! The tasks of fine-tuning: pictures cut and taken to latents, and a model trained on them.

use serde::{Deserialize, Serialize};

use super::making::{Part, Precision};
use super::training::{AdamW, Cut, Density, Home, Keep, Loss, Rate, Recompute, Rhythm, Weighting};
use crate::job::Hash;
use crate::job::task::MetricId;

/// Cuts pictures into squares for training and, where an autoencoder is named, takes the squares to its latents.
/// A picture that cannot be decoded is left out and named in what is made.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prepare {
    /// The autoencoder: a package's [`Part::Vae`] by the hash of its files, or the key of the job that trains it. None
    /// keeps the pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Hash>,
    /// The hashes of the pictures' files.
    pub pictures: Vec<Hash>,
    /// How a picture becomes a square.
    pub cut: Cut,
    /// How many squares of each picture.
    pub views: u32,
    /// Which latent stands for a square.
    pub latent: Drawn,
    /// All chance comes from it.
    pub seed: u64,
    /// What it is computed in.
    pub dtype: Precision,
    /// What a picture must be like to be learnt from; another one is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curation: Vec<Bound>,
    /// Widths and heights: a picture is cut to the one that is most like it, instead of a square; none means squares.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub buckets: Vec<(u32, u32)>,
}

/// What pictures must be like: the mean of a metric over a picture's squares lies within these ends.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bound {
    /// The metric, of a square.
    pub metric: MetricId,
    /// The network that it looks through, by the hash of its files; none for a metric that needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Hash>,
    /// The least that it may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The most that it may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

/// How the reason begins for which a picture is left out that could be decoded.
pub const CURATED: &str = "curated: ";

/// Which latent stands for a square.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Drawn {
    /// A draw from the posterior, another one for each view: what the released scripts do.
    #[default]
    Sample,
    /// The mean of the posterior.
    Mean,
}

/// Trains a part of a model.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finetune {
    /// The part as it is before: by the hash of its files, or the key of the job that trained it.
    pub model: Hash,
    /// What is learnt from.
    pub data: Shown,
    /// What is looked at and not learnt from.
    pub held_out: Shown,
    /// What is made smaller, which says which part is trained.
    pub objective: Objective,
    /// Adapters instead of all weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora: Option<Lora>,
    /// How many steps.
    pub steps: u32,
    /// Images of one batch.
    pub batch: u32,
    /// Batches of one step.
    pub accumulate: u32,
    /// The learning rate.
    pub rate: Rate,
    /// The optimiser.
    pub adamw: AdamW,
    /// The longest that all gradients together may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip: Option<f64>,
    /// How much of the running mean of the weights is kept a step. Where there is one, it is what is looked at, what
    /// pictures on the way are made of, and what comes out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema: Option<f64>,
    /// Order, noise and noise levels follow from it.
    pub seed: u64,
    /// When it saves and looks.
    pub rhythm: Rhythm,
    /// How many checkpoints stay.
    pub keep_last: u32,
    /// What the backward pass computes again.
    pub recompute: Recompute,
    /// Where the optimiser's states are.
    pub home: Home,
    /// What the model computes in, and is stored as.
    pub dtype: Precision,
    /// Pictures that show on the way how far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<Samples>,
}

/// Pictures that are made on the way, of the weights that would come out then: before the first step, every so many steps,
/// and after the last.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Samples {
    /// Every so many steps.
    pub every: u32,
    /// What they show.
    pub texts: Vec<Text>,
    /// The key of the job that encodes the negative prompt; none without guidance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub negative: Option<Hash>,
    /// The autoencoder: a package's part by the hash of its files, or the key of the job that trains it.
    pub vae: Hash,
    /// Pixels a side.
    pub side: u32,
    /// Steps of the schedule.
    pub steps: u32,
    /// Classifier-free guidance.
    pub guidance: f64,
    /// Seed of the noise, the same each time. The run's own random numbers do not depend on it.
    pub seed: u64,
}

/// A prompt, and the key of the job that encodes it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Text {
    /// The prompt.
    pub prompt: String,
    /// The job's key.
    pub key: Hash,
}

impl Samples {
    /// Whether pictures are made after this one of `n_steps`.
    pub fn is_due(&self, step: u64, n_steps: u64) -> bool {
        step == n_steps || step.is_multiple_of(self.every.max(1).into())
    }

    /// After which of `n_steps` steps pictures are made.
    pub fn due(&self, n_steps: u64) -> impl Iterator<Item = u64> {
        (0..n_steps).step_by(self.every.max(1) as usize).chain([n_steps])
    }

    /// Every file that they need: encoded texts, by the keys of their jobs.
    pub fn encoded(&self) -> impl Iterator<Item = Hash> {
        self.texts.iter().map(|it| it.key).chain(self.negative)
    }
}

/// Under which key the picture of the `idx`th text after `step` steps stands beside what the job of this key makes.
pub fn sample_key(job: &Hash, step: u64, idx: usize) -> Hash {
    Hash::of_value(&("sample", job, step, idx))
}

impl Finetune {
    /// Which part of the model is trained.
    pub fn part(&self) -> Part {
        self.objective.part()
    }

    /// The task without what only steers watching and saving: two runs of one essence end with the same weights, so it is
    /// what keys and checkpoints speak of. Which weights are the best depends on when they were looked at.
    pub fn essence(&self) -> Self {
        let usual = Rhythm::default();
        let mut it = self.clone();
        it.rhythm.save_every = usual.save_every;
        if it.rhythm.keep == Keep::Last {
            it.rhythm.look_every = usual.look_every;
        }
        it.keep_last = USUALLY_KEPT;
        it.samples = None;
        it
    }
}

/// The curve of a held-out picture's loss: this, and the hash of its file.
pub const PICTURE: &str = "picture/";

/// So many checkpoints stay unless a sweep says otherwise.
pub const USUALLY_KEPT: u32 = 2;

/// Prepared pictures and their encoded captions.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shown {
    /// The keys of the jobs that prepare the pictures, in their order.
    pub shards: Vec<Hash>,
    /// For each picture the key of the job that encodes its caption; none where no text is looked at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub texts: Vec<Hash>,
}

/// What training makes smaller.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Objective {
    /// Of a transformer: flow matching, in wavelet bands or not.
    Flow {
        /// What is compared, and how much each band counts.
        loss: Loss,
        /// Which noise levels are drawn how often.
        density: Density,
        /// How much they count.
        weighting: Weighting,
    },
    /// Of an autoencoder: what it gives back.
    Reconstruction {
        /// What the latents' distance from N(0, 1) counts.
        divergence: f64,
        /// Whether the config is to say anew by what latents are shifted and scaled, so that those of what is learnt
        /// from have mean 0 and deviation 1. A denoiser that exists knows the old ones.
        rescale: bool,
    },
}

impl Objective {
    /// Which part of a model it trains.
    pub fn part(&self) -> Part {
        match self {
            Self::Flow { .. } => Part::Denoiser,
            Self::Reconstruction { .. } => Part::Vae,
        }
    }
}

/// Low-rank adapters of every attention's projections: W + (alpha/rank)·B·A.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lora {
    /// Rows of A and columns of B.
    pub rank: u32,
    /// What B·A is multiplied with, times the rank.
    pub alpha: f64,
}
