//! The product with a layer's weights.

use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor};

use super::product::{Lanes, multiply};

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
        multiply(Lanes::contiguous(x, k), Lanes::contiguous(w, k), &mut y, false);
        Ok((CpuStorage::F32(y), (m, n).into()))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some(grad.matmul(w)?), Some(grad.t()?.matmul(x)?)))
    }
}
