//! Convolution of images.

mod backward;

use std::ops::Range;

use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use self::backward::{OfInput, OfWeights};
use super::linear::linear;
use super::product::{BLOCK, Lanes, Rows, part};
use super::tile::COLUMNS;

/// Convolves `x` [B, C, H, W] with `weight` [O, C, K, K], the same stride and padding on both axes.
///
/// # Errors
/// Shapes that don't fit, or no memory.
pub fn conv2d(x: &Tensor, weight: &Tensor, stride: usize, padding: usize) -> Result<Tensor> {
    let (_, _, height, width) = x.dims4()?;
    let (_, _, kernel, kernel_width) = weight.dims4()?;
    let is_tracked = x.track_op() || weight.track_op();
    let is_tiled = kernel == stride && kernel_width == stride && padding == 0;
    if is_tracked && is_tiled && height.is_multiple_of(stride) && width.is_multiple_of(stride) {
        return tiles(x, weight);
    }
    if x.device().is_cpu() && x.dtype() == DType::F32 && kernel == kernel_width {
        return x.contiguous()?.apply_op2(&weight.contiguous()?, Conv { stride, padding });
    }
    x.conv2d(weight, padding, stride, 1, 1)
}

/// A convolution whose windows lie side by side is one product, and its gradients are products too.
fn tiles(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let (n_batch, n_in, height, width) = x.dims4()?;
    let (n_out, _, side, _) = weight.dims4()?;
    let (rows, columns) = (height / side, width / side);
    let windows = x.reshape((n_batch, n_in, rows, side, columns, side))?.permute((0, 2, 4, 1, 3, 5))?;
    let windows = windows.contiguous()?.reshape((n_batch * rows * columns, n_in * side * side))?;
    let y = linear(&windows, &weight.reshape((n_out, n_in * side * side))?, None)?;
    y.reshape((n_batch, rows, columns, n_out))?.permute((0, 3, 1, 2))?.contiguous()
}

#[derive(Clone, Copy)]
struct Conv {
    stride: usize,
    padding: usize,
}

impl CustomOp2 for Conv {
    fn name(&self) -> &'static str {
        "convolution"
    }

    /// A block of pixels of the result at a time: what they see is laid out as the product reads it.
    fn cpu_fwd(&self, x: &CpuStorage, at_x: &Layout, w: &CpuStorage, at_w: &Layout) -> Result<(CpuStorage, Shape)> {
        let (n_batch, n_in, height, width) = at_x.shape().dims4()?;
        let (n_out, n_in_of_w, kernel, _) = at_w.shape().dims4()?;
        let (padded_height, padded_width) = (height + 2 * self.padding, width + 2 * self.padding);
        if n_in != n_in_of_w || padded_height < kernel || padded_width < kernel {
            candle_core::bail!("{:?} cannot be convolved with {:?}", at_x.shape(), at_w.shape());
        }
        let out_height = (padded_height - kernel) / self.stride + 1;
        let out_width = (padded_width - kernel) / self.stride + 1;
        let plane = height * width;
        let x = &x.as_slice::<f32>()?[at_x.start_offset()..][..n_batch * n_in * plane];
        let k = n_in * kernel * kernel;
        let w = &w.as_slice::<f32>()?[at_w.start_offset()..][..n_out * k];
        let w = Rows::new(Lanes::contiguous(w, k));
        let out_plane = out_height * out_width;
        let mut y = vec![0_f32; n_batch * n_out * out_plane];
        for (x, y) in x.chunks(n_in * plane).zip(y.chunks_mut(n_out * out_plane)) {
            let seen = Seen { conv: self, x, height, width, kernel, out_width };
            split(y, out_plane).into_par_iter().for_each_init(Vec::new, |panels, (first, mut channels)| {
                for (idx, stretch) in w.stretches().iter().enumerate() {
                    let n_padded = channels[0].len().next_multiple_of(COLUMNS);
                    panels.resize(n_padded * stretch.len(), 0.0);
                    seen.lay_out(stretch.clone(), first, channels[0].len(), panels);
                    part(&w, idx, 0, panels, &mut channels, idx > 0);
                }
            });
        }
        Ok((CpuStorage::F32(y), (n_batch, n_out, out_height, out_width).into()))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let (_, _, height, width) = x.dims4()?;
        let of_x = if x.track_op() {
            Some(grad.apply_op2_no_bwd(w, &OfInput { conv: *self, size: (height, width) })?)
        } else {
            None
        };
        let of_w = if w.track_op() {
            Some(x.apply_op2_no_bwd(&grad, &OfWeights { conv: *self, kernel: w.dim(2)? })?)
        } else {
            None
        };
        Ok((of_x, of_w))
    }
}

/// The planes of one image cut into blocks of pixels: each block's first pixel and its piece of every plane.
fn split(image: &mut [f32], plane: usize) -> Vec<(usize, Vec<&mut [f32]>)> {
    let mut blocks: Vec<(usize, Vec<&mut [f32]>)> =
        (0..plane).step_by(BLOCK).map(|first| (first, Vec::new())).collect();
    for plane in image.chunks_mut(plane.max(1)) {
        for (piece, block) in plane.chunks_mut(BLOCK).zip(&mut blocks) {
            block.1.push(piece);
        }
    }
    blocks
}

/// What each pixel of the result sees of one image.
struct Seen<'a> {
    conv: &'a Conv,
    x: &'a [f32],
    height: usize,
    width: usize,
    kernel: usize,
    out_width: usize,
}

impl Seen<'_> {
    /// Fills panels of columns, a column for each of `n` pixels of the result from `first` on, with a stretch of what they
    /// see: channel by channel, row by row of the kernel; zeros outside the image.
    fn lay_out(&self, stretch: Range<usize>, first: usize, n: usize, panels: &mut [f32]) {
        let (stride, padding) = (self.conv.stride, self.conv.padding);
        let depth = stretch.len();
        for (number, seen) in stretch.enumerate() {
            let (channel, dy, dx) = (seen / self.kernel.pow(2), seen / self.kernel % self.kernel, seen % self.kernel);
            let plane = &self.x[channel * self.height * self.width..][..self.height * self.width];
            // The columns of the result whose pixel lies inside the image.
            let inside = padding.saturating_sub(dx).div_ceil(stride).min(self.out_width)
                ..(self.width + padding).saturating_sub(dx).div_ceil(stride).min(self.out_width);
            let mut at = first;
            while at < first + n {
                // Up to the end of a row of the result or of a panel.
                let (row, column) = (at / self.out_width, at % self.out_width);
                let lane = (at - first) % COLUMNS;
                let length = (self.out_width - column).min(COLUMNS - lane).min(first + n - at);
                let panel = (at - first) / COLUMNS * COLUMNS * depth;
                let to = &mut panels[panel + number * COLUMNS + lane..][..length];
                let y = (row * stride + dy).wrapping_sub(padding);
                let from = inside.start.clamp(column, column + length) - column;
                let end = inside.end.clamp(column + from, column + length) - column;
                if y >= self.height || from == end {
                    to.fill(0.0);
                } else {
                    to[..from].fill(0.0);
                    to[end..].fill(0.0);
                    let start = y * self.width + (column + from) * stride + dx - padding;
                    if stride == 1 {
                        to[from..end].copy_from_slice(&plane[start..start + end - from]);
                    } else {
                        let pixels = plane[start..].iter().step_by(stride);
                        to[from..end].iter_mut().zip(pixels).for_each(|(to, from)| *to = *from);
                    }
                }
                at += length;
            }
        }
    }
}
