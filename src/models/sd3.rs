//! The transformer of Stable Diffusion 3 and 3.5 (MMDiT: Esser et al. 2024, arXiv:2403.03206), with the names of
//! diffusers' SD3Transformer2DModel.

mod block;

use std::path::Path;

use anyhow::ensure;
use candle_core::{Device, Result, Tensor};
use serde::Deserialize;

use self::block::{Block, Mlp, chunks};
use super::layers::{Conv2d, Linear};
use super::package::read_config;
use super::weights::Weights;
use crate::gpu::tokens::modulated;

const EPS: f64 = 1e-6;
/// Width of the sinusoidal embedding of the timestep.
const N_SINUSOID: usize = 256;

/// `transformer/config.json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Config {
    /// Side of a patch in latent pixels.
    pub patch_size: usize,
    /// Channels of the latent.
    pub in_channels: usize,
    /// Channels of the velocity; as many as `in_channels` where the file says nothing.
    #[serde(default)]
    pub out_channels: Option<usize>,
    /// Blocks.
    pub num_layers: usize,
    /// Width of a head.
    pub attention_head_dim: usize,
    /// Heads.
    pub num_attention_heads: usize,
    /// Width of the text's states.
    pub joint_attention_dim: usize,
    /// Width to which they are projected: that of the blocks.
    pub caption_projection_dim: usize,
    /// Width of the pooled text.
    pub pooled_projection_dim: usize,
    /// Side of the positional table in patches.
    pub pos_embed_max_size: usize,
    /// Side of a latent that diffusers makes unless it is told otherwise.
    #[serde(default = "default_sample_size")]
    pub sample_size: usize,
    /// Blocks with a second attention, over the image alone.
    #[serde(default)]
    pub dual_attention_layers: Vec<usize>,
    /// `rms_norm`: queries and keys are normalised.
    #[serde(default)]
    pub qk_norm: Option<String>,
}

fn default_sample_size() -> usize {
    128
}

impl Config {
    /// Reads it.
    ///
    /// # Errors
    /// No such file, a key that is missing or contradicts another.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let config: Self = read_config(path)?;
        let at = path.display();
        let (width, caption) = (config.width(), config.caption_projection_dim);
        ensure!(
            width == caption,
            "{at}: `caption_projection_dim` is {caption}, the heads are {width} wide together: they must be equal"
        );
        ensure!(width > 0 && config.num_layers > 0 && config.patch_size > 0, "{at}: a size is 0");
        if let Some(other) = config.qk_norm.as_deref().filter(|it| *it != "rms_norm") {
            anyhow::bail!("{at}: `qk_norm` is `{other}`: only rms_norm is supported");
        }
        Ok(config)
    }

    /// Stable Diffusion 3 medium's: 2.1·10^9 parameters.
    pub fn medium() -> Self {
        Self {
            patch_size: 2,
            in_channels: 16,
            out_channels: Some(16),
            num_layers: 24,
            attention_head_dim: 64,
            num_attention_heads: 24,
            joint_attention_dim: 4096,
            caption_projection_dim: 1536,
            pooled_projection_dim: 2048,
            pos_embed_max_size: 192,
            sample_size: 128,
            dual_attention_layers: Vec::new(),
            qk_norm: None,
        }
    }

    /// Width of the blocks.
    pub fn width(&self) -> usize {
        self.num_attention_heads * self.attention_head_dim
    }
}

/// What the blocks pass on: the states of the image's patches [B, N, width] and of the text [B, L, width].
#[derive(Clone, Debug)]
pub struct Streams {
    /// Of the image.
    pub image: Tensor,
    /// Of the text.
    pub text: Tensor,
}

/// The transformer.
pub struct Sd3 {
    config: Config,
    patch: Conv2d,
    table: Tensor,
    timestep: Mlp,
    pooled: Mlp,
    context: Linear,
    blocks: Vec<Block>,
    norm_out: Linear,
    proj_out: Linear,
}

impl Sd3 {
    /// Makes it of weights with diffusers' names.
    ///
    /// # Errors
    /// The tensors cannot be read.
    pub fn load(config: &Config, weights: &Weights) -> Result<Self> {
        let (width, patch) = (config.width(), config.patch_size);
        let n_out = patch * patch * config.out_channels.unwrap_or(config.in_channels);
        let embed = weights.at("time_text_embed");
        let at = weights.at("pos_embed");
        let side = config.pos_embed_max_size;
        let blocks = (0..config.num_layers)
            .map(|idx| Block::load(config, idx, &weights.at(format!("transformer_blocks.{idx}"))))
            .collect::<Result<_>>()?;
        Ok(Self {
            patch: Conv2d::load(&at.at("proj"), config.in_channels, width, patch, patch, 0)?,
            table: at.get((1, side * side, width), "pos_embed")?,
            timestep: Mlp::load(&embed.at("timestep_embedder"), N_SINUSOID, width)?,
            pooled: Mlp::load(&embed.at("text_embedder"), config.pooled_projection_dim, width)?,
            context: Linear::load(&weights.at("context_embedder"), config.joint_attention_dim, width, true)?,
            blocks,
            norm_out: Linear::load(&weights.at("norm_out.linear"), width, 2 * width, true)?,
            proj_out: Linear::load(&weights.at("proj_out"), width, n_out, true)?,
            config: config.clone(),
        })
    }

    /// The velocity at `latent` [B, C, H, W] and `timestep` (0 to 1000, the same for the batch), given the text's
    /// states `context` [B, L, joint] and its `pooled` [B, P]. Returns [B, C, H, W].
    ///
    /// # Errors
    /// A latent that is no whole number of patches or has more than the positional table; no memory.
    pub fn forward(&self, latent: &Tensor, timestep: f32, context: &Tensor, pooled: &Tensor) -> Result<Tensor> {
        let (mut streams, condition) = self.embed(latent, &[timestep], context, pooled)?;
        for idx in 0..self.n_blocks() {
            streams = self.block(idx, &streams, &condition)?;
        }
        let (_, _, height, width) = latent.dims4()?;
        self.finish(&streams.image, &condition, (height, width))
    }

    /// How many blocks stand between [`embed`](Self::embed) and [`finish`](Self::finish).
    pub fn n_blocks(&self) -> usize {
        self.blocks.len()
    }

    /// The first stage of [`forward`](Self::forward): both streams before the first block, and the condition [B, width]
    /// that every block is told. There is one timestep, or one for each image.
    ///
    /// # Errors
    /// Those of [`forward`](Self::forward).
    pub fn embed(
        &self,
        latent: &Tensor,
        timesteps: &[f32],
        context: &Tensor,
        pooled: &Tensor,
    ) -> Result<(Streams, Tensor)> {
        let (n_batch, _, height, width) = latent.dims4()?;
        let patch = self.config.patch_size;
        if height % patch != 0 || width % patch != 0 {
            candle_core::bail!("a latent of {height}×{width} is no whole number of patches of {patch}×{patch}");
        }
        if timesteps.len() != 1 && timesteps.len() != n_batch {
            candle_core::bail!("{} timesteps for {n_batch} images", timesteps.len());
        }
        let tokens = self.patch.forward(latent)?.flatten_from(2)?.transpose(1, 2)?;
        let image = tokens.broadcast_add(&self.positions(height / patch, width / patch)?)?.contiguous()?;
        let timesteps = sinusoid(timesteps, pooled.device())?.to_dtype(pooled.dtype())?;
        let condition = self.timestep.forward(&timesteps)?.broadcast_add(&self.pooled.forward(pooled)?)?;
        // Every modulation begins with it.
        let condition = condition.silu()?;
        Ok((Streams { image, text: self.context.forward(context)? }, condition))
    }

    /// Both streams after a block.
    ///
    /// # Errors
    /// No memory.
    pub fn block(&self, idx: usize, streams: &Streams, condition: &Tensor) -> Result<Streams> {
        let (image, text) = self.blocks[idx].forward(&streams.image, &streams.text, condition)?;
        Ok(Streams { image, text })
    }

    /// The last stage of [`forward`](Self::forward): the velocity of a latent of `height`×`width`.
    ///
    /// # Errors
    /// No memory.
    pub fn finish(&self, image: &Tensor, condition: &Tensor, (height, width): (usize, usize)) -> Result<Tensor> {
        let patch = self.config.patch_size;
        let parts = self.norm_out.forward(condition)?;
        let parts = chunks(&parts, 2)?;
        let image = modulated(image, EPS, &parts[1], &parts[0])?;
        let patches = self.proj_out.forward(&image)?;
        let (n_batch, _, n_out) = patches.dims3()?;
        let n_out = n_out / (patch * patch);
        patches
            .reshape((n_batch, height / patch, width / patch, patch, patch, n_out))?
            .permute((0, 5, 1, 3, 2, 4))?
            .contiguous()?
            .reshape((n_batch, n_out, height, width))
    }

    /// The middle of the positional table.
    fn positions(&self, rows: usize, columns: usize) -> Result<Tensor> {
        let side = self.config.pos_embed_max_size;
        if rows > side || columns > side {
            candle_core::bail!("{rows}×{columns} patches: the positional table has {side}×{side}");
        }
        let width = self.config.width();
        let table = self.table.reshape((side, side, width))?;
        let middle = table.narrow(0, (side - rows) / 2, rows)?.narrow(1, (side - columns) / 2, columns)?;
        middle.contiguous()?.reshape((1, rows * columns, width))
    }
}

/// [n, 256]: the cosines, then the sines, of each timestep at frequencies from 1 to 1/10000.
fn sinusoid(timesteps: &[f32], device: &Device) -> Result<Tensor> {
    let half = N_SINUSOID / 2;
    let angle = |timestep: f32, idx: usize| timestep * (-(10000_f32.ln()) * idx as f32 / half as f32).exp();
    let row = |timestep: f32| {
        let cosines = (0..half).map(move |it| angle(timestep, it).cos());
        cosines.chain((0..half).map(move |it| angle(timestep, it).sin()))
    };
    let values: Vec<f32> = timesteps.iter().flat_map(|it| row(*it)).collect();
    Tensor::from_vec(values, (timesteps.len(), N_SINUSOID), device)
}
