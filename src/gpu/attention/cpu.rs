//! Attention on the CPU: blocks of keys and values pass by each block of queries, and no score is kept.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use crate::gpu::kernels::{QUERIES, soften};
use crate::gpu::product::{Columns, Lanes, Rows, part, product};

/// Keys of one block: the product with the values takes them as one stretch of its depth.
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
        if y.is_empty() || n_keys == 0 {
            return Ok((CpuStorage::F32(y), (n_batch, n_heads, n_queries, out_width).into()));
        }
        // Every head's keys and values are laid out once, for all of its queries.
        let blocks: Vec<Vec<Block>> = (0..n)
            .into_par_iter()
            .map(|head| {
                let k = &k[head * n_keys * width..][..n_keys * width];
                let v = &v[head * n_keys * out_width..][..n_keys * out_width];
                let pairs = k.chunks(KEYS * width).zip(v.chunks(KEYS * out_width));
                pairs.map(|(k, v)| Block::new(k, v, width, out_width)).collect()
            })
            .collect();
        let heads = y.chunks_mut(n_queries * out_width).zip(q.chunks(n_queries * width)).zip(&blocks);
        let panels: Vec<_> = heads
            .flat_map(|((y, q), blocks)| {
                let panels = y.chunks_mut(QUERIES * out_width).zip(q.chunks(QUERIES * width));
                panels.map(move |(y, q)| (y, q, blocks))
            })
            .collect();
        panels.into_par_iter().with_min_len(4).for_each_init(
            || vec![[0_f32; QUERIES]; KEYS],
            |scores, (y, q, blocks)| stream(q, blocks, width, scores, y),
        );
        Ok((CpuStorage::F32(y), (n_batch, n_heads, n_queries, out_width).into()))
    }
}

/// Some keys, and the values that belong to them.
struct Block {
    n_keys: usize,
    keys: Rows,
    values: Rows,
}

impl Block {
    fn new(k: &[f32], v: &[f32], width: usize, out_width: usize) -> Self {
        let (keys, values) = (Lanes::contiguous(k, width), Lanes::contiguous(v, out_width));
        Self { n_keys: keys.n, keys: Rows::new(keys), values: Rows::new(values.turned()) }
    }
}

/// One panel of queries over all keys. The scores stand with a row for each key: so they already are the columns that the
/// product with the values reads.
fn stream(q: &[f32], blocks: &[Block], width: usize, scores: &mut [[f32; QUERIES]], y: &mut [f32]) {
    let n = q.len() / width;
    let out_width = y.len() / n;
    let q = Columns::new(Lanes::contiguous(q, width));
    let (mut tops, mut sums) = ([f32::NEG_INFINITY; QUERIES], [0_f32; QUERIES]);
    let mut turned = vec![[0_f32; QUERIES]; out_width];
    for block in blocks {
        let scores = &mut scores[..block.n_keys];
        product(&block.keys, &q, scores);
        let shrink = soften(scores, &mut tops, &mut sums);
        for row in &mut turned {
            row.iter_mut().zip(&shrink).for_each(|(it, by)| *it *= by);
        }
        let mut rows: Vec<&mut [f32]> = turned.iter_mut().map(<[f32; QUERIES]>::as_mut_slice).collect();
        part(&block.values, 0, 0, scores.as_flattened(), &mut rows, true);
    }
    for (column, row) in turned.iter().enumerate() {
        for ((value, sum), y) in row.iter().zip(&sums).zip(y.chunks_mut(out_width)) {
            y[column] = value / sum;
        }
    }
}
