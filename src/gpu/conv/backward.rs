//! The gradients of a convolution on the CPU, a few channels of the input at a time, which the threads share out: no
//! number depends on how many threads there are.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape};
use rayon::prelude::*;

use super::Conv;
use crate::gpu::product::{Lanes, multiply};

/// About how many numbers the patches of one part take: they should stay in a core's cache.
const PART: usize = 1 << 19;

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
                let w = &w[idx * CHANNELS * window..];
                let w = Lanes { values: w, n: k, depth: n_out, stride: 1, depth_stride: n_in * window };
                let mut patches = Vec::new();
                for (first, n) in it.parts(n_own) {
                    patches.resize(k * n, 0.0);
                    let g = Lanes { values: &g[first..], n, depth: n_out, stride: 1, depth_stride: out_plane };
                    multiply(w, g, &mut patches, false);
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
                        let g = Lanes { values: &g[first..], n: n_out, depth: n, stride: out_plane, depth_stride: 1 };
                        multiply(g, Lanes::contiguous(&patches, n), &mut sum, true);
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

impl Conv {
    /// Fills `patches` [C·K·K, rows·out_width] with what the rows from `first` on see of `x`, zeros outside it.
    fn lay_out(
        &self,
        x: &[f32],
        size: (usize, usize),
        kernel: usize,
        first: usize,
        out_width: usize,
        patches: &mut [f32],
    ) {
        let n = patches.len() / (x.len() / (size.0 * size.1) * kernel * kernel);
        let mut lines = patches.chunks_mut(n);
        for channel in x.chunks(size.0 * size.1) {
            for at in (0..kernel).flat_map(|dy| (0..kernel).map(move |dx| (dy, dx))) {
                let Some(line) = lines.next() else { return };
                for (row, line) in line.chunks_mut(out_width).enumerate() {
                    let Some((from, to, start)) = self.seen(size, at, first + row, out_width) else {
                        line.fill(0.0);
                        continue;
                    };
                    line[..from].fill(0.0);
                    line[to..].fill(0.0);
                    if self.stride == 1 {
                        line[from..to].copy_from_slice(&channel[start..start + to - from]);
                    } else {
                        let pixels = channel[start..].iter().step_by(self.stride);
                        line[from..to].iter_mut().zip(pixels).for_each(|(to, from)| *to = *from);
                    }
                }
            }
        }
    }

    /// The opposite of [`lay_out`](Self::lay_out): adds each number of `patches` to the pixel of `x` that it was of.
    fn fold(
        &self,
        patches: &[f32],
        size: (usize, usize),
        kernel: usize,
        first: usize,
        out_width: usize,
        x: &mut [f32],
    ) {
        let n = patches.len() / (x.len() / (size.0 * size.1) * kernel * kernel);
        let mut lines = patches.chunks(n);
        for channel in x.chunks_mut(size.0 * size.1) {
            for at in (0..kernel).flat_map(|dy| (0..kernel).map(move |dx| (dy, dx))) {
                let Some(line) = lines.next() else { return };
                for (row, line) in line.chunks(out_width).enumerate() {
                    let Some((from, to, start)) = self.seen(size, at, first + row, out_width) else { continue };
                    let pixels = channel[start..].iter_mut().step_by(self.stride);
                    line[from..to].iter().zip(pixels).for_each(|(from, to)| *to += *from);
                }
            }
        }
    }

    /// Of row `row` of the result, at place `(dy, dx)` of the window: from which column to which its pixels lie inside
    /// the picture, and where the first of them is; none if there are none.
    fn seen(
        &self,
        (height, width): (usize, usize),
        (dy, dx): (usize, usize),
        row: usize,
        out_width: usize,
    ) -> Option<(usize, usize, usize)> {
        let from = self.padding.saturating_sub(dx).div_ceil(self.stride).min(out_width);
        let to = (width + self.padding).saturating_sub(dx).div_ceil(self.stride).clamp(from, out_width);
        let y = (row * self.stride + dy).wrapping_sub(self.padding);
        (y < height && from < to).then(|| (from, to, y * width + from * self.stride + dx - self.padding))
    }
}
