//! The tasks that make pictures: prompt to states, states and noise to latent, latent to picture, and there and back.

use serde::{Deserialize, Serialize};

use super::Picture;
use crate::job::Hash;

/// The curve of the seconds that a step takes.
pub const STEP_S: &str = "step_s";
/// The curve of the memory in use, in GiB.
pub const MEMORY_GIB: &str = "memory_gib";

/// A part of a package that is loaded on its own, or the network that a metric looks through.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Tokenizers and text encoders.
    Text,
    /// The transformer, its schedule, and the autoencoder's config, which says how large a latent is.
    Denoiser,
    /// The autoencoder.
    Vae,
    /// A network in the layout of transformers: all of its folder that is read.
    Network,
}

impl Part {
    /// Every part of a package in the layout of diffusers.
    pub const ALL: [Self; 3] = [Self::Text, Self::Denoiser, Self::Vae];

    /// What this word of tables means.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().chain([Self::Network]).find(|it| it.word() == word)
    }

    /// The word that tables use.
    pub fn word(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Denoiser => "denoiser",
            Self::Vae => "vae",
            Self::Network => "network",
        }
    }
}

/// What numbers a model computes in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 16 bits with the exponent of 32, on CUDA: what the published images were made in.
    #[default]
    Bf16,
    /// 32 bits, on any device.
    F32,
}

impl Precision {
    /// Every precision.
    pub const ALL: [Self; 2] = [Self::Bf16, Self::F32];

    /// The word that sweeps, tables and reports use.
    pub fn word(self) -> &'static str {
        match self {
            Self::Bf16 => "bf16",
            Self::F32 => "f32",
        }
    }
}

/// How the strided end of a decoder is computed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Partition {
    /// Band by band; the bands cannot be seen.
    #[default]
    Exact,
    /// As Diffusion-4K's released code does: one pixel further right and down.
    Legacy,
    /// In one piece.
    Off,
}

impl Partition {
    /// Every way.
    pub const ALL: [Self; 3] = [Self::Exact, Self::Legacy, Self::Off];

    /// The word that sweeps, tables and reports use.
    pub fn word(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Legacy => "legacy",
            Self::Off => "off",
        }
    }
}

/// How a made picture is written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileFormat {
    /// PNG: every pixel as it was decoded.
    #[default]
    Png,
    /// JPEG of quality 95, 4:2:0, as the published images were saved.
    Jpeg95,
}

impl FileFormat {
    /// The word that sweeps, tables and reports use.
    pub fn word(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg95 => "jpeg95",
        }
    }

    /// Its media type.
    pub fn media(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg95 => "image/jpeg",
        }
    }
}

/// Encodes one prompt with all text encoders of a package.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Encode {
    /// The package's [`Part::Text`], by the hash of its files.
    pub model: Hash,
    /// The prompt; empty where nothing is said.
    pub prompt: String,
    /// The key of the job that writes the prompt: it captions a picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption: Option<Hash>,
    /// How many tokens T5 takes.
    pub t5_tokens: u32,
    /// What it is computed in.
    pub dtype: Precision,
}

/// Makes a latent of noise and encoded prompts.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Denoise {
    /// The package's [`Part::Denoiser`], by the hash of its files.
    pub model: Hash,
    /// The key of the job that encodes the prompt.
    pub prompt: Hash,
    /// The key of the job that encodes the negative prompt; none without guidance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub negative: Option<Hash>,
    /// Of the picture, in pixels.
    pub width: u32,
    /// Of the picture, in pixels.
    pub height: u32,
    /// Steps of the schedule.
    pub steps: u32,
    /// Classifier-free guidance; 1 or less means none.
    pub guidance: f64,
    /// Seed of the noise.
    pub seed: u64,
    /// What it is computed in.
    pub dtype: Precision,
}

/// Makes a picture of a latent and writes it to a file with what it was made from.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decode {
    /// The package's [`Part::Vae`], by the hash of its files.
    pub model: Hash,
    /// The key of the job that makes the latent.
    pub latent: Hash,
    /// How the strided end is computed.
    pub partition: Partition,
    /// How the file is written.
    pub format: FileFormat,
    /// What it is computed in.
    pub dtype: Precision,
    /// What the file and the tables say of the picture. All of it follows from `latent`.
    pub settings: Settings,
}

/// What a generated picture was made from, for people to read.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The prompt.
    pub prompt: String,
    /// The key of the job that writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption: Option<Hash>,
    /// The key of the job that encodes it.
    pub encoded: Hash,
    /// The negative prompt; none without guidance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub negative: Option<String>,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// Steps of the schedule.
    pub steps: u32,
    /// Classifier-free guidance.
    pub guidance: f64,
    /// Seed of the noise.
    pub seed: u64,
    /// How many tokens T5 takes.
    pub t5_tokens: u32,
    /// The package's [`Part::Text`].
    pub text: Hash,
    /// The package's [`Part::Denoiser`].
    pub denoiser: Hash,
}

/// Takes a picture to its latent and back.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reconstruct {
    /// The package's [`Part::Vae`], by the hash of its files.
    pub model: Hash,
    /// The original.
    pub picture: Picture,
    /// Which latent.
    pub latent: Latent,
    /// How the strided end of the decoder is computed.
    pub partition: Partition,
    /// What it is computed in.
    pub dtype: Precision,
}

/// Which latent stands for a picture.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Latent {
    /// The mean of the posterior.
    Mean,
    /// A draw from it.
    Sample {
        /// Seed of the draw.
        seed: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::super::{Evaluate, Picture, Step, Task};
    use super::Hash;

    #[test]
    fn pictures_of_files_keep_the_keys_that_they_had_before_jobs_made_pictures() {
        let picture = Picture::of_file(Hash::of(b"file"), vec![Step::Crop { size: 512 }]);
        let old = format!(r#"{{"content":"{}","steps":[{{"step":"crop","size":512}}]}}"#, Hash::of(b"file"));
        assert_eq!(serde_json::to_string(&picture).unwrap(), old);
        assert_eq!(serde_json::from_str::<Picture>(&old).unwrap(), picture);
        assert_eq!(picture.key(), Hash::of(old.as_bytes()));
        let evaluate = Evaluate { picture, reference: None, metrics: Vec::new(), network: None, max_pixels: None };
        let old = format!(r#"[1,{{"kind":"evaluate","picture":{old},"metrics":[]}}]"#);
        assert_eq!(Task::Evaluate(evaluate).key(), Hash::of(old.as_bytes()));
    }

    #[test]
    fn a_made_picture_is_no_file_of_the_same_hash() {
        let hash = Hash::of(b"x");
        assert_ne!(Picture::of_job(hash).key(), Picture::of_file(hash, Vec::new()).key());
    }
}
