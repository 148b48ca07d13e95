//! The two halves of the autoencoder.

use candle_core::{Result, Tensor};

use super::Config;
use super::blocks::{Activated, Bands, Before, EPS, Middle, ResBlock, Stage, convolve, norm_convolve};
use crate::job::task::making::Partition;
use crate::models::layers::{Conv2d, GroupNorm};
use crate::models::weights::Weights;

pub(super) struct Encoder {
    conv_in: Conv2d,
    stages: Vec<Stage>,
    middle: Middle,
    norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Encoder {
    pub(super) fn load(config: &Config, weights: &Weights) -> Result<Self> {
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

    pub(super) fn forward(&self, image: &Tensor, bands: Bands) -> Result<Tensor> {
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

pub(super) struct Decoder {
    conv_in: Conv2d,
    middle: Middle,
    stages: Vec<Stage>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
    double: bool,
}

impl Decoder {
    pub(super) fn load(config: &Config, weights: &Weights) -> Result<Self> {
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

    pub(super) fn forward(&self, latent: &Tensor, partition: Partition, bands: Bands) -> Result<Tensor> {
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
