//! The autoencoder between pictures and latents (diffusers' AutoencoderKL), with the strided ends of Diffusion-4K.
//!
//! With `stride` 2 in its config the first convolution halves the picture and the last one works on states that are
//! doubled just before it: the factor between picture and latent is 2^(blocks − 1)·stride.

mod blocks;
mod coders;

use std::path::Path;

use anyhow::ensure;
use candle_core::{Result, Tensor};
use serde::Deserialize;

use super::layers::Conv2d;
use super::package::read_config;
use super::weights::Weights;
use crate::job::task::making::Partition;
use blocks::Bands;
use coders::{Decoder, Encoder};

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
