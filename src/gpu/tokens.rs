//! What a transformer does to streams of tokens [B, N, width] beside products and attention: normalise and modulate, add
//! a bias, add what a gate lets through. On CUDA each is one kernel forward and one or two backward.

#[cfg(feature = "cuda")]
pub(super) mod cuda;

use candle_core::{Result, Tensor};

use super::norm::layer_norm;

/// The rows of `x` [B, N, width] normalised (mean 0, variance 1, `eps` under the root), times 1 + `scale`, plus `shift`,
/// the latter two [B, width].
///
/// # Errors
/// Shapes that don't fit, or no memory.
pub fn modulated(x: &Tensor, eps: f64, shift: &Tensor, scale: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if cuda::fits(&[x, shift, scale]) {
        return cuda::modulated(x, eps, shift, scale);
    }
    layer_norm(x, eps)?.broadcast_mul(&(scale.unsqueeze(1)? + 1.0)?)?.broadcast_add(&shift.unsqueeze(1)?)
}

/// `x` + `gate`·`by`, of [B, N, width], and [B, width] for the gate.
///
/// # Errors
/// Shapes that don't fit, or no memory.
pub fn gated(x: &Tensor, gate: &Tensor, by: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if cuda::fits(&[x, gate, by]) {
        return cuda::gated(x, gate, by);
    }
    x + by.broadcast_mul(&gate.unsqueeze(1)?)?
}

/// `x` [M, width] plus `bias` [width] in each row.
///
/// # Errors
/// Shapes that don't fit, or no memory.
pub fn biased(x: &Tensor, bias: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if cuda::fits(&[x, bias]) {
        return cuda::biased(x, bias);
    }
    x.broadcast_add(bias)
}
