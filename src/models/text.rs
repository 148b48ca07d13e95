//! Prompts to what Stable Diffusion 3 is conditioned on: two CLIPs and, where the package has it, a T5.

pub mod clip;
mod encoded;
pub mod t5;
pub mod tokenizer;

use std::path::Path;

use anyhow::{Context, ensure};
use candle_core::{DType, Device, Tensor};

use super::config::Keys;
use super::package::Package;
use super::weights::Weights;
use clip::ClipText;
pub use encoded::Encoded;
use encoded::{ClipStates, T5States};
use t5::T5Encoder;
use tokenizer::{Ids, Kind, Tokenizer};

/// The most T5 tokens that diffusers allows.
const MOST_T5_TOKENS: usize = 512;

/// A package's text encoders, all of them in memory.
pub struct TextEncoders {
    clips: [Clip; 2],
    third: Third,
}

impl TextEncoders {
    /// Loads the tokenizers and the text encoders of the package in a folder.
    ///
    /// # Errors
    /// No package of Stable Diffusion 3; a file that is missing or wrong; tensors that contradict a config; no memory.
    pub fn load(package_dir: &Path, device: &Device, dtype: DType) -> anyhow::Result<Self> {
        let package = Package::open(package_dir)?;
        let max_len = clip_len(&package)?;
        let clip = |idx| Clip::load(&package, idx, max_len, device, dtype);
        Ok(Self { clips: [clip(0)?, clip(1)?], third: Third::load(&package, device, dtype)? })
    }

    /// Encodes a prompt as diffusers does, with `t5_tokens` tokens for T5 (or as many rows of zeros in its place).
    ///
    /// # Errors
    /// More than 512 T5 tokens, a tokenizer whose ids have no row in the encoder's table, or no memory.
    pub fn encode(&self, prompt: &str, t5_tokens: usize) -> anyhow::Result<Encoded> {
        check_t5_tokens(t5_tokens)?;
        let [first, second] = [self.clips[0].encode(prompt)?, self.clips[1].encode(prompt)?];
        Encoded::join(&first, &second, &self.third.encode(prompt, t5_tokens)?)
    }

    /// Encodes prompts with the package in a folder, loading one encoder after the other, so that the largest alone
    /// decides how much memory is needed. The result for a prompt is that of [`encode`](Self::encode).
    ///
    /// # Errors
    /// Those of [`load`](Self::load) and [`encode`](Self::encode).
    pub fn encode_all<P: AsRef<str>>(
        package_dir: &Path,
        device: &Device,
        dtype: DType,
        prompts: &[P],
        t5_tokens: usize,
    ) -> anyhow::Result<Vec<Encoded>> {
        check_t5_tokens(t5_tokens)?;
        let package = Package::open(package_dir)?;
        let max_len = clip_len(&package)?;
        let with_clip = |idx| -> anyhow::Result<Vec<ClipStates>> {
            let clip = Clip::load(&package, idx, max_len, device, dtype)?;
            prompts.iter().map(|it| clip.encode(it.as_ref())).collect()
        };
        let [first, second] = [with_clip(0)?, with_clip(1)?];
        let third = Third::load(&package, device, dtype)?;
        let parts = prompts.iter().zip(first).zip(second);
        parts
            .map(|((prompt, first), second)| Encoded::join(&first, &second, &third.encode(prompt.as_ref(), t5_tokens)?))
            .collect()
    }
}

/// How long a prompt is for both CLIPs: what the first one's tokenizer says, as in diffusers.
fn clip_len(package: &Package) -> anyhow::Result<usize> {
    let tokenizer = Tokenizer::open(&package.folder("tokenizer"), Kind::Clip)?;
    match tokenizer.max_len() {
        Some(n) => Ok(n),
        None => Ok(clip::Config::read(&package.config("text_encoder"))?.max_position_embeddings),
    }
}

/// A CLIP with its tokenizer.
struct Clip {
    name: &'static str,
    tokenizer: Tokenizer,
    model: ClipText,
    vocab_size: usize,
    max_len: usize,
}

impl Clip {
    fn load(package: &Package, idx: usize, max_len: usize, device: &Device, dtype: DType) -> anyhow::Result<Self> {
        let (name, tokenizer) = [("text_encoder", "tokenizer"), ("text_encoder_2", "tokenizer_2")][idx];
        let path = package.config(name);
        let config = clip::Config::read(&path)?;
        ensure!(
            max_len <= config.max_position_embeddings,
            "{}: `max_position_embeddings` is {}, but the first tokenizer pads prompts to {max_len} tokens",
            path.display(),
            config.max_position_embeddings
        );
        let tokenizer = Tokenizer::open(&package.folder(tokenizer), Kind::Clip)?;
        let weights = Weights::open(&package.weights(name)?, device, dtype)?;
        let model = ClipText::load(&config, &weights).with_context(|| format!("load {name}"))?;
        weights.finish().with_context(|| package.folder(name).display().to_string())?;
        Ok(Self { name, tokenizer, model, vocab_size: config.vocab_size, max_len })
    }

    fn encode(&self, prompt: &str) -> anyhow::Result<ClipStates> {
        let Ids { ids, n_cut } = self.tokenizer.ids(prompt, self.max_len)?;
        check_ids(&ids, self.vocab_size, self.name)?;
        let output = self.model.forward(&ids).with_context(|| format!("run {}", self.name))?;
        Ok(ClipStates { hidden: rows(&output.hidden)?, pooled: rows(&output.pooled)?, n_cut })
    }
}

/// The third part of a context: T5's, or zeros where the package has no T5.
struct Third {
    t5: Option<T5>,
    /// T5's, or what the transformer wants.
    width: usize,
}

/// A T5 with its tokenizer.
struct T5 {
    tokenizer: Tokenizer,
    model: T5Encoder,
    vocab_size: usize,
}

impl Third {
    fn load(package: &Package, device: &Device, dtype: DType) -> anyhow::Result<Self> {
        let name = "text_encoder_3";
        if !package.has(name) {
            let width = Keys::read(&package.config("transformer"))?.count("joint_attention_dim")?;
            return Ok(Self { t5: None, width });
        }
        let config = t5::Config::read(&package.config(name))?;
        let tokenizer = Tokenizer::open(&package.folder("tokenizer_3"), Kind::T5)?;
        let weights = Weights::open(&package.weights(name)?, device, dtype)?;
        let model = T5Encoder::load(&config, &weights).with_context(|| format!("load {name}"))?;
        weights.finish().with_context(|| package.folder(name).display().to_string())?;
        Ok(Self { t5: Some(T5 { tokenizer, model, vocab_size: config.vocab_size }), width: config.d_model })
    }

    fn encode(&self, prompt: &str, n_tokens: usize) -> anyhow::Result<T5States> {
        let Self { t5, width } = self;
        let Some(T5 { tokenizer, model, vocab_size }) = t5 else {
            return Ok(T5States { hidden: None, n_rows: n_tokens, width: *width, n_cut: 0 });
        };
        let Ids { ids, n_cut } = tokenizer.ids(prompt, n_tokens)?;
        check_ids(&ids, *vocab_size, "text_encoder_3")?;
        let hidden = rows(&model.forward(&ids).context("run text_encoder_3")?)?;
        Ok(T5States { hidden: Some(hidden), n_rows: n_tokens, width: *width, n_cut })
    }
}

/// The only element of a batch, in f32 on the CPU.
fn rows(batch: &Tensor) -> anyhow::Result<Tensor> {
    Ok(batch.squeeze(0)?.to_dtype(DType::F32)?.to_device(&Device::Cpu)?)
}

fn check_t5_tokens(n_tokens: usize) -> anyhow::Result<()> {
    ensure!(n_tokens <= MOST_T5_TOKENS, "{n_tokens} T5 tokens: diffusers allows {MOST_T5_TOKENS}");
    Ok(())
}

fn check_ids(ids: &[u32], vocab_size: usize, name: &str) -> anyhow::Result<()> {
    let wrong = ids.iter().find(|it| **it as usize >= vocab_size);
    match wrong {
        Some(id) => anyhow::bail!("the tokenizer gives the id {id}, but the `vocab_size` of {name} is {vocab_size}"),
        None => Ok(()),
    }
}
