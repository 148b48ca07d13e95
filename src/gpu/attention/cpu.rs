//! Attention on the CPU: blocks of keys and values pass by each block of queries, and no score is kept.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use crate::gpu::kernels::{Matrix, exponentials, multiply, raise_tops, transposed};

/// Queries of one block.
const QUERIES: usize = 256;
/// Keys of one block.
const KEYS: usize = 256;

/// softmax(q·kᵀ)·v of contiguous f32 [B, H, ·, ·]; `q` is scaled already. Streaming softmax: Milakov and Gimelshein 2018
/// (arXiv:1805.02867).
pub(super) fn attention(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
    q.apply_op3_no_bwd(k, v, &Streaming)
}

struct Streaming;

impl CustomOp3 for Streaming {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        at_q: &Layout,
        k: &CpuStorage,
        at_k: &Layout,
        v: &CpuStorage,
        at_v: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (n_batch, n_heads, n_queries, width) = at_q.shape().dims4()?;
        let (_, _, n_keys, _) = at_k.shape().dims4()?;
        let (_, _, _, out_width) = at_v.shape().dims4()?;
        let n = n_batch * n_heads;
        let q = &q.as_slice::<f32>()?[at_q.start_offset()..][..n * n_queries * width];
        let k = &k.as_slice::<f32>()?[at_k.start_offset()..][..n * n_keys * width];
        let v = &v.as_slice::<f32>()?[at_v.start_offset()..][..n * n_keys * out_width];
        let mut y = vec![0_f32; n * n_queries * out_width];
        let per_head = n_queries.div_ceil(QUERIES);
        let heads = y.chunks_mut(n_queries * out_width).enumerate();
        let blocks: Vec<(usize, usize, &mut [f32])> = heads
            .flat_map(|(head, y)| y.chunks_mut(QUERIES * out_width).enumerate().map(move |(idx, y)| (head, idx, y)))
            .collect();
        debug_assert_eq!(blocks.len(), n * per_head);
        blocks.into_par_iter().for_each_init(
            || vec![0_f32; QUERIES * KEYS],
            |scores, (head, idx, y)| {
                let q = &q[(head * n_queries + idx * QUERIES) * width..][..y.len() / out_width * width];
                let k = &k[head * n_keys * width..][..n_keys * width];
                let v = &v[head * n_keys * out_width..][..n_keys * out_width];
                stream(q, k, v, width, out_width, scores, y);
            },
        );
        Ok((CpuStorage::F32(y), (n_batch, n_heads, n_queries, out_width).into()))
    }
}

/// One block of queries over all keys. Scores stand with a row for each key, so that the softmax works on whole runs of
/// queries and the products read whole runs too.
fn stream(q: &[f32], k: &[f32], v: &[f32], width: usize, out_width: usize, scores: &mut [f32], y: &mut [f32]) {
    let n = q.len() / width;
    let q = transposed(q, n, width);
    let q = Matrix { values: &q, row_stride: n, column_stride: 1 };
    let (mut tops, mut sums) = (vec![f32::NEG_INFINITY; n], vec![0_f32; n]);
    let mut turned = vec![0_f32; out_width * n];
    for (k, v) in k.chunks(KEYS * width).zip(v.chunks(KEYS * out_width)) {
        let n_keys = k.len() / width;
        let scores = &mut scores[..n * n_keys];
        multiply((n_keys, width, n), Matrix { values: k, row_stride: width, column_stride: 1 }, q, scores, n, false);
        let old = tops.clone();
        raise_tops(scores, &mut tops);
        let shrink: Vec<f32> = old.iter().zip(&tops).map(|(old, top)| (old - top).exp()).collect();
        sums.iter_mut().zip(&shrink).for_each(|(sum, by)| *sum *= by);
        for row in turned.chunks_mut(n) {
            row.iter_mut().zip(&shrink).for_each(|(it, by)| *it *= by);
        }
        exponentials(scores, &tops, &mut sums);
        let values = Matrix { values: v, row_stride: 1, column_stride: out_width };
        multiply(
            (out_width, n_keys, n),
            values,
            Matrix { values: scores, row_stride: n, column_stride: 1 },
            &mut turned,
            n,
            true,
        );
    }
    for (column, row) in turned.chunks(n).enumerate() {
        for ((value, sum), y) in row.iter().zip(&sums).zip(y.chunks_mut(out_width)) {
            y[column] = value / sum;
        }
    }
}
