//! Attention from plain tensor operations, block by block of queries: right everywhere, differentiable by candle.

use candle_core::{D, DType, Result, Tensor};

/// How many bytes of scores may exist at a time on the CPU; a block of queries has at least one row.
const CPU_SCORES: usize = 64 << 20;
/// The same on a GPU, over the three copies that a block makes in f32.
const GPU_SCORES: usize = 2 << 30;
/// Numbers of one tensor of scores: CUDA kernels count in 32 bits.
const MOST_SCORES: usize = (1 << 31) - 1;

/// As [`super::attention`]. No more than a bounded part of the N×M scores exists at a time; the result does not
/// depend on the blocks. Scores are summed in f32.
///
/// # Errors
/// Shapes that don't fit, or no memory.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64, bias: Option<&Tensor>) -> Result<Tensor> {
    let (n_batch, n_heads, n_queries, _) = q.dims4()?;
    let n_keys = k.dim(2)?;
    let q = (q * scale)?.contiguous()?;
    let k_t = k.transpose(2, 3)?.contiguous()?;
    let v = v.contiguous()?;
    let (budget, row) = (n_batch * n_heads * n_keys, n_batch * n_heads * n_keys);
    let rows = match q.device().is_cpu() {
        // Scores and their softmax in f32.
        true => CPU_SCORES / (budget * 8).max(1),
        false => (GPU_SCORES / (budget * 12).max(1)).min(MOST_SCORES / row.max(1)),
    };
    let rows = rows.clamp(1, n_queries.max(1));
    let block = |first: usize, n: usize| -> Result<Tensor> {
        let mut scores = q.narrow(2, first, n)?.matmul(&k_t)?.to_dtype(DType::F32)?;
        if let Some(bias) = bias {
            let bias = if bias.dim(2)? == 1 { bias.clone() } else { bias.narrow(2, first, n)? };
            scores = scores.broadcast_add(&bias.to_dtype(DType::F32)?)?;
        }
        // The largest score only keeps the exponentials in range: no gradient flows through it.
        let top = scores.max_keepdim(D::Minus1)?.detach();
        let powers = scores.broadcast_sub(&top)?.exp()?;
        let sum = powers.sum_keepdim(D::Minus1)?;
        // Dividing the result is one pass over the scores less than dividing the powers.
        let mixed = powers.to_dtype(v.dtype())?.matmul(&v)?.to_dtype(DType::F32)?;
        mixed.broadcast_div(&sum)?.to_dtype(v.dtype())
    };
    if rows >= n_queries {
        return block(0, n_queries);
    }
    let blocks: Vec<Tensor> =
        (0..n_queries).step_by(rows).map(|first| block(first, rows.min(n_queries - first))).collect::<Result<_>>()?;
    Tensor::cat(&blocks, 2)
}
