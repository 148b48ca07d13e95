//! What both halves of the autoencoder are made of, each part working band by band.

use candle_core::{Result, Tensor};

use super::Config;
use crate::gpu::attention::attention;
use crate::gpu::pointwise::affine_silu;
use crate::models::layers::{Conv2d, GroupNorm, Linear};
use crate::models::weights::Weights;

pub(super) const EPS: f64 = 1e-6;

/// How large the temporary tensors of one band may be.
#[derive(Clone, Copy)]
pub(super) struct Bands {
    pub(super) budget: usize,
}

impl Bands {
    /// How many rows of [C, ·, W] go at a time: a row takes about four copies in f32.
    pub(super) fn rows(self, x: &Tensor, grows: usize) -> Result<usize> {
        let (n_batch, n_channels, height, width) = x.dims4()?;
        let row = n_batch * n_channels * width * 16 * grows * grows;
        let rows = (self.budget / row.max(1)).max(8);
        Ok(if rows >= height { height } else { rows })
    }
}

/// A normalisation followed by SiLU, ready to be applied to any rows of the tensor that it was measured on.
pub(super) struct Activated {
    factor: Tensor,
    summand: Tensor,
}

impl Activated {
    pub(super) fn measure(norm: &GroupNorm, x: &Tensor, bands: Bands) -> Result<Self> {
        let (factor, summand) = norm.affine(x, bands.rows(x, 1)?)?;
        Ok(Self { factor, summand })
    }

    pub(super) fn apply(&self, rows: &Tensor) -> Result<Tensor> {
        affine_silu(rows, &self.factor, &self.summand)
    }
}

/// What happens to rows before they are convolved.
#[derive(Clone, Copy)]
pub(super) struct Before<'a> {
    pub(super) activated: Option<&'a Activated>,
    /// Rows and columns are doubled.
    pub(super) double: bool,
}

impl Before<'_> {
    pub(super) fn apply(&self, rows: &Tensor) -> Result<Tensor> {
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
pub(super) fn convolve(x: &Tensor, before: Before, conv: &Conv2d, rows: usize, lag: usize) -> Result<Tensor> {
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

pub(super) struct ResBlock {
    norm1: GroupNorm,
    conv1: Conv2d,
    norm2: GroupNorm,
    conv2: Conv2d,
    shortcut: Option<Conv2d>,
}

impl ResBlock {
    pub(super) fn load(config: &Config, n_in: usize, n_out: usize, weights: &Weights) -> Result<Self> {
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

    pub(super) fn forward(&self, x: &Tensor, bands: Bands) -> Result<Tensor> {
        let inner = norm_convolve(x, &self.norm1, &self.conv1, bands)?;
        let inner = norm_convolve(&inner, &self.norm2, &self.conv2, bands)?;
        match &self.shortcut {
            Some(conv) => conv.forward(x)? + inner,
            None => x + inner,
        }
    }
}

pub(super) fn norm_convolve(x: &Tensor, norm: &GroupNorm, conv: &Conv2d, bands: Bands) -> Result<Tensor> {
    let activated = Activated::measure(norm, x, bands)?;
    convolve(x, Before { activated: Some(&activated), double: false }, conv, bands.rows(x, 1)?, 0)
}

/// Attention of one head over all pixels.
pub(super) struct PixelAttention {
    norm: GroupNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
}

impl PixelAttention {
    pub(super) fn load(config: &Config, n: usize, weights: &Weights) -> Result<Self> {
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

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (n_batch, n_channels, height, width) = x.dims4()?;
        let tokens = self.norm.forward(x)?.flatten_from(2)?.transpose(1, 2)?.contiguous()?;
        let one_head = |linear: &Linear| linear.forward(&tokens)?.unsqueeze(1);
        let scale = 1.0 / (n_channels as f64).sqrt();
        let attended = attention(&one_head(&self.q)?, &one_head(&self.k)?, &one_head(&self.v)?, scale, None)?;
        let y = self.out.forward(&attended.squeeze(1)?)?.transpose(1, 2)?.contiguous()?;
        x + y.reshape((n_batch, n_channels, height, width))?
    }
}

pub(super) struct Middle {
    first: ResBlock,
    attention: Option<PixelAttention>,
    second: ResBlock,
}

impl Middle {
    pub(super) fn load(config: &Config, n: usize, weights: &Weights) -> Result<Self> {
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

    pub(super) fn forward(&self, x: &Tensor, bands: Bands) -> Result<Tensor> {
        let x = self.first.forward(x, bands)?;
        let x = match &self.attention {
            Some(attention) => attention.forward(&x)?,
            None => x,
        };
        self.second.forward(&x, bands)
    }
}

/// Residual blocks, and a convolution that changes the size.
pub(super) struct Stage {
    pub(super) blocks: Vec<ResBlock>,
    pub(super) resize: Option<Conv2d>,
}
