//! Convolution of images.

mod backward;

use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use self::backward::{OfInput, OfWeights};
use super::kernels::{Matrix, multiply, transposed};
use super::linear::linear;

/// About how many numbers the patches of one part take: they should stay in a core's cache.
const PART: usize = 1 << 19;

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
    let y = linear(&windows, &weight.reshape((n_out, n_in * side * side))?)?;
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

    /// Some rows of the result at a time: their patches are laid out side by side and multiplied with the weights.
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
        // The product takes columns of the weights: laid out so that they are whole runs.
        let w = transposed(&w.as_slice::<f32>()?[at_w.start_offset()..][..n_out * k], n_out, k);
        let w = Matrix { values: &w, row_stride: 1, column_stride: n_out };
        let out_plane = out_height * out_width;
        let mut y = vec![0_f32; n_batch * n_out * out_plane];
        let rows = (PART / (k * out_width)).clamp(1, out_height);
        for (x, y) in x.chunks(n_in * plane).zip(y.chunks_mut(n_out * out_plane)) {
            let parts: Vec<(usize, Vec<&mut [f32]>)> = split_rows(y, out_plane, rows * out_width);
            parts.into_par_iter().for_each_init(
                || (Vec::new(), Vec::new()),
                |(patches, product), (first, mut channels)| {
                    let n = channels[0].len();
                    patches.resize(k * n, 0.0);
                    product.resize(n_out * n, 0.0);
                    self.lay_out(x, (height, width), kernel, first / out_width, out_width, patches);
                    let patches = Matrix { values: patches, row_stride: n, column_stride: 1 };
                    multiply((n_out, k, n), w, patches, product, n, false);
                    for (channel, product) in channels.iter_mut().zip(product.chunks(n)) {
                        channel.copy_from_slice(product);
                    }
                },
            );
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

/// The planes of one image cut into parts of `n` numbers: each part's first number and its piece of every plane.
fn split_rows(image: &mut [f32], plane: usize, n: usize) -> Vec<(usize, Vec<&mut [f32]>)> {
    let mut parts: Vec<(usize, Vec<&mut [f32]>)> = (0..plane).step_by(n).map(|first| (first, Vec::new())).collect();
    for plane in image.chunks_mut(plane) {
        for (piece, part) in plane.chunks_mut(n).zip(&mut parts) {
            part.1.push(piece);
        }
    }
    parts
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
