//! Functions of each number.

use candle_core::{CpuStorage, CustomOp1, CustomOp3, DType, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{kernels, tape};

/// How many numbers one thread takes at a time.
const PART: usize = 1 << 14;

/// x·sigmoid(a·x + b·x³): every smooth gate that the models use.
#[derive(Clone, Copy, Debug)]
pub struct SigmoidGate {
    a: f32,
    b: f32,
}

impl SigmoidGate {
    /// x·sigmoid(x)
    pub const SILU: Self = Self { a: 1.0, b: 0.0 };
    /// x·sigmoid(1.702 x)
    pub const QUICK_GELU: Self = Self { a: 1.702, b: 0.0 };
    /// 0.5·x·(1 + tanh(√(2/π)·(x + 0.044715 x³)))
    pub const GELU_TANH: Self = Self { a: 1.595_769, b: 0.071_354_814 };

    /// `x` to the same shape.
    ///
    /// # Errors
    /// No memory.
    pub fn forward(self, x: &Tensor) -> Result<Tensor> {
        if x.device().is_cpu() && x.dtype() == DType::F32 {
            return tape::op1(&tape::contiguous(x)?, self);
        }
        #[cfg(feature = "cuda")]
        if super::tokens::cuda::fits(&[x]) {
            return super::tokens::cuda::gate(x, self.a, self.b);
        }
        tape::composite(&[x], |it| match &it[0] {
            x if self.b != 0.0 => x.gelu(),
            x if self.a == 1.0 => x.silu(),
            x => x.div(&((x * f64::from(-self.a))?.exp()? + 1.0)?),
        })
    }
}

impl CustomOp1 for SigmoidGate {
    fn name(&self) -> &'static str {
        "sigmoid-gate"
    }

    fn cpu_fwd(&self, x: &CpuStorage, at: &Layout) -> Result<(CpuStorage, Shape)> {
        let n = at.shape().elem_count();
        let x = &x.as_slice::<f32>()?[at.start_offset()..][..n];
        let mut y = vec![0_f32; n];
        let parts = y.par_chunks_mut(PART).zip(x.par_chunks(PART));
        parts.for_each(|(y, x)| kernels::sigmoid_gate(x, y, self.a, self.b));
        Ok((CpuStorage::F32(y), at.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (a, b) = (f64::from(self.a), f64::from(self.b));
        let square = x.sqr()?;
        // s = sigmoid(u), u = a·x + b·x³; the derivative is s + x·s·(1 − s)·(a + 3·b·x²).
        let u = x.mul(&((&square * b)? + a)?)?;
        let s = (u.neg()?.exp()? + 1.0)?.recip()?;
        let slope = ((square * (3.0 * b))? + a)?;
        let by = (s.mul(&s.affine(-1.0, 1.0)?)?.mul(x)?.mul(&slope)? + s)?;
        Ok(Some(grad.mul(&by)?))
    }
}

/// Sums of the squares of parts of `x`: f64, however many parts suit the device.
///
/// # Errors
/// No memory.
pub fn square_sums(x: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if super::tokens::cuda::fits(&[x]) {
        return super::tokens::cuda::square_sums(x)?.to_dtype(DType::F64);
    }
    // Sums of many f32 squares would depend on their order in the last digits that are shown.
    x.to_dtype(DType::F64)?.sqr()?.sum_all()?.reshape(1)
}

/// SiLU of `factor`·x + `summand`, of `x` [B, C, H, W] and two [B, C, 1, 1] in f32.
///
/// # Errors
/// Shapes that don't fit, or no memory.
pub fn affine_silu(x: &Tensor, factor: &Tensor, summand: &Tensor) -> Result<Tensor> {
    let is_tracked = x.track_op() || factor.track_op() || summand.track_op();
    if x.device().is_cpu() && x.dtype() == DType::F32 && !is_tracked {
        return x.contiguous()?.apply_op3_no_bwd(&factor.contiguous()?, &summand.contiguous()?, &AffineSilu);
    }
    let y = x.to_dtype(DType::F32)?.broadcast_mul(factor)?.broadcast_add(summand)?;
    SigmoidGate::SILU.forward(&y)?.to_dtype(x.dtype())
}

struct AffineSilu;

impl CustomOp3 for AffineSilu {
    fn name(&self) -> &'static str {
        "affine-silu"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        at_x: &Layout,
        factor: &CpuStorage,
        at_factor: &Layout,
        summand: &CpuStorage,
        at_summand: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (n_batch, n_channels, height, width) = at_x.shape().dims4()?;
        let n = n_batch * n_channels;
        let x = &x.as_slice::<f32>()?[at_x.start_offset()..][..n * height * width];
        let factor = &factor.as_slice::<f32>()?[at_factor.start_offset()..][..n];
        let summand = &summand.as_slice::<f32>()?[at_summand.start_offset()..][..n];
        let mut y = vec![0_f32; x.len()];
        let plane = (height * width).max(1);
        let planes = y.par_chunks_mut(plane).zip(x.par_chunks(plane)).zip(factor).zip(summand);
        planes.for_each(|(((y, x), factor), summand)| kernels::affine_silu(x, y, *factor, *summand));
        Ok((CpuStorage::F32(y), at_x.shape().clone()))
    }
}
