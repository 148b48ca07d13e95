//! Attention from plain tensor operations, block by block of queries: right everywhere, differentiable by candle.

use candle_core::{D, DType, Result, Tensor};

/// How many bytes of scores and their softmax in f32 may exist at a time on the CPU; a block has at least one query.
const CPU_SCORES: usize = 64 << 20;
/// The same on a GPU, where three copies exist at a time.
const GPU_SCORES: usize = 2 << 30;
/// How many bytes of bf16 scores may exist at a time where their softmax takes their place.
#[cfg(feature = "cuda")]
const GPU_ROWS: usize = 512 << 20;

/// As [`super::attention`]. No more than a bounded part of the N×M scores exists at a time (on CUDA always fewer than
/// 2³¹, as kernels count in 32 bits); the result does not depend on the blocks. Scores are summed in f32.
///
/// # Errors
/// Shapes that don't fit, or no memory.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64, bias: Option<&Tensor>) -> Result<Tensor> {
    let (n_batch, n_heads, ..) = q.dims4()?;
    let per_query = (n_batch * n_heads * k.dim(2)?).max(1);
    let is_trained = [q, k, v].into_iter().chain(bias).any(Tensor::track_op);
    if is_trained && matches!(q.dtype(), DType::BF16 | DType::F16) {
        // Gradients through scores in 16 bits would be off by more than the fused kernels' are.
        let wide = |x: &Tensor| x.to_dtype(DType::F32);
        return attention(&wide(q)?, &wide(k)?, &wide(v)?, scale, bias)?.to_dtype(q.dtype());
    }
    let k_t = k.transpose(2, 3)?.contiguous()?;
    let v = v.contiguous()?;
    #[cfg(feature = "cuda")]
    if bias.is_none() && !is_trained && q.device().is_cuda() && q.dtype() == DType::BF16 {
        return by_blocks(&q.contiguous()?, GPU_ROWS / (per_query * 2), |q, _| {
            let scores = q.matmul(&k_t)?;
            super::rows::softmax(&scores, scale)?;
            scores.matmul(&v)
        });
    }
    let q = (q * scale)?.contiguous()?;
    let rows = if q.device().is_cpu() { CPU_SCORES / (per_query * 8) } else { GPU_SCORES / (per_query * 12) };
    by_blocks(&q, rows, |q, first| {
        let mut scores = q.matmul(&k_t)?.to_dtype(DType::F32)?;
        if let Some(bias) = bias {
            let bias = if bias.dim(2)? == 1 { bias.clone() } else { bias.narrow(2, first, q.dim(2)?)? };
            scores = scores.broadcast_add(&bias.to_dtype(DType::F32)?)?;
        }
        // The largest score only keeps the exponentials in range: no gradient flows through it.
        let top = scores.max_keepdim(D::Minus1)?.detach();
        let powers = scores.broadcast_sub(&top)?.exp()?;
        let sum = powers.sum_keepdim(D::Minus1)?;
        // Dividing the result is one pass over the scores less than dividing the powers.
        let mixed = powers.to_dtype(v.dtype())?.matmul(&v)?.to_dtype(DType::F32)?;
        mixed.broadcast_div(&sum)?.to_dtype(v.dtype())
    })
}

/// `work` of each block of so many queries and the first one's index, joined again.
fn by_blocks(q: &Tensor, rows: usize, work: impl Fn(&Tensor, usize) -> Result<Tensor>) -> Result<Tensor> {
    let n_queries = q.dim(2)?;
    let rows = rows.clamp(1, n_queries.max(1));
    if rows >= n_queries {
        return work(q, 0);
    }
    let block = |first: usize| work(&q.narrow(2, first, rows.min(n_queries - first))?, first);
    let blocks: Vec<Tensor> = (0..n_queries).step_by(rows).map(block).collect::<Result<_>>()?;
    Tensor::cat(&blocks, 2)
}
