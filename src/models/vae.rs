//! The autoencoder between pictures and latents (diffusers' AutoencoderKL), with the strided ends of Diffusion-4K.
//!
//! With `stride` 2 in its config the first convolution halves the picture and the last one works on states that are
//! doubled just before it: the factor between picture and latent is 2^(blocks − 1)·stride.

use std::path::Path;

use anyhow::ensure;
use candle_core::{DType, Result, Tensor};
use serde::Deserialize;

use super::layers::{Conv2d, GroupNorm, Linear};
use super::package::read_config;
use super::weights::Weights;
use crate::gpu::attention::attention;

const EPS: f64 = 1e-6;

/// `vae/config.json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Config {
    /// Channels of a picture.
    #[serde(default = "three")]
    pub in_channels: usize,
    /// Channels of a decoded picture.
    #[serde(default = "three")]
    pub out_channels: usize,
    /// Channels of each stage, the picture's end first.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks of each stage of the encoder; the decoder has one more.
    #[serde(default = "one")]
    pub layers_per_block: usize,
    /// Channels of a latent.
    pub latent_channels: usize,
    /// Groups of every normalisation.
    #[serde(default = "thirty_two")]
    pub norm_num_groups: usize,
    /// What a latent is multiplied with for the transformer.
    pub scaling_factor: f64,
    /// What is taken off it before.
    #[serde(default)]
    pub shift_factor: Option<f64>,
    /// Whether a 1×1 convolution follows the encoder.
    #[serde(default = "yes")]
    pub use_quant_conv: bool,
    /// Whether a 1×1 convolution precedes the decoder.
    #[serde(default = "yes")]
    pub use_post_quant_conv: bool,
    /// Whether the middle has an attention.
    #[serde(default = "yes")]
    pub mid_block_add_attention: bool,
    /// 1, or 2 for Diffusion-4K's strided ends.
    #[serde(default = "one")]
    pub stride: usize,
}

fn one() -> usize {
    1
}

fn three() -> usize {
    3
}

fn thirty_two() -> usize {
    32
}

fn yes() -> bool {
    true
}

impl Config {
    /// Reads it.
    ///
    /// # Errors
    /// No such file, a key that is missing or that cannot be.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let config: Self = read_config(path)?;
        let at = path.display();
        ensure!(!config.block_out_channels.is_empty(), "{at}: `block_out_channels` is empty");
        for channels in &config.block_out_channels {
            let groups = config.norm_num_groups;
            ensure!(
                groups > 0 && channels % groups == 0,
                "{at}: {channels} channels do not divide into {groups} groups"
            );
        }
        ensure!(matches!(config.stride, 1 | 2), "{at}: `stride` is {}: 1 or 2", config.stride);
        ensure!(config.scaling_factor != 0.0, "{at}: `scaling_factor` is 0");
        Ok(config)
    }

    /// Stable Diffusion 3's, with strided ends where `stride` is 2.
    pub fn sd3(stride: usize) -> Self {
        Self {
            in_channels: 3,
            out_channels: 3,
            block_out_channels: vec![128, 256, 512, 512],
            layers_per_block: 2,
            latent_channels: 16,
            norm_num_groups: 32,
            scaling_factor: 1.5305,
            shift_factor: Some(0.0609),
            use_quant_conv: false,
            use_post_quant_conv: false,
            mid_block_add_attention: true,
            stride,
        }
    }

    /// How many times wider and higher a picture is than its latent.
    pub fn factor(&self) -> usize {
        (1 << (self.block_out_channels.len() - 1)) * self.stride
    }
}

/// How the strided end of the decoder is computed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Partition {
    /// Band by band; the bands cannot be seen.
    #[default]
    Exact,
    /// As Diffusion-4K's released code does: the same picture, one pixel further right and down.
    Legacy,
    /// In one piece.
    Off,
}

/// The autoencoder.
pub struct Vae {
    config: Config,
    encoder: Encoder,
    decoder: Decoder,
    quant: Option<Conv2d>,
    post_quant: Option<Conv2d>,
}

impl Vae {
    /// Makes it of weights with diffusers' names.
    ///
    /// # Errors
    /// The tensors cannot be read.
    pub fn load(config: &Config, weights: &Weights) -> Result<Self> {
        let n = config.latent_channels;
        let quant = |wanted: bool, name: &str, n: usize| {
            wanted.then(|| Conv2d::load(&weights.at(name), n, n, 1, 1, 0)).transpose()
        };
        Ok(Self {
            encoder: Encoder::load(config, &weights.at("encoder"))?,
            decoder: Decoder::load(config, &weights.at("decoder"))?,
            quant: quant(config.use_quant_conv, "quant_conv", 2 * n)?,
            post_quant: quant(config.use_post_quant_conv, "post_quant_conv", n)?,
            config: config.clone(),
        })
    }

    /// Its config.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The mean and the logarithm of the variance of the latent of `image` [B, 3, H, W] in −1 to 1, each
    /// [B, C, H/factor, W/factor], before scaling. Temporary tensors are kept near `budget` bytes.
    ///
    /// # Errors
    /// Sizes that are no multiple of the factor, or no memory.
    pub fn encode(&self, image: &Tensor, budget: usize) -> Result<(Tensor, Tensor)> {
        let (_, _, height, width) = image.dims4()?;
        let factor = self.config.factor();
        if height % factor != 0 || width % factor != 0 {
            candle_core::bail!("a picture of {width}×{height}: both must be multiples of {factor}");
        }
        let moments = self.encoder.forward(image, Bands { budget })?;
        let moments = match &self.quant {
            Some(conv) => conv.forward(&moments)?,
            None => moments,
        };
        let mut halves = moments.chunk(2, 1)?.into_iter();
        let (mean, log_variance) = (halves.next(), halves.next());
        match (mean, log_variance) {
            (Some(mean), Some(log_variance)) => Ok((mean, log_variance.clamp(-30_f32, 20_f32)?)),
            _ => candle_core::bail!("the encoder's output has no two halves"),
        }
    }

    /// The transformer's latent of what [`encode`](Self::encode) gives.
    ///
    /// # Errors
    /// No memory.
    pub fn scale(&self, latent: &Tensor) -> Result<Tensor> {
        (latent - self.config.shift_factor.unwrap_or(0.0))? * self.config.scaling_factor
    }

    /// The opposite of [`scale`](Self::scale).
    ///
    /// # Errors
    /// No memory.
    pub fn unscale(&self, latent: &Tensor) -> Result<Tensor> {
        (latent / self.config.scaling_factor)? + self.config.shift_factor.unwrap_or(0.0)
    }

    /// The picture [B, 3, H, W], about −1 to 1, of an unscaled latent [B, C, H/factor, W/factor].
    /// Temporary tensors are kept near `budget` bytes by working band by band; the result is the same.
    ///
    /// # Errors
    /// `Legacy` where nothing is strided, or no memory.
    pub fn decode(&self, latent: &Tensor, partition: Partition, budget: usize) -> Result<Tensor> {
        if partition == Partition::Legacy && self.config.stride == 1 {
            candle_core::bail!("partition = \"legacy\" is for strided autoencoders; this one has stride 1");
        }
        let latent = match &self.post_quant {
            Some(conv) => conv.forward(latent)?,
            None => latent.clone(),
        };
        self.decoder.forward(&latent, partition, Bands { budget })
    }
}

/// How large the temporary tensors of one band may be.
#[derive(Clone, Copy)]
struct Bands {
    budget: usize,
}

impl Bands {
    /// How many rows of [C, ·, W] go at a time: a row takes about four copies in f32.
    fn rows(self, x: &Tensor, grows: usize) -> Result<usize> {
        let (n_batch, n_channels, height, width) = x.dims4()?;
        let row = n_batch * n_channels * width * 16 * grows * grows;
        let rows = (self.budget / row.max(1)).max(8);
        Ok(if rows >= height { height } else { rows })
    }
}

/// A normalisation followed by SiLU, ready to be applied to any rows of the tensor that it was measured on.
struct Activated {
    factor: Tensor,
    summand: Tensor,
}

impl Activated {
    fn measure(norm: &GroupNorm, x: &Tensor, bands: Bands) -> Result<Self> {
        let (factor, summand) = norm.affine(x, bands.rows(x, 1)?)?;
        Ok(Self { factor, summand })
    }

    fn apply(&self, rows: &Tensor) -> Result<Tensor> {
        let y = rows.to_dtype(DType::F32)?.broadcast_mul(&self.factor)?.broadcast_add(&self.summand)?;
        y.silu()?.to_dtype(rows.dtype())
    }
}

/// What happens to rows before they are convolved.
#[derive(Clone, Copy)]
struct Before<'a> {
    activated: Option<&'a Activated>,
    /// Rows and columns are doubled.
    double: bool,
}

impl Before<'_> {
    fn apply(&self, rows: &Tensor) -> Result<Tensor> {
        let rows = match self.activated {
            Some(activated) => activated.apply(rows)?,
            None => rows.clone(),
        };
        if !self.double {
            return Ok(rows);
        }
        let (_, _, height, width) = rows.dims4()?;
        rows.upsample_nearest2d(2 * height, 2 * width)
    }
}

/// A 3×3 convolution of stride 1 that keeps the size, of what `before` makes of `x`, in bands of `rows` rows of `x`.
/// `lag` 1 gives the result of one pixel further up and left, as if the picture went on in zeros there.
fn convolve(x: &Tensor, before: Before, conv: &Conv2d, rows: usize, lag: usize) -> Result<Tensor> {
    let (n_batch, _, height, width) = x.dims4()?;
    let grows = if before.double { 2 } else { 1 };
    let width = width * grows;
    if rows >= height {
        let y = conv.forward_padded(&before.apply(x)?, 1 + lag)?;
        return if lag == 0 { Ok(y) } else { y.narrow(2, 0, height * grows)?.narrow(3, 0, width)?.contiguous() };
    }
    let y = Tensor::zeros((n_batch, conv.n_out(), height * grows, width), x.dtype(), x.device())?;
    for first in (0..height).step_by(rows) {
        let last = (first + rows).min(height);
        // One row more on each side, where there is one.
        let (from, to) = (first.saturating_sub(1), (last + 1).min(height));
        let band = conv.forward_padded(&before.apply(&x.narrow(2, from, to - from)?)?, 1 + lag)?;
        // The band's first row of the result is that of row `from`, less `lag`, which is what the result's own lags by.
        let band = band.narrow(2, (first - from) * grows, (last - first) * grows)?.narrow(3, 0, width)?;
        y.slice_set(&band.contiguous()?, 2, first * grows)?;
    }
    Ok(y)
}

struct ResBlock {
    norm1: GroupNorm,
    conv1: Conv2d,
    norm2: GroupNorm,
    conv2: Conv2d,
    shortcut: Option<Conv2d>,
}

impl ResBlock {
    fn load(config: &Config, n_in: usize, n_out: usize, weights: &Weights) -> Result<Self> {
        let n_groups = config.norm_num_groups;
        let shortcut =
            (n_in != n_out).then(|| Conv2d::load(&weights.at("conv_shortcut"), n_in, n_out, 1, 1, 0)).transpose()?;
        Ok(Self {
            norm1: GroupNorm::load(&weights.at("norm1"), n_groups, n_in, EPS)?,
            conv1: Conv2d::load(&weights.at("conv1"), n_in, n_out, 3, 1, 1)?,
            norm2: GroupNorm::load(&weights.at("norm2"), n_groups, n_out, EPS)?,
            conv2: Conv2d::load(&weights.at("conv2"), n_out, n_out, 3, 1, 1)?,
            shortcut,
        })
    }

    fn forward(&self, x: &Tensor, bands: Bands) -> Result<Tensor> {
        let inner = norm_convolve(x, &self.norm1, &self.conv1, bands)?;
        let inner = norm_convolve(&inner, &self.norm2, &self.conv2, bands)?;
        match &self.shortcut {
            Some(conv) => conv.forward(x)? + inner,
            None => x + inner,
        }
    }
}

fn norm_convolve(x: &Tensor, norm: &GroupNorm, conv: &Conv2d, bands: Bands) -> Result<Tensor> {
    let activated = Activated::measure(norm, x, bands)?;
    convolve(x, Before { activated: Some(&activated), double: false }, conv, bands.rows(x, 1)?, 0)
}

/// Attention of one head over all pixels.
struct PixelAttention {
    norm: GroupNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
}

impl PixelAttention {
    fn load(config: &Config, n: usize, weights: &Weights) -> Result<Self> {
        // Old packages have other names.
        let names = if weights.has("to_q.weight") {
            ["to_q", "to_k", "to_v", "to_out.0"]
        } else {
            ["query", "key", "value", "proj_attn"]
        };
        let linear = |name: &str| Linear::load(&weights.at(name), n, n, true);
        Ok(Self {
            norm: GroupNorm::load(&weights.at("group_norm"), config.norm_num_groups, n, EPS)?,
            q: linear(names[0])?,
            k: linear(names[1])?,
            v: linear(names[2])?,
            out: linear(names[3])?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (n_batch, n_channels, height, width) = x.dims4()?;
        let tokens = self.norm.forward(x)?.flatten_from(2)?.transpose(1, 2)?.contiguous()?;
        let one_head = |linear: &Linear| linear.forward(&tokens)?.unsqueeze(1);
        let scale = 1.0 / (n_channels as f64).sqrt();
        let attended = attention(&one_head(&self.q)?, &one_head(&self.k)?, &one_head(&self.v)?, scale, None)?;
        let y = self.out.forward(&attended.squeeze(1)?)?.transpose(1, 2)?.contiguous()?;
        x + y.reshape((n_batch, n_channels, height, width))?
    }
}

struct Middle {
    first: ResBlock,
    attention: Option<PixelAttention>,
    second: ResBlock,
}

impl Middle {
    fn load(config: &Config, n: usize, weights: &Weights) -> Result<Self> {
        let attention = config
            .mid_block_add_attention
            .then(|| PixelAttention::load(config, n, &weights.at("attentions.0")))
            .transpose()?;
        Ok(Self {
            first: ResBlock::load(config, n, n, &weights.at("resnets.0"))?,
            attention,
            second: ResBlock::load(config, n, n, &weights.at("resnets.1"))?,
        })
    }

    fn forward(&self, x: &Tensor, bands: Bands) -> Result<Tensor> {
        let x = self.first.forward(x, bands)?;
        let x = match &self.attention {
            Some(attention) => attention.forward(&x)?,
            None => x,
        };
        self.second.forward(&x, bands)
    }
}

/// Residual blocks, and a convolution that changes the size.
struct Stage {
    blocks: Vec<ResBlock>,
    resize: Option<Conv2d>,
}

struct Encoder {
    conv_in: Conv2d,
    stages: Vec<Stage>,
    middle: Middle,
    norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Encoder {
    fn load(config: &Config, weights: &Weights) -> Result<Self> {
        let channels = &config.block_out_channels;
        let (first, deepest) = (channels[0], channels[channels.len() - 1]);
        let mut n_in = first;
        let mut stages = Vec::with_capacity(channels.len());
        for (idx, &n_out) in channels.iter().enumerate() {
            let at = weights.at(format!("down_blocks.{idx}"));
            let mut blocks = Vec::with_capacity(config.layers_per_block);
            for block in 0..config.layers_per_block {
                blocks.push(ResBlock::load(config, n_in, n_out, &at.at(format!("resnets.{block}")))?);
                n_in = n_out;
            }
            let is_last = idx + 1 == channels.len();
            let resize = (!is_last).then(|| Conv2d::load(&at.at("downsamplers.0.conv"), n_out, n_out, 3, 2, 0));
            stages.push(Stage { blocks, resize: resize.transpose()? });
        }
        Ok(Self {
            conv_in: Conv2d::load(&weights.at("conv_in"), config.in_channels, first, 3, config.stride, 1)?,
            stages,
            middle: Middle::load(config, deepest, &weights.at("mid_block"))?,
            norm_out: GroupNorm::load(&weights.at("conv_norm_out"), config.norm_num_groups, deepest, EPS)?,
            conv_out: Conv2d::load(&weights.at("conv_out"), deepest, 2 * config.latent_channels, 3, 1, 1)?,
        })
    }

    fn forward(&self, image: &Tensor, bands: Bands) -> Result<Tensor> {
        let mut x = self.conv_in.forward(image)?;
        for stage in &self.stages {
            for block in &stage.blocks {
                x = block.forward(&x, bands)?;
            }
            if let Some(conv) = &stage.resize {
                // One column on the right and one row below, nothing on the other sides.
                x = conv.forward(&x.pad_with_zeros(2, 0, 1)?.pad_with_zeros(3, 0, 1)?)?;
            }
        }
        let x = self.middle.forward(&x, bands)?;
        norm_convolve(&x, &self.norm_out, &self.conv_out, bands)
    }
}

struct Decoder {
    conv_in: Conv2d,
    middle: Middle,
    stages: Vec<Stage>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
    double: bool,
}

impl Decoder {
    fn load(config: &Config, weights: &Weights) -> Result<Self> {
        let channels: Vec<usize> = config.block_out_channels.iter().rev().copied().collect();
        let (deepest, last) = (channels[0], channels[channels.len() - 1]);
        let mut n_in = deepest;
        let mut stages = Vec::with_capacity(channels.len());
        for (idx, &n_out) in channels.iter().enumerate() {
            let at = weights.at(format!("up_blocks.{idx}"));
            let mut blocks = Vec::with_capacity(config.layers_per_block + 1);
            for block in 0..=config.layers_per_block {
                blocks.push(ResBlock::load(config, n_in, n_out, &at.at(format!("resnets.{block}")))?);
                n_in = n_out;
            }
            let is_last = idx + 1 == channels.len();
            let resize = (!is_last).then(|| Conv2d::load(&at.at("upsamplers.0.conv"), n_out, n_out, 3, 1, 1));
            stages.push(Stage { blocks, resize: resize.transpose()? });
        }
        Ok(Self {
            conv_in: Conv2d::load(&weights.at("conv_in"), config.latent_channels, deepest, 3, 1, 1)?,
            middle: Middle::load(config, deepest, &weights.at("mid_block"))?,
            stages,
            norm_out: GroupNorm::load(&weights.at("conv_norm_out"), config.norm_num_groups, last, EPS)?,
            conv_out: Conv2d::load(&weights.at("conv_out"), last, config.out_channels, 3, 1, 1)?,
            double: config.stride == 2,
        })
    }

    fn forward(&self, latent: &Tensor, partition: Partition, bands: Bands) -> Result<Tensor> {
        let mut x = self.middle.forward(&self.conv_in.forward(latent)?, bands)?;
        for stage in &self.stages {
            for block in &stage.blocks {
                x = block.forward(&x, bands)?;
            }
            if let Some(conv) = &stage.resize {
                x = convolve(&x, Before { activated: None, double: true }, conv, bands.rows(&x, 2)?, 0)?;
            }
        }
        let activated = Activated::measure(&self.norm_out, &x, bands)?;
        let before = Before { activated: Some(&activated), double: self.double };
        let rows =
            if partition == Partition::Off { x.dim(2)? } else { bands.rows(&x, 1 + usize::from(self.double))? };
        convolve(&x, before, &self.conv_out, rows, usize::from(partition == Partition::Legacy))
    }
}
