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

use std::collections::VecDeque;

use candle_core::{D, DType, Result, Tensor};

pub use blockwise::attention as blockwise;
#[cfg(feature = "cuda")]
use fused::Kept;

use super::tape;

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

/// [`attention`] of `n_heads` heads that stand side by side, scaled by 1/√(head's width): `q` [B, N, W], `k` and `v`
/// [B, M, W]. Returns [B, N, W]. Where a fused kernel does it, this is one node of the graph: nothing is turned or copied.
///
/// # Errors
/// Shapes that don't fit, or no memory.
pub fn multi_head(q: &Tensor, k: &Tensor, v: &Tensor, n_heads: usize) -> Result<Tensor> {
    let width = q.dim(D::Minus1)?;
    if n_heads == 0 || width % n_heads != 0 {
        candle_core::bail!("{width} numbers are no {n_heads} heads");
    }
    let head = width / n_heads;
    let scale = 1.0 / (head as f64).sqrt();
    #[cfg(feature = "cuda")]
    if let Some(out) = fused::multi_head(q, k, v, n_heads, scale)? {
        return Ok(out);
    }
    tape::composite(&[q, k, v], |it| {
        let heads = |x: &Tensor| x.reshape((x.dim(0)?, x.dim(1)?, n_heads, head))?.transpose(1, 2);
        let out = attention(&heads(&it[0])?, &heads(&it[1])?, &heads(&it[2])?, scale, None)?;
        out.transpose(1, 2)?.contiguous()?.flatten_from(2)
    })
}

/// What attentions came to, in the order in which they were computed.
#[derive(Default)]
pub struct Recording {
    kept: VecDeque<Kept>,
}

/// Only fused kernels keep anything.
#[cfg(not(feature = "cuda"))]
type Kept = std::convert::Infallible;

/// Does `work` and keeps what its fused attentions come to, so that [`replaying`] the same work need not compute them
/// again: a fifth of a training step at 4096×4096, for N·(W + heads) numbers each.
pub fn recording<T>(work: impl FnOnce() -> T) -> (T, Recording) {
    #[cfg(feature = "cuda")]
    return fused::recording(work);
    #[cfg(not(feature = "cuda"))]
    (work(), Recording::default())
}

/// Does `work` with the results of attentions that [`recording`] it kept. They must meet the same queries, keys and values,
/// in the same order: that is the caller's promise. Attentions beyond the recording are computed.
pub fn replaying<T>(recording: Recording, work: impl FnOnce() -> T) -> T {
    #[cfg(feature = "cuda")]
    return fused::replaying(recording, work);
    #[cfg(not(feature = "cuda"))]
    {
        drop(recording.kept);
        work()
    }
}
