//! Scaled dot-product attention: the one entry for all models.

mod blockwise;
mod cpu;
#[cfg(feature = "cuda")]
mod cudnn;
#[cfg(feature = "cuda")]
mod fused;
#[cfg(feature = "cuda")]
mod graph;
#[cfg(feature = "cuda")]
mod rows;

use candle_core::{DType, Result, Tensor};

pub use blockwise::attention as blockwise;

/// softmax(scale · q·kᵀ + bias) · v.
///
/// `q` is [B, H, N, D], `k` [B, H, M, D], `v` [B, H, M, E]; `bias` is added to the scores and broadcasts to
/// [B, H, N, M]. Returns [B, H, N, E]. Scores are summed in f32, and never exist as a whole.
///
/// In bf16 and f16 on CUDA, without a bias and with heads up to 256 wide, cuDNN's fused kernels do it, forward and
/// backward, and the result lies in memory as [B, N, H, E]. In f32 on the CPU, without a bias or a gradient, the cores
/// share the work by heads and queries. Everything else goes block by block ([`blockwise()`]).
///
/// # Errors
/// Shapes that don't fit, or no memory.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64, bias: Option<&Tensor>) -> Result<Tensor> {
    if bias.is_some() {
        return blockwise(q, k, v, scale, bias);
    }
    #[cfg(feature = "cuda")]
    if let Some(out) = fused::attention(q, k, v, scale)? {
        return Ok(out);
    }
    let is_tracked = [q, k, v].into_iter().any(Tensor::track_op);
    if q.device().is_cpu() && q.dtype() == DType::F32 && !is_tracked {
        return cpu::attention(&(q * scale)?.contiguous()?, &k.contiguous()?, &v.contiguous()?);
    }
    blockwise(q, k, v, scale, None)
}
