//! Scaled dot-product attention: the one entry for all models.

mod blockwise;
#[cfg(feature = "cuda")]
mod cudnn;
#[cfg(feature = "cuda")]
mod fused;
#[cfg(feature = "cuda")]
mod graph;
#[cfg(feature = "cuda")]
mod rows;

use candle_core::{Result, Tensor};

pub use blockwise::attention as blockwise;

/// softmax(scale · q·kᵀ + bias) · v.
///
/// `q` is [B, H, N, D], `k` [B, H, M, D], `v` [B, H, M, E]; `bias` is added to the scores and broadcasts to
/// [B, H, N, M]. Returns [B, H, N, E]. Scores are summed in f32, and never exist as a whole.
///
/// In bf16 and f16 on CUDA, without a bias and with heads up to 256 wide, cuDNN's fused kernels do it, forward and
/// backward, and the result lies in memory as [B, N, H, E]; everything else goes block by block ([`blockwise`]).
///
/// # Errors
/// Shapes that don't fit, or no memory.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64, bias: Option<&Tensor>) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if bias.is_none()
        && let Some(out) = fused::attention(q, k, v, scale)?
    {
        return Ok(out);
    }
    blockwise(q, k, v, scale, bias)
}
