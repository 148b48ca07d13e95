//! The gradients of a convolution on the CPU, a few channels of the input at a time, which the threads share out: no
//! number depends on how many threads there are.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape};
use rayon::prelude::*;

use super::{Conv, PART};
use crate::gpu::kernels::{Matrix, multiply};

/// How many channels of the input go together.
const CHANNELS: usize = 4;

/// What both gradients know.
#[derive(Clone, Copy)]
struct Sizes {
    kernel: usize,
    size: (usize, usize),
    out_size: (usize, usize),
}

impl Sizes {
    fn plane(&self) -> usize {
        self.size.0 * self.size.1
    }

    fn out_plane(&self) -> usize {
        self.out_size.0 * self.out_size.1
    }

    fn window(&self) -> usize {
        self.kernel * self.kernel
    }

    /// How many rows of the result are looked at together.
    fn rows(&self, n_channels: usize) -> usize {
        (PART / (n_channels * self.window() * self.out_size.1)).clamp(1, self.out_size.0)
    }

    /// The rows in parts: the first number and how many.
    fn parts(&self, n_channels: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (rows, width, height) = (self.rows(n_channels), self.out_size.1, self.out_size.0);
        (0..height).step_by(rows).map(move |first| (first * width, rows.min(height - first) * width))
    }
}

/// From the gradient of the result and the weights: the gradient of what was convolved, [B, C, height, width].
pub(super) struct OfInput {
    pub(super) conv: Conv,
    pub(super) size: (usize, usize),
}

impl CustomOp2 for OfInput {
    fn name(&self) -> &'static str {
        "convolution-input-gradient"
    }

    fn cpu_fwd(&self, g: &CpuStorage, at_g: &Layout, w: &CpuStorage, at_w: &Layout) -> Result<(CpuStorage, Shape)> {
        let (n_batch, n_out, out_height, out_width) = at_g.shape().dims4()?;
        let (_, n_in, kernel, _) = at_w.shape().dims4()?;
        let it = Sizes { kernel, size: self.size, out_size: (out_height, out_width) };
        let (plane, out_plane, window) = (it.plane(), it.out_plane(), it.window());
        let g = &g.as_slice::<f32>()?[at_g.start_offset()..][..n_batch * n_out * out_plane];
        let w = &w.as_slice::<f32>()?[at_w.start_offset()..][..n_out * n_in * window];
        let mut x = vec![0_f32; n_batch * n_in * plane];
        for (x, g) in x.chunks_mut(n_in * plane).zip(g.chunks(n_out * out_plane)) {
            x.par_chunks_mut(CHANNELS * plane).enumerate().for_each(|(idx, x)| {
                let n_own = x.len() / plane;
                let k = n_own * window;
                let w = Matrix { values: &w[idx * CHANNELS * window..], row_stride: 1, column_stride: n_in * window };
                let mut patches = Vec::new();
                for (first, n) in it.parts(n_own) {
                    patches.resize(k * n, 0.0);
                    let g = Matrix { values: &g[first..], row_stride: out_plane, column_stride: 1 };
                    multiply((k, n_out, n), w, g, &mut patches, n, false);
                    self.conv.fold(&patches, it.size, kernel, first / out_width, out_width, x);
                }
            });
        }
        Ok((CpuStorage::F32(x), (n_batch, n_in, self.size.0, self.size.1).into()))
    }
}

/// From what was convolved and the gradient of the result: the gradient of the weights, [O, C, K, K].
pub(super) struct OfWeights {
    pub(super) conv: Conv,
    pub(super) kernel: usize,
}

impl CustomOp2 for OfWeights {
    fn name(&self) -> &'static str {
        "convolution-weight-gradient"
    }

    fn cpu_fwd(&self, x: &CpuStorage, at_x: &Layout, g: &CpuStorage, at_g: &Layout) -> Result<(CpuStorage, Shape)> {
        let (n_batch, n_in, height, width) = at_x.shape().dims4()?;
        let (_, n_out, out_height, out_width) = at_g.shape().dims4()?;
        let it = Sizes { kernel: self.kernel, size: (height, width), out_size: (out_height, out_width) };
        let (plane, out_plane, window) = (it.plane(), it.out_plane(), it.window());
        let x = &x.as_slice::<f32>()?[at_x.start_offset()..][..n_batch * n_in * plane];
        let g = &g.as_slice::<f32>()?[at_g.start_offset()..][..n_batch * n_out * out_plane];
        let channels: Vec<usize> = (0..n_in).step_by(CHANNELS).collect();
        let parts: Vec<Vec<f32>> = channels
            .par_iter()
            .map(|&first_channel| {
                let n_own = CHANNELS.min(n_in - first_channel);
                let k = n_own * window;
                let mut sum = vec![0_f32; n_out * k];
                let mut patches = Vec::new();
                for (x, g) in x.chunks(n_in * plane).zip(g.chunks(n_out * out_plane)) {
                    let x = &x[first_channel * plane..][..n_own * plane];
                    for (first, n) in it.parts(n_own) {
                        patches.resize(k * n, 0.0);
                        self.conv.lay_out(x, it.size, it.kernel, first / out_width, out_width, &mut patches);
                        let g = Matrix { values: &g[first..], row_stride: out_plane, column_stride: 1 };
                        let p = Matrix { values: &patches, row_stride: 1, column_stride: n };
                        multiply((n_out, n, k), g, p, &mut sum, k, true);
                    }
                }
                sum
            })
            .collect();
        let row = n_in * window;
        let mut w = vec![0_f32; n_out * row];
        for (first_channel, part) in channels.into_iter().zip(parts) {
            let k = part.len() / n_out;
            for (w, part) in w.chunks_mut(row).zip(part.chunks(k)) {
                w[first_channel * window..][..k].copy_from_slice(part);
            }
        }
        Ok((CpuStorage::F32(w), (n_out, n_in, self.kernel, self.kernel).into()))
    }
}
