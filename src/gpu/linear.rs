//! The product with a layer's weights.

use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::kernels::{Matrix, multiply};

/// x·wᵀ of `x` [M, K] and `w` [N, K]: [M, N].
///
/// # Errors
/// Shapes that don't fit, or no memory.
pub fn linear(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    let is_ours = x.device().is_cpu() && x.dtype() == DType::F32 && w.is_contiguous();
    if is_ours { x.contiguous()?.apply_op2(w, Linear) } else { x.matmul(&w.t()?) }
}

struct Linear;

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, at_x: &Layout, w: &CpuStorage, at_w: &Layout) -> Result<(CpuStorage, Shape)> {
        let ((m, k), (n, k_of_w)) = (at_x.shape().dims2()?, at_w.shape().dims2()?);
        if k != k_of_w {
            candle_core::bail!("{k} numbers a row do not fit a layer of {k_of_w}");
        }
        let x = &x.as_slice::<f32>()?[at_x.start_offset()..][..m * k];
        let w = &w.as_slice::<f32>()?[at_w.start_offset()..][..n * k];
        let mut y = vec![0_f32; m * n];
        // Rows or columns are shared out among the threads, whichever there are more of.
        let n_threads = rayon::current_num_threads();
        if m >= n_threads * 16 || m >= n {
            let rows = m.div_ceil(n_threads).max(1);
            y.par_chunks_mut(rows * n).zip(x.par_chunks(rows * k)).for_each(|(y, x)| {
                let x = Matrix { values: x, row_stride: k, column_stride: 1 };
                let w = Matrix { values: w, row_stride: 1, column_stride: k };
                multiply((x.values.len() / k, k, n), x, w, y, n, false);
            });
        } else {
            let columns = n.div_ceil(n_threads).max(1);
            let parts: Vec<(usize, Vec<f32>)> = w
                .par_chunks(columns * k)
                .enumerate()
                .map(|(idx, w)| {
                    let n_own = w.len() / k;
                    let mut part = vec![0_f32; m * n_own];
                    let w = Matrix { values: w, row_stride: 1, column_stride: k };
                    multiply(
                        (m, k, n_own),
                        Matrix { values: x, row_stride: k, column_stride: 1 },
                        w,
                        &mut part,
                        n_own,
                        false,
                    );
                    (idx * columns, part)
                })
                .collect();
            for (first, part) in parts {
                let n_own = part.len() / m.max(1);
                for (y, part) in y.chunks_mut(n).zip(part.chunks(n_own)) {
                    y[first..first + n_own].copy_from_slice(part);
                }
            }
        }
        Ok((CpuStorage::F32(y), (m, n).into()))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some(grad.matmul(w)?), Some(grad.t()?.matmul(x)?)))
    }
}
