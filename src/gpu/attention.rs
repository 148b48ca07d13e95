//! Scaled dot-product attention: the one entry for all models.

mod cpu;

use candle_core::{D, DType, Result, Tensor};

/// How many bytes of scores may exist at a time on the CPU; a block of queries has at least one row.
const CPU_SCORES: usize = 64 << 20;
/// The same on a GPU.
const GPU_SCORES: usize = 2 << 30;

/// softmax(scale · q·kᵀ + bias) · v.
///
/// `q` is [B, H, N, D], `k` [B, H, M, D], `v` [B, H, M, E]; `bias` is added to the scores and broadcasts to
/// [B, H, N, M]. Returns [B, H, N, E]. Queries go block by block, so that no more than a bounded part of the
/// N×M scores exists at a time; the result does not depend on the blocks. Scores are summed in f32.
///
/// # Errors
/// Shapes that don't fit, or no memory.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64, bias: Option<&Tensor>) -> Result<Tensor> {
    let (n_batch, n_heads, n_queries, _) = q.dims4()?;
    let n_keys = k.dim(2)?;
    let q = (q * scale)?.contiguous()?;
    let is_tracked = q.track_op() || k.track_op() || v.track_op();
    if q.device().is_cpu() && q.dtype() == DType::F32 && bias.is_none() && !is_tracked {
        return cpu::attention(&q, &k.contiguous()?, &v.contiguous()?);
    }
    let k_t = k.transpose(2, 3)?.contiguous()?;
    let v = v.contiguous()?;
    let budget = if q.device().is_cpu() { CPU_SCORES } else { GPU_SCORES };
    // Scores and their softmax in f32.
    let rows = (budget / (n_batch * n_heads * n_keys * 8).max(1)).clamp(1, n_queries.max(1));
    let block = |first: usize, n: usize| -> Result<Tensor> {
        let mut scores = q.narrow(2, first, n)?.matmul(&k_t)?.to_dtype(DType::F32)?;
        if let Some(bias) = bias {
            let bias = if bias.dim(2)? == 1 { bias.clone() } else { bias.narrow(2, first, n)? };
            scores = scores.broadcast_add(&bias.to_dtype(DType::F32)?)?;
        }
        softmax(&scores)?.to_dtype(v.dtype())?.matmul(&v)
    };
    if rows >= n_queries {
        return block(0, n_queries);
    }
    let blocks: Vec<Tensor> =
        (0..n_queries).step_by(rows).map(|first| block(first, rows.min(n_queries - first))).collect::<Result<_>>()?;
    Tensor::cat(&blocks, 2)
}

/// Softmax over the last dimension.
fn softmax(scores: &Tensor) -> Result<Tensor> {
    // The largest score only keeps the exponentials in range: no gradient flows through it.
    let top = scores.max_keepdim(D::Minus1)?.detach();
    let powers = scores.broadcast_sub(&top)?.exp()?;
    let sum = powers.sum_keepdim(D::Minus1)?;
    powers.broadcast_div(&sum)
}
