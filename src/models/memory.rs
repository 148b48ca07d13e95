//! How much memory a package needs for a picture of a size, stage by stage, and how much there is.
//!
//! What is counted are the tensors that live at the same time in the code of sd3.rs, vae.rs and gpu/attention.rs; a
//! change there that keeps more or less of them alive belongs here too. tests/it/models/memory.rs holds the counts
//! against what is really taken.

use std::fs;

use anyhow::{Context, ensure};
use candle_core::{DType, Device};
use serde::Serialize;

use super::package::Package;
use super::pipeline::Sizes;
use super::text::{clip, t5};
use super::weights::Weights;
use super::{sd3, vae};
use crate::gpu;

/// What the temporary tensors of the autoencoder may take: the budget of its bands.
pub const BANDS: usize = 512 << 20;
/// What attention takes for scores at most: in f32, which is for the CPU, where each core has a few rows; and in 16
/// bits, which is for GPUs, one and a half times its own budget.
const SCORES: [usize; 2] = [16 << 20, 3 << 30];
/// Tokens of CLIP, and of T5 unless it is told otherwise.
const TEXT_TOKENS: u64 = 77 + 256;
/// What libraries keep for themselves: packed matrices, threads.
const LIBRARIES: u64 = 32 << 20;
/// What is left free beside what is counted: allocators and libraries take some. A part of it, and for GPUs a sum.
const SPARE: f64 = 0.05;
const GPU_SPARE: u64 = 1 << 30;

/// What one stage takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Stage {
    /// Bytes of weights; of the largest text encoder alone, as they are loaded one after the other.
    pub weights: u64,
    /// Bytes of everything else at the stage's worst moment.
    pub working: u64,
}

impl Stage {
    /// The bytes of both.
    pub fn peak(self) -> u64 {
        self.weights + self.working
    }
}

/// What a picture takes, in bytes. Stages run one after the other, each with only its own weights in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Plan {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Prompts to what the transformer is conditioned on.
    pub text: Stage,
    /// One step of the transformer.
    pub denoiser: Stage,
    /// A latent to a picture, in exact bands under [`BANDS`].
    pub vae: Stage,
}

impl Plan {
    /// Bytes of the stage that takes the most.
    pub fn peak(&self) -> u64 {
        self.stages().into_iter().map(|(_, it)| it.peak()).max().unwrap_or(0)
    }

    /// The stages with their names, in their order.
    pub fn stages(&self) -> [(&'static str, Stage); 3] {
        [("text", self.text), ("denoise", self.denoiser), ("decode", self.vae)]
    }
}

/// The plan of a package for one picture of `width`×`height`; `guided` runs the transformer on two at a time. `dtype` is
/// what is computed in: f32 is taken to mean the CPU, 16 bits to mean a GPU.
///
/// # Errors
/// A config that cannot be read.
pub fn plan(package: &Package, width: u32, height: u32, dtype: DType, guided: bool) -> anyhow::Result<Plan> {
    Ok(Needs::of(package)?.plan(width, height, dtype, guided))
}

/// Refuses a picture that the package cannot make, or for which less than `free` bytes are not enough; says what would
/// fit. Call it before a run starts.
///
/// # Errors
/// See above.
pub fn check(package: &Package, width: u32, height: u32, dtype: DType, guided: bool, free: u64) -> anyhow::Result<()> {
    let needs = Needs::of(package)?;
    Sizes::of(package)?.check(width, height)?;
    let plan = needs.plan(width, height, dtype, guided);
    if with_spare(plan.peak(), dtype) <= free {
        return Ok(());
    }
    let worst = plan.stages().into_iter().max_by_key(|(_, it)| it.peak()).map_or("", |(name, _)| name);
    let instead = match needs.largest_square(dtype, guided, free) {
        Some(side) => format!("{side}x{side} would fit"),
        None => "no size would fit".to_owned(),
    };
    let (needed, free) = (gigabytes(with_spare(plan.peak(), dtype)), gigabytes(free));
    anyhow::bail!("{width}x{height} takes {needed} GB to {worst}, and {free} GB are free: {instead}")
}

/// Bytes as people read them.
pub fn gigabytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1e9)
}

fn with_spare(peak: u64, dtype: DType) -> u64 {
    let gpu = if dtype == DType::F32 { 0 } else { GPU_SPARE };
    peak + (peak as f64 * SPARE) as u64 + gpu
}

/// The bytes that are free on a device now.
///
/// # Errors
/// The system does not say.
pub fn free(device: &Device) -> anyhow::Result<u64> {
    if device.is_cpu() {
        return free_host();
    }
    let (free, _) = gpu::memory(device).context("the GPU does not say how much of its memory is free")?;
    Ok(free as u64)
}

fn free_host() -> anyhow::Result<u64> {
    let text = fs::read_to_string("/proc/meminfo").context("read /proc/meminfo")?;
    let line = text.lines().find_map(|it| it.strip_prefix("MemAvailable:"));
    let kilobytes: u64 = line
        .and_then(|it| it.trim().strip_suffix("kB"))
        .and_then(|it| it.trim().parse().ok())
        .context("/proc/meminfo names no MemAvailable")?;
    // A container may have less than its machine.
    let number =
        |name: &str| -> Option<u64> { fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok()?.trim().parse().ok() };
    let of_container = number("memory.max").zip(number("memory.current")).map(|(most, now)| most.saturating_sub(now));
    Ok((kilobytes << 10).min(of_container.unwrap_or(u64::MAX)))
}

/// What a package's configs say about its memory.
#[derive(Clone, Debug)]
pub struct Needs {
    encoders: Vec<Encoder>,
    transformer: (sd3::Config, Count),
    vae: (vae::Config, Count),
}

/// Numbers in a component's weights.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Count {
    /// In all.
    pub total: u64,
    /// In the largest tensor.
    pub largest: u64,
}

impl Count {
    /// Of the tensors that a blueprint was asked for.
    pub fn of(weights: &Weights) -> Self {
        let sizes: Vec<u64> = weights.asked().iter().map(|(_, it)| it.iter().product::<usize>() as u64).collect();
        Self { total: sizes.iter().sum(), largest: sizes.iter().copied().max().unwrap_or(0) }
    }
}

#[derive(Clone, Debug)]
struct Encoder {
    count: Count,
    tokens: u64,
    /// Numbers a token that live at the same time, and heads.
    per_token: u64,
    heads: u64,
}

impl Needs {
    /// Reads a package's configs.
    ///
    /// # Errors
    /// One that cannot be read.
    pub fn of(package: &Package) -> anyhow::Result<Self> {
        let mut encoders = Vec::new();
        // A part that was trained stands without encoders.
        for component in ["text_encoder", "text_encoder_2"].into_iter().filter(|it| package.folder(it).exists()) {
            let config = clip::Config::read(&package.config(component))?;
            let weights = Weights::blueprint();
            clip::ClipText::load(&config, &weights)?;
            let per_token = 10 * config.hidden_size + 3 * config.intermediate_size;
            encoders.push(Encoder {
                count: Count::of(&weights),
                tokens: config.max_position_embeddings as u64,
                per_token: per_token as u64,
                heads: config.num_attention_heads as u64,
            });
        }
        if package.has("text_encoder_3") {
            let config = t5::Config::read(&package.config("text_encoder_3"))?;
            let weights = Weights::blueprint();
            t5::T5Encoder::load(&config, &weights)?;
            let per_token = 4 * config.d_model + 8 * config.num_heads * config.d_kv + 4 * config.d_ff;
            encoders.push(Encoder {
                count: Count::of(&weights),
                tokens: 512,
                per_token: per_token as u64,
                heads: config.num_heads as u64,
            });
        }
        let transformer = sd3::Config::read(&package.config("transformer"))?;
        let weights = Weights::blueprint();
        sd3::Sd3::load(&transformer, &weights)?;
        let transformer = (transformer, Count::of(&weights));
        let vae = vae::Config::read(&package.config("vae"))?;
        let weights = Weights::blueprint();
        vae::Vae::load(&vae, &weights)?;
        let vae = (vae, Count::of(&weights));
        ensure!(!vae.0.block_out_channels.is_empty(), "an autoencoder without stages");
        Ok(Self { encoders, transformer, vae })
    }

    /// See [`plan`].
    pub fn plan(&self, width: u32, height: u32, dtype: DType, guided: bool) -> Plan {
        let size = dtype.size_in_bytes() as u64;
        let stage = |count: Count, working: u64| Stage {
            weights: count.total * size,
            // A tensor is there twice while it becomes the type that is computed in.
            working: working.max(count.largest * 4) + LIBRARIES,
        };
        let text = |it: &Encoder| {
            // Scores, powers and the bias, in f32.
            let scores = 4 * it.heads * it.tokens * it.tokens * 4;
            stage(it.count, it.tokens * it.per_token * size + scores)
        };
        let factor = self.vae.0.factor() as u64;
        let latent = (u64::from(width) / factor, u64::from(height) / factor);
        Plan {
            width,
            height,
            text: self.encoders.iter().map(text).max_by_key(|it| it.peak()).unwrap_or_default(),
            denoiser: stage(self.transformer.1, self.step(latent, dtype, guided)),
            vae: stage(self.vae.1, self.decoding(latent, dtype)),
        }
    }

    /// The side of the largest square picture for which `free` bytes are enough; none if not even the smallest one.
    pub fn largest_square(&self, dtype: DType, guided: bool, free: u64) -> Option<u32> {
        let unit = self.vae.0.factor() * self.transformer.0.patch_size;
        let fits = |n: usize| {
            let side = (n * unit) as u32;
            with_spare(self.plan(side, side, dtype, guided).peak(), dtype) <= free
        };
        // More pixels never take less, so halving finds the last one that fits.
        let (mut good, mut bad) = (0, self.transformer.0.pos_embed_max_size + 1);
        while bad - good > 1 {
            let middle = good.midpoint(bad);
            if fits(middle) {
                good = middle;
            } else {
                bad = middle;
            }
        }
        (good > 0).then_some((good * unit) as u32)
    }

    /// One call of the transformer; of its blocks the worst moment of one counts, as one follows the other.
    fn step(&self, (columns, rows): (u64, u64), dtype: DType, guided: bool) -> u64 {
        let config = &self.transformer.0;
        let (width, patch) = (config.width() as u64, config.patch_size as u64);
        let (size, batch) = (dtype.size_in_bytes() as u64, if guided { 2 } else { 1 });
        let n = (columns / patch) * (rows / patch);
        let image = batch * n * width * size;
        let text = batch * TEXT_TOKENS * width * size;
        let joint = image + text;
        // In the attention: the image, normed and as queries, keys and values; the text and its three; all three joined;
        // queries scaled, keys turned, the blocks of the result and the result.
        let n_joint = n + TEXT_TOKENS;
        let scores = scores(batch * config.num_attention_heads as u64 * n_joint, n_joint, dtype);
        let attention = 5 * image + 4 * text + 7 * joint + scores;
        // In the feed-forward part: the image before and after, normed, shifted, its three; the text's; what was
        // attended; the four times wider state twice, what comes of it twice, and one more that was
        // measured and is not explained.
        let feed_forward = 18 * image + 5 * text + joint;
        // A normalisation has four copies in f32 beside what is kept.
        let norm = 7 * image + 5 * text + joint + 4 * image * 4 / size;
        attention.max(feed_forward).max(norm)
    }

    /// The decoder's worst moment: a residual block with its input, both its convolutions and its sum, or a doubling.
    fn decoding(&self, (columns, rows): (u64, u64), dtype: DType) -> u64 {
        let config = &self.vae.0;
        let size = dtype.size_in_bytes() as u64;
        let channels: Vec<u64> = config.block_out_channels.iter().rev().map(|it| *it as u64).collect();
        let mut pixels = columns * rows;
        let deepest = pixels * channels[0] * size;
        // One head over all pixels: the input, its normed state in f32 and turned, queries, keys and values twice, the
        // result in blocks and whole.
        let attention = if config.mid_block_add_attention {
            14 * deepest + 2 * deepest * 4 / size + scores(pixels, pixels, dtype)
        } else {
            0
        };
        let mut worst = attention;
        let mut n_in = channels[0];
        for (idx, &n_out) in channels.iter().enumerate() {
            let (before, after) = (pixels * n_in * size, pixels * n_out * size);
            // A GPU's projection of the input takes another copy of it.
            let copied = if n_in == n_out || dtype == DType::F32 { 0 } else { before };
            let block = before + copied + if n_in == n_out { 3 } else { 4 } * after;
            worst = worst.max(block.max(before + 2 * after + band(pixels, n_in, n_out, dtype)));
            n_in = n_out;
            if idx + 1 < channels.len() {
                let doubled = after * 4;
                worst = worst.max(after + doubled + band(pixels * 4, n_out, n_out, dtype));
                pixels *= 4;
            }
        }
        let grows = if config.stride == 2 { 4 } else { 1 };
        let picture = pixels * grows * config.out_channels as u64;
        let colours = config.out_channels as u64;
        let last = pixels * n_in * size + picture * size + band(pixels * grows, n_in, colours, dtype);
        // On the host: in the type computed in, in f32 twice and in bytes.
        worst.max(last).max(picture * (size + 9))
    }
}

/// The part of the scores of so many queries (of all heads) and keys that exists at a time: scores, powers and one more
/// on the way, in f32.
fn scores(queries: u64, keys: u64, dtype: DType) -> u64 {
    let most = SCORES[usize::from(dtype != DType::F32)] as u64;
    (queries * keys * 12).min(most)
}

/// The temporary tensors of one band of so many pixels: on the CPU what is convolved and what comes of it, on a GPU
/// three copies in f32, of the four that the budget counts.
fn band(pixels: u64, n_in: u64, n_out: u64, dtype: DType) -> u64 {
    let numbers = if dtype == DType::F32 { n_in + n_out } else { 3 * n_in };
    (pixels * numbers * 4).min(BANDS as u64)
}
