//! The layers that models are made of. All carry gradients.

use candle_core::{DType, Result, Tensor};

use super::weights::Weights;
use crate::gpu::linear::linear;
use crate::gpu::pointwise::SigmoidGate;
use crate::gpu::tape::composite;
use crate::gpu::{conv, norm};

/// y = x·Wᵀ + b.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// `weight` [n_out, n_in] and, if wanted, `bias` [n_out].
    ///
    /// # Errors
    /// The tensors cannot be read.
    pub fn load(weights: &Weights, n_in: usize, n_out: usize, bias: bool) -> Result<Self> {
        let weight = weights.get((n_out, n_in), "weight")?;
        let bias = if bias { Some(weights.get(n_out, "bias")?) } else { None };
        Ok(Self { weight, bias })
    }

    /// How many numbers come out.
    pub fn n_out(&self) -> usize {
        self.weight.dims()[0]
    }

    /// `x` [.., n_in] to [.., n_out].
    ///
    /// # Errors
    /// Shapes that don't fit, or no memory.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        linear(x, &self.weight, self.bias.as_ref())
    }
}

/// A convolution over height and width.
#[derive(Clone, Debug)]
pub struct Conv2d {
    weight: Tensor,
    bias: Tensor,
    stride: usize,
    padding: usize,
}

impl Conv2d {
    /// `weight` [n_out, n_in, kernel, kernel] and `bias` [n_out].
    ///
    /// # Errors
    /// The tensors cannot be read.
    pub fn load(
        weights: &Weights,
        n_in: usize,
        n_out: usize,
        kernel: usize,
        stride: usize,
        padding: usize,
    ) -> Result<Self> {
        let weight = weights.get((n_out, n_in, kernel, kernel), "weight")?;
        Ok(Self { weight, bias: weights.get(n_out, "bias")?, stride, padding })
    }

    /// `x` [B, n_in, H, W] to [B, n_out, H', W'].
    ///
    /// # Errors
    /// Shapes that don't fit, or no memory.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_padded(x, self.padding)
    }

    /// The same with another padding than the layer's own.
    ///
    /// # Errors
    /// Shapes that don't fit, or no memory.
    pub fn forward_padded(&self, x: &Tensor, padding: usize) -> Result<Tensor> {
        let y = conv::conv2d(x, &self.weight, self.stride, padding)?;
        y.broadcast_add(&self.bias.reshape((1, (), 1, 1))?)
    }

    /// How many channels come out.
    pub fn n_out(&self) -> usize {
        self.weight.dims()[0]
    }
}

/// Layer normalisation with weight and bias, over the last dimension.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// `weight` and `bias`, both [n].
    ///
    /// # Errors
    /// The tensors cannot be read.
    pub fn load(weights: &Weights, n: usize, eps: f64) -> Result<Self> {
        Ok(Self { weight: weights.get(n, "weight")?, bias: weights.get(n, "bias")?, eps })
    }

    /// `x` [.., n] to the same.
    ///
    /// # Errors
    /// Shapes that don't fit, or no memory.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        norm::layer_norm(x, self.eps)?.broadcast_mul(&self.weight)?.broadcast_add(&self.bias)
    }
}

/// Root-mean-square normalisation with a weight, over the last dimension.
#[derive(Clone, Debug)]
pub struct RmsNorm {
    weight: Tensor,
    eps: f64,
}

impl RmsNorm {
    /// `weight` [n].
    ///
    /// # Errors
    /// The tensor cannot be read.
    pub fn load(weights: &Weights, n: usize, eps: f64) -> Result<Self> {
        Ok(Self { weight: weights.get(n, "weight")?, eps })
    }

    /// `x` [.., n] to the same.
    ///
    /// # Errors
    /// Shapes that don't fit, or no memory.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        norm::rms_norm(x, self.eps)?.broadcast_mul(&self.weight)
    }

    /// The same for each of the heads that stand side by side: `x` [B, N, heads · n].
    ///
    /// # Errors
    /// Shapes that don't fit, or no memory.
    pub fn forward_heads(&self, x: &Tensor) -> Result<Tensor> {
        composite(&[x, &self.weight], |it| {
            let (n_batch, n, width) = it[0].dims3()?;
            let head = it[1].dim(0)?;
            let heads = it[0].reshape((n_batch, n, width / head, head))?;
            norm::rms_norm(&heads, self.eps)?.broadcast_mul(&it[1])?.reshape((n_batch, n, width))
        })
    }
}

/// Normalisation over groups of channels, with a weight and a bias for each channel.
#[derive(Clone, Debug)]
pub struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    n_groups: usize,
    eps: f64,
}

impl GroupNorm {
    /// `weight` and `bias`, both [n_channels].
    ///
    /// # Errors
    /// The tensors cannot be read.
    pub fn load(weights: &Weights, n_groups: usize, n_channels: usize, eps: f64) -> Result<Self> {
        let (weight, bias) = (weights.get(n_channels, "weight")?, weights.get(n_channels, "bias")?);
        Ok(Self { weight, bias, n_groups, eps })
    }

    /// What the normalisation of `x` [B, C, H, W] comes to for each channel: a factor and a summand, [B, C, 1, 1] in
    /// f32. Rows are summed in bands of `band` rows.
    ///
    /// # Errors
    /// Shapes that don't fit, or no memory.
    pub fn affine(&self, x: &Tensor, band: usize) -> Result<(Tensor, Tensor)> {
        let (mean, scale) = norm::group_statistics(x, self.n_groups, self.eps, band)?;
        let (n_batch, n_channels) = (x.dim(0)?, x.dim(1)?);
        let shape = (n_batch, self.n_groups, n_channels / self.n_groups);
        let weight = self.weight.to_dtype(DType::F32)?.reshape((1, shape.1, shape.2))?;
        let bias = self.bias.to_dtype(DType::F32)?.reshape((1, shape.1, shape.2))?;
        let factor = weight.broadcast_mul(&scale)?;
        let summand = bias.broadcast_sub(&factor.broadcast_mul(&mean)?)?;
        let shape = (n_batch, n_channels, 1, 1);
        Ok((factor.reshape(shape)?, summand.reshape(shape)?))
    }

    /// `x` [B, C, H, W] to the same.
    ///
    /// # Errors
    /// Shapes that don't fit, or no memory.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (factor, summand) = self.affine(x, x.dim(2)?)?;
        x.to_dtype(DType::F32)?.broadcast_mul(&factor)?.broadcast_add(&summand)?.to_dtype(x.dtype())
    }
}

/// A function of each number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Activation {
    /// x·sigmoid(x)
    Silu,
    /// x·Φ(x), with the error function.
    Gelu,
    /// Its approximation with tanh.
    GeluTanh,
    /// x·sigmoid(1.702 x)
    QuickGelu,
    /// max(x, 0)
    Relu,
}

impl Activation {
    /// `x` to the same shape.
    ///
    /// # Errors
    /// No memory.
    pub fn forward(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Silu => SigmoidGate::SILU.forward(x),
            Self::Gelu => x.gelu_erf(),
            Self::GeluTanh => SigmoidGate::GELU_TANH.forward(x),
            Self::QuickGelu => SigmoidGate::QUICK_GELU.forward(x),
            Self::Relu => x.relu(),
        }
    }
}
