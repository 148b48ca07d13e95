//! What a job is asked to do: one plain struct per kind of task, and the picture that a task speaks of.

pub mod asking;
pub mod finetune;
pub mod making;
pub mod rehearse;
pub mod training;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use self::asking::{Caption, Judge, Manner};
use self::finetune::{Finetune, Prepare};
use self::making::{Decode, Denoise, Encode, Precision, Reconstruct};
use self::rehearse::Rehearse;
use super::Hash;

/// A picture as a recipe: a file's content or the work that makes it, then steps that follow from it alone.
/// Equal recipes are the same picture, on every machine and in every sweep.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Picture {
    /// The hash of the file's bytes; of a picture that a job makes, that job's key.
    pub content: Hash,
    /// Which of the two it is. Absent for files, so that their keys are what they were before jobs made pictures.
    #[serde(default, skip_serializing_if = "Origin::is_file")]
    pub origin: Origin,
    /// What is done to the decoded pixels, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
}

/// Where a picture's pixels come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A file that somebody has.
    #[default]
    File,
    /// A job.
    Job,
}

impl Origin {
    /// Whether it is a file.
    fn is_file(&self) -> bool {
        *self == Self::File
    }
}

impl Picture {
    /// A file's picture after some steps.
    pub fn of_file(content: Hash, steps: Vec<Step>) -> Self {
        Self { content, origin: Origin::File, steps }
    }

    /// The picture that the job of this key makes.
    pub fn of_job(key: Hash) -> Self {
        Self { content: key, origin: Origin::Job, steps: Vec::new() }
    }

    /// The picture's name in keys and tables: the hash of its recipe.
    pub fn key(&self) -> Hash {
        Hash::of_value(self)
    }
}

/// One step of a picture's recipe, on 8-bit RGB pixels.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    /// The middle `size`×`size` pixels, or less where the picture is smaller.
    Crop {
        /// Side in pixels.
        size: u32,
    },
    /// The middle, its sides the largest multiples of `unit` that fit: what an autoencoder takes.
    Trim {
        /// Pixels.
        unit: u32,
    },
    /// A part of it, all of which lies inside.
    Patch {
        /// Left edge in pixels.
        x: u32,
        /// Upper edge.
        y: u32,
        /// Width, at least 1.
        width: u32,
        /// Height, at least 1.
        height: u32,
    },
    /// Gaussian blur.
    Blur {
        /// Standard deviation in pixels.
        sigma: f64,
    },
    /// Down by `factor` and up again to the same size.
    Resize {
        /// How many times smaller the picture is in between.
        factor: f64,
    },
    /// JPEG, 4:2:0, and back.
    Jpeg {
        /// libjpeg's quality, 1 to 100.
        quality: u8,
    },
    /// Gaussian noise, the same for equal seeds.
    Noise {
        /// Standard deviation in 8-bit levels.
        sigma: f64,
        /// Seed of the noise.
        seed: u64,
    },
}

/// A metric, one of its variants, and the version of its definition.
/// In tasks and tables it is written `glcm_score:authors@1`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MetricId {
    /// Such as `glcm_score`.
    pub metric: String,
    /// Such as `authors`.
    pub variant: String,
    /// Rises whenever the definition changes, so that corrected scores are computed again.
    pub version: u32,
}

impl fmt::Display for MetricId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}@{}", self.metric, self.variant, self.version)
    }
}

impl FromStr for MetricId {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let parts = text.split_once(':').and_then(|(metric, rest)| Some((metric, rest.split_once('@')?)));
        let (metric, (variant, version)) =
            parts.with_context(|| format!("`{text}` is not of the form metric:variant@version"))?;
        Ok(Self { metric: metric.to_owned(), variant: variant.to_owned(), version: version.parse()? })
    }
}

impl Serialize for MetricId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MetricId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Scores one picture.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluate {
    /// What is scored.
    pub picture: Picture,
    /// What full-reference metrics compare it with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Picture>,
    /// Which scores are wanted.
    pub metrics: Vec<MetricId>,
    /// The network that all of them look through, by the hash of its files; none for metrics that need none, so that their
    /// keys are what they were before any did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Hash>,
    /// Refuse larger files; unset is the built-in limit of 2^28 pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_pixels: Option<u64>,
}

/// Scores a set of pictures from their scores: whatever of them exists when it runs.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// Which set scores are wanted.
    pub metrics: Vec<MetricId>,
    /// The keys of the pictures, sorted.
    pub pictures: Vec<Hash>,
}

impl Pool {
    /// The set's name in tables: the hash of its pictures.
    pub fn set_key(&self) -> Hash {
        Hash::of_value(&self.pictures)
    }
}

/// What a job does. Its key is the hash of this and of the version of its kind.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Task {
    /// See [`Encode`].
    Encode(Encode),
    /// See [`Denoise`].
    Denoise(Denoise),
    /// See [`Decode`].
    Decode(Box<Decode>),
    /// See [`Reconstruct`].
    Reconstruct(Reconstruct),
    /// See [`Evaluate`].
    Evaluate(Evaluate),
    /// See [`Pool`].
    Pool(Pool),
    /// See [`Prepare`].
    Prepare(Prepare),
    /// See [`Finetune`].
    Finetune(Box<Finetune>),
    /// See [`Judge`].
    Judge(Box<Judge>),
    /// See [`Caption`].
    Caption(Caption),
    /// See [`Rehearse`].
    Rehearse(Rehearse),
}

impl Task {
    /// The names of all kinds.
    pub const KINDS: [&'static str; 11] = [
        "encode",
        "prepare",
        "finetune",
        "denoise",
        "decode",
        "reconstruct",
        "evaluate",
        "pool",
        "judge",
        "caption",
        "rehearse",
    ];

    /// The kind's name in tables and on the command line.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Encode(_) => "encode",
            Self::Denoise(_) => "denoise",
            Self::Decode(_) => "decode",
            Self::Reconstruct(_) => "reconstruct",
            Self::Evaluate(_) => "evaluate",
            Self::Pool(_) => "pool",
            Self::Prepare(_) => "prepare",
            Self::Finetune(_) => "finetune",
            Self::Judge(_) => "judge",
            Self::Caption(_) => "caption",
            Self::Rehearse(_) => "rehearse",
        }
    }

    /// The version of the kind: raise it when equal tasks no longer mean equal results.
    fn version(&self) -> u32 {
        match self {
            Self::Encode(_)
            | Self::Denoise(_)
            | Self::Decode(_)
            | Self::Reconstruct(_)
            | Self::Evaluate(_)
            | Self::Pool(_)
            | Self::Prepare(_)
            | Self::Judge(_)
            | Self::Caption(_)
            | Self::Rehearse(_) => 1,
            // Looks see the running mean, so other weights may be the best, or scaled otherwise.
            Self::Finetune(_) => 2,
        }
    }

    /// How long one attempt may take unless the sweep says otherwise: what makes pictures has a CPU's pace in mind.
    pub fn limit(&self) -> Duration {
        const HOUR_S: u64 = 3600;
        Duration::from_secs(match self {
            Self::Encode(_) => 2 * HOUR_S,
            Self::Denoise(_) => 24 * HOUR_S,
            Self::Decode(_) | Self::Reconstruct(_) | Self::Prepare(_) => 6 * HOUR_S,
            Self::Finetune(_) => 30 * 24 * HOUR_S,
            Self::Evaluate(_) => HOUR_S / 2,
            Self::Pool(_) => HOUR_S / 6,
            // Most of it is waiting for one's turn.
            Self::Judge(_) | Self::Caption(_) => 4 * HOUR_S,
            Self::Rehearse(_) => 24 * HOUR_S,
        })
    }

    /// Whether it saves when it is asked to end, so that it is given time for that, and another attempt goes on from
    /// there. Other tasks are ended at once.
    pub fn saves(&self) -> bool {
        match self {
            Self::Finetune(_) => true,
            Self::Rehearse(it) => it.checkpoint_every.is_some(),
            _ => false,
        }
    }

    /// Whether what it makes is a file in the store, which other jobs need.
    pub fn makes_file(&self) -> bool {
        match self {
            Self::Encode(_) | Self::Denoise(_) | Self::Decode(_) | Self::Reconstruct(_) => true,
            Self::Prepare(_) | Self::Finetune(_) => true,
            Self::Rehearse(it) => it.bytes > 0,
            Self::Evaluate(_) | Self::Pool(_) | Self::Judge(_) | Self::Caption(_) => false,
        }
    }

    /// Whether the agent asks a machine for it: a slot only makes the pictures ready.
    pub fn asks(&self) -> bool {
        matches!(self, Self::Judge(_) | Self::Caption(_))
    }

    /// How a machine is asked for it; none for tasks that ask nobody.
    pub fn manner(&self) -> Option<&Manner> {
        match self {
            Self::Judge(it) => Some(&it.manner),
            Self::Caption(it) => Some(&it.manner),
            _ => None,
        }
    }

    /// The precision of a model's task; none for tasks without a model.
    pub fn precision(&self) -> Option<Precision> {
        match self {
            Self::Encode(it) => Some(it.dtype),
            Self::Denoise(it) => Some(it.dtype),
            Self::Decode(it) => Some(it.dtype),
            Self::Reconstruct(it) => Some(it.dtype),
            Self::Prepare(it) => it.model.map(|_| it.dtype),
            Self::Finetune(it) => Some(it.dtype),
            Self::Evaluate(_) | Self::Pool(_) | Self::Judge(_) | Self::Caption(_) | Self::Rehearse(_) => None,
        }
    }

    /// Whether only a slot with CUDA can do it: bf16 is computed there alone.
    pub fn needs_cuda(&self) -> bool {
        self.precision() == Some(Precision::Bf16)
    }

    /// The part of a package that it loads ([`making::Part`]) or the network, if it loads one: the hash of its files, or the key of the
    /// job that trains it.
    pub fn model(&self) -> Option<Hash> {
        match self {
            Self::Encode(it) => Some(it.model),
            Self::Denoise(it) => Some(it.model),
            Self::Decode(it) => Some(it.model),
            Self::Reconstruct(it) => Some(it.model),
            Self::Prepare(it) => it.model,
            Self::Finetune(it) => Some(it.model),
            Self::Evaluate(it) => it.network,
            Self::Pool(_) | Self::Judge(_) | Self::Caption(_) | Self::Rehearse(_) => None,
        }
    }

    /// Everything of that kind that it loads: its own [`model`](Self::model), and what it needs on the way.
    pub fn models(&self) -> Vec<Hash> {
        let others = match self {
            Self::Prepare(it) => it.curation.iter().filter_map(|it| it.network).collect(),
            Self::Finetune(it) => it.samples.iter().map(|it| it.vae).collect(),
            _ => Vec::new(),
        };
        self.model().into_iter().chain(others).collect()
    }

    /// Equal work has an equal key and is done once, whichever sweep asks for it. How a run is watched and saved is not in
    /// it ([`Finetune::essence`]).
    pub fn key(&self) -> Hash {
        match self {
            Self::Finetune(it) => Hash::of_value(&(self.version(), Self::Finetune(Box::new(it.essence())))),
            _ => Hash::of_value(&(self.version(), self)),
        }
    }
}
