//! CLIP's transformer, which its text and its vision encoder share.

pub mod picture;
pub mod vision;

use candle_core::{Result, Tensor};

use super::layers::{Activation, LayerNorm, Linear};
use super::weights::Weights;
use crate::gpu::attention::attention;

/// What a layer is like.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Shape {
    /// Width of the hidden states.
    pub width: usize,
    /// Width inside the MLP.
    pub inner: usize,
    /// Attention heads, a divisor of `width`.
    pub n_heads: usize,
    /// The MLP's activation.
    pub act: Activation,
    /// Of the layer normalisations.
    pub eps: f64,
}

/// One layer: attention, then an MLP, each behind a normalisation and added to what came in.
pub struct Layer {
    norm1: LayerNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    act: Activation,
    n_heads: usize,
}

impl Layer {
    /// Takes the tensors of one of `encoder.layers`.
    ///
    /// # Errors
    /// The tensors cannot be read.
    pub fn load(shape: &Shape, weights: &Weights) -> Result<Self> {
        let Shape { width, inner, n_heads, act, eps } = *shape;
        let attn = weights.at("self_attn");
        let square = |name: &str| Linear::load(&attn.at(name), width, width, true);
        let mlp = weights.at("mlp");
        Ok(Self {
            norm1: LayerNorm::load(&weights.at("layer_norm1"), width, eps)?,
            q: square("q_proj")?,
            k: square("k_proj")?,
            v: square("v_proj")?,
            out: square("out_proj")?,
            norm2: LayerNorm::load(&weights.at("layer_norm2"), width, eps)?,
            fc1: Linear::load(&mlp.at("fc1"), width, inner, true)?,
            fc2: Linear::load(&mlp.at("fc2"), inner, width, true)?,
            act,
            n_heads,
        })
    }

    /// `x` [B, N, width] to the same; `mask` [1, 1, N, N], where there is one, is added to the attention's scores.
    ///
    /// # Errors
    /// No memory.
    pub fn forward(&self, x: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let (b, n, width) = x.dims3()?;
        let d = width / self.n_heads;
        let normed = self.norm1.forward(x)?;
        let heads = |linear: &Linear| linear.forward(&normed)?.reshape((b, n, self.n_heads, d))?.transpose(1, 2);
        let scale = 1.0 / (d as f64).sqrt();
        let y = attention(&heads(&self.q)?, &heads(&self.k)?, &heads(&self.v)?, scale, mask)?;
        let x = (x + self.out.forward(&y.transpose(1, 2)?.reshape((b, n, width))?)?)?;
        let y = self.act.forward(&self.fc1.forward(&self.norm2.forward(&x)?)?)?;
        &x + self.fc2.forward(&y)?
    }
}
