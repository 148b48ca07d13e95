//! The transformer of Stable Diffusion 3 and 3.5 (MMDiT: Esser et al. 2024, arXiv:2403.03206), with the names of
//! diffusers' SD3Transformer2DModel.

use std::path::Path;

use anyhow::ensure;
use candle_core::{D, Device, Result, Tensor};
use serde::Deserialize;

use super::layers::{Activation, Conv2d, Linear, RmsNorm};
use super::package::read_config;
use super::weights::Weights;
use crate::gpu::attention::attention;
use crate::gpu::norm::layer_norm;

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
        let (n_batch, _, height, width) = latent.dims4()?;
        let patch = self.config.patch_size;
        if height % patch != 0 || width % patch != 0 {
            candle_core::bail!("a latent of {height}×{width} is no whole number of patches of {patch}×{patch}");
        }
        let (rows, columns) = (height / patch, width / patch);
        let tokens = self.patch.forward(latent)?.flatten_from(2)?.transpose(1, 2)?;
        let mut image = tokens.broadcast_add(&self.positions(rows, columns)?)?.contiguous()?;
        let condition = (self.timestep.forward(&sinusoid(timestep, pooled.device())?.to_dtype(pooled.dtype())?)?)
            .broadcast_add(&self.pooled.forward(pooled)?)?;
        // Every modulation begins with it.
        let condition = condition.silu()?;
        let mut text = self.context.forward(context)?;
        for block in &self.blocks {
            (image, text) = block.forward(&image, text, &condition)?;
        }
        let parts = self.norm_out.forward(&condition)?;
        let parts = chunks(&parts, 2)?;
        let image = modulate(&layer_norm(&image, EPS)?, &parts[1], &parts[0])?;
        let patches = self.proj_out.forward(&image)?;
        let n_out = patches.dim(2)? / (patch * patch);
        patches
            .reshape((n_batch, rows, columns, patch, patch, n_out))?
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

/// [1, 256]: the cosines, then the sines, of the timestep at frequencies from 1 to 1/10000.
fn sinusoid(timestep: f32, device: &Device) -> Result<Tensor> {
    let half = N_SINUSOID / 2;
    let angle = |idx: usize| timestep * (-(10000_f32.ln()) * idx as f32 / half as f32).exp();
    let values: Vec<f32> = (0..half).map(|it| angle(it).cos()).chain((0..half).map(|it| angle(it).sin())).collect();
    Tensor::from_vec(values, (1, N_SINUSOID), device)
}

/// x·(1 + scale) + shift, the latter two [B, width].
fn modulate(x: &Tensor, shift: &Tensor, scale: &Tensor) -> Result<Tensor> {
    x.broadcast_mul(&(scale.unsqueeze(1)? + 1.0)?)?.broadcast_add(&shift.unsqueeze(1)?)
}

/// `x` + gate·`by`.
fn gated(x: &Tensor, gate: &Tensor, by: &Tensor) -> Result<Tensor> {
    x + by.broadcast_mul(&gate.unsqueeze(1)?)?
}

fn chunks(x: &Tensor, n: usize) -> Result<Vec<Tensor>> {
    x.chunk(n, D::Minus1)
}

/// Two linear layers with SiLU between them.
struct Mlp {
    first: Linear,
    second: Linear,
}

impl Mlp {
    fn load(weights: &Weights, n_in: usize, width: usize) -> Result<Self> {
        Ok(Self {
            first: Linear::load(&weights.at("linear_1"), n_in, width, true)?,
            second: Linear::load(&weights.at("linear_2"), width, width, true)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.second.forward(&self.first.forward(x)?.silu()?)
    }
}

/// Two linear layers with GELU between them, four times as wide inside.
struct FeedForward {
    first: Linear,
    second: Linear,
}

impl FeedForward {
    fn load(weights: &Weights, width: usize) -> Result<Self> {
        Ok(Self {
            first: Linear::load(&weights.at("net.0.proj"), width, 4 * width, true)?,
            second: Linear::load(&weights.at("net.2"), 4 * width, width, true)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.second.forward(&Activation::GeluTanh.forward(&self.first.forward(x)?)?)
    }
}

/// The projections of one stream into an attention.
struct Projections {
    q: Linear,
    k: Linear,
    v: Linear,
    norm_q: Option<RmsNorm>,
    norm_k: Option<RmsNorm>,
    n_heads: usize,
}

impl Projections {
    fn load(config: &Config, weights: &Weights, names: [&str; 5]) -> Result<Self> {
        let width = config.width();
        let linear = |name: &str| Linear::load(&weights.at(name), width, width, true);
        let norm = |name: &str| {
            config
                .qk_norm
                .is_some()
                .then(|| RmsNorm::load(&weights.at(name), config.attention_head_dim, EPS))
                .transpose()
        };
        Ok(Self {
            q: linear(names[0])?,
            k: linear(names[1])?,
            v: linear(names[2])?,
            norm_q: norm(names[3])?,
            norm_k: norm(names[4])?,
            n_heads: config.num_attention_heads,
        })
    }

    const IMAGE: [&'static str; 5] = ["to_q", "to_k", "to_v", "norm_q", "norm_k"];
    const TEXT: [&'static str; 5] = ["add_q_proj", "add_k_proj", "add_v_proj", "norm_added_q", "norm_added_k"];

    /// Queries, keys and values, each [B, N, heads, head].
    fn forward(&self, x: &Tensor) -> Result<[Tensor; 3]> {
        let heads = |x: Tensor, norm: Option<&RmsNorm>| -> Result<Tensor> {
            let (n_batch, n, width) = x.dims3()?;
            let x = x.reshape((n_batch, n, self.n_heads, width / self.n_heads))?;
            match norm {
                Some(norm) => norm.forward(&x),
                None => Ok(x),
            }
        };
        Ok([
            heads(self.q.forward(x)?, self.norm_q.as_ref())?,
            heads(self.k.forward(x)?, self.norm_k.as_ref())?,
            heads(self.v.forward(x)?, None)?,
        ])
    }
}

/// [B, heads, N, head] to [B, N, width].
fn join_heads(x: &Tensor) -> Result<Tensor> {
    x.transpose(1, 2)?.contiguous()?.flatten_from(2)
}

fn attend([q, k, v]: &[Tensor; 3]) -> Result<Tensor> {
    let scale = 1.0 / (q.dim(D::Minus1)? as f64).sqrt();
    let heads = |x: &Tensor| x.transpose(1, 2);
    join_heads(&attention(&heads(q)?, &heads(k)?, &heads(v)?, scale, None)?)
}

/// The text's half of a block: none of it but the projections and their modulation in the last one.
struct TextHalf {
    modulation: Linear,
    projections: Projections,
    rest: Option<(Linear, FeedForward)>,
}

/// A second attention over the image alone.
struct Second {
    projections: Projections,
    out: Linear,
}

struct Block {
    modulation: Linear,
    projections: Projections,
    out: Linear,
    second: Option<Second>,
    feed_forward: FeedForward,
    text: TextHalf,
}

impl Block {
    fn load(config: &Config, idx: usize, weights: &Weights) -> Result<Self> {
        let width = config.width();
        let is_last = idx + 1 == config.num_layers;
        let is_dual = config.dual_attention_layers.contains(&idx);
        let attn = weights.at("attn");
        let linear = |weights: &Weights, n_out: usize| Linear::load(weights, width, n_out, true);
        let text = TextHalf {
            modulation: linear(&weights.at("norm1_context.linear"), if is_last { 2 } else { 6 } * width)?,
            projections: Projections::load(config, &attn, Projections::TEXT)?,
            rest: if is_last {
                None
            } else {
                Some((linear(&attn.at("to_add_out"), width)?, FeedForward::load(&weights.at("ff_context"), width)?))
            },
        };
        let second = if is_dual {
            let attn2 = weights.at("attn2");
            let projections = Projections::load(config, &attn2, Projections::IMAGE)?;
            Some(Second { projections, out: linear(&attn2.at("to_out.0"), width)? })
        } else {
            None
        };
        Ok(Self {
            modulation: linear(&weights.at("norm1.linear"), if is_dual { 9 } else { 6 } * width)?,
            projections: Projections::load(config, &attn, Projections::IMAGE)?,
            out: linear(&attn.at("to_out.0"), width)?,
            second,
            feed_forward: FeedForward::load(&weights.at("ff"), width)?,
            text,
        })
    }

    /// The image's and the text's states after the block; `condition` has gone through SiLU.
    fn forward(&self, image: &Tensor, text: Tensor, condition: &Tensor) -> Result<(Tensor, Tensor)> {
        let own = chunks(&self.modulation.forward(condition)?, if self.second.is_some() { 9 } else { 6 })?;
        let normed = layer_norm(image, EPS)?;
        let of_image = self.projections.forward(&modulate(&normed, &own[0], &own[1])?)?;

        let n_parts = if self.text.rest.is_some() { 6 } else { 2 };
        let theirs = chunks(&self.text.modulation.forward(condition)?, n_parts)?;
        // The last block's modulation has its scale first.
        let (shift, scale) = if n_parts == 6 { (&theirs[0], &theirs[1]) } else { (&theirs[1], &theirs[0]) };
        let of_text = self.text.projections.forward(&modulate(&layer_norm(&text, EPS)?, shift, scale)?)?;

        let n_image = image.dim(1)?;
        let joint = |idx: usize| Tensor::cat(&[&of_image[idx], &of_text[idx]], 1);
        let attended = attend(&[joint(0)?, joint(1)?, joint(2)?])?;

        let mut image = gated(image, &own[2], &self.out.forward(&attended.narrow(1, 0, n_image)?.contiguous()?)?)?;
        if let Some(second) = &self.second {
            let of_image = second.projections.forward(&modulate(&normed, &own[6], &own[7])?)?;
            image = gated(&image, &own[8], &second.out.forward(&attend(&of_image)?)?)?;
        }
        let inner = self.feed_forward.forward(&modulate(&layer_norm(&image, EPS)?, &own[3], &own[4])?)?;
        let image = gated(&image, &own[5], &inner)?;

        let Some((out, feed_forward)) = &self.text.rest else { return Ok((image, text)) };
        let n_text = text.dim(1)?;
        let text = gated(&text, &theirs[2], &out.forward(&attended.narrow(1, n_image, n_text)?.contiguous()?)?)?;
        let inner = feed_forward.forward(&modulate(&layer_norm(&text, EPS)?, &theirs[3], &theirs[4])?)?;
        let text = gated(&text, &theirs[5], &inner)?;
        Ok((image, text))
    }
}
