//! AdamW's update of one parameter, in place, on the CPU and on CUDA.

use candle_core::{CpuStorage, InplaceOp2, Layout, Result};
use rayon::prelude::*;

use super::optim::AdamW;

/// How many numbers one thread takes at a time.
const PART: usize = 1 << 14;

/// What one step does to every number of a state [3, n], given its gradient [n]:
/// m ← β₁m + (1−β₁)g, v ← β₂v + (1−β₂)g², θ ← θ(1 − lr·wd) − lr·m̂/(√v̂ + ε), with m̂ = m/(1−β₁ᵗ) and v̂ = v/(1−β₂ᵗ).
#[derive(Clone, Copy, Debug)]
pub struct Update {
    beta1: f32,
    /// 1 − β₁, rounded from the exact difference.
    rest1: f32,
    beta2: f32,
    rest2: f32,
    /// lr/(1−β₁ᵗ)
    rate: f32,
    /// 1/√(1−β₂ᵗ)
    root: f32,
    eps: f32,
    /// 1 − lr·wd
    keep: f32,
    /// The gradient is multiplied with it.
    scale: f32,
}

impl Update {
    /// That of step `step`, counted from 1, at learning rate `rate`.
    pub fn new(settings: &AdamW, rate: f64, step: usize) -> Self {
        let AdamW { beta1, beta2, eps, weight_decay } = *settings;
        let step = step as f64;
        Self {
            beta1: beta1 as f32,
            rest1: (1.0 - beta1) as f32,
            beta2: beta2 as f32,
            rest2: (1.0 - beta2) as f32,
            rate: (rate / (1.0 - beta1.powf(step))) as f32,
            root: (1.0 / (1.0 - beta2.powf(step)).sqrt()) as f32,
            eps: eps as f32,
            keep: (1.0 - rate * weight_decay) as f32,
            scale: 1.0,
        }
    }

    /// The same for gradients that are first multiplied with `scale`.
    pub(super) fn scaled(self, scale: f64) -> Self {
        Self { scale: scale as f32, ..self }
    }

    fn one(&self, value: &mut f32, mean: &mut f32, square: &mut f32, gradient: f32) {
        let gradient = gradient * self.scale;
        *mean = self.beta1 * *mean + self.rest1 * gradient;
        *square = self.beta2 * *square + self.rest2 * gradient * gradient;
        *value = *value * self.keep - self.rate * *mean / (square.sqrt() * self.root + self.eps);
    }
}

impl InplaceOp2 for Update {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(&self, state: &mut CpuStorage, at: &Layout, gradient: &CpuStorage, at_g: &Layout) -> Result<()> {
        let CpuStorage::F32(state) = state else { candle_core::bail!("AdamW's state is kept in f32") };
        let gradient = &gradient.as_slice::<f32>()?[at_g.start_offset()..][..at_g.shape().elem_count()];
        let (rows, n) = at.shape().dims2()?;
        if (rows, n) != (3, gradient.len()) || !at.is_contiguous() || !at_g.is_contiguous() {
            candle_core::bail!("a state {:?} for {} gradients", at.shape(), gradient.len());
        }
        let state = &mut state[at.start_offset()..][..3 * n];
        let (values, rest) = state.split_at_mut(n);
        let (means, squares) = rest.split_at_mut(n);
        let parts = values.par_chunks_mut(PART).zip(means.par_chunks_mut(PART)).zip(squares.par_chunks_mut(PART));
        parts.zip(gradient.par_chunks(PART)).for_each(|(((values, means), squares), gradients)| {
            let numbers = values.iter_mut().zip(means).zip(squares).zip(gradients);
            numbers.for_each(|(((value, mean), square), gradient)| self.one(value, mean, square, *gradient));
        });
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        state: &mut candle_core::CudaStorage,
        at: &Layout,
        gradient: &candle_core::CudaStorage,
        at_g: &Layout,
    ) -> Result<()> {
        use candle_core::backend::BackendStorage;
        use candle_core::cuda_backend::WrapErr;
        use candle_core::cuda_backend::cudarc::driver::{LaunchConfig, PushKernelArg};
        use candle_core::{DType, Error};

        let (rows, n) = at.shape().dims2()?;
        if (rows, n) != (3, at_g.shape().elem_count()) || !at.is_contiguous() || !at_g.is_contiguous() {
            candle_core::bail!("a state {:?} for gradients {:?}", at.shape(), at_g.shape());
        }
        let Ok(count) = u32::try_from(n) else { candle_core::bail!("AdamW counts in 32 bits, not {n} numbers") };
        let ptx = ptx().map_err(|error| Error::Cuda(error.into()))?;
        let device = state.device().clone();
        let (from, to) = (at.start_offset(), at.start_offset() + 3 * n);
        let own = (at_g.start_offset(), at_g.start_offset() + n);
        let shape = LaunchConfig::for_num_elems(count);
        let mut state = state.as_cuda_slice_mut::<f32>()?.slice_mut(from..to);
        macro_rules! launch {
            ($type:ty, $name:literal) => {{
                let kernel = device.get_or_load_custom_func($name, "jobctl_adamw", ptx)?;
                let gradient = gradient.as_cuda_slice::<$type>()?.slice(own.0..own.1);
                let mut launch = kernel.builder();
                launch.arg(&mut state).arg(&gradient).arg(&count);
                launch.arg(&self.beta1).arg(&self.rest1).arg(&self.beta2).arg(&self.rest2);
                launch.arg(&self.rate).arg(&self.root).arg(&self.eps).arg(&self.keep).arg(&self.scale);
                #[expect(
                    unsafe_code,
                    reason = "the kernel takes these arguments, and writes to this state of 3·n alone"
                )]
                unsafe {
                    launch.launch(shape).w()?;
                }
            }};
        }
        match gradient.dtype() {
            DType::BF16 => launch!(half::bf16, "adamw_bf16"),
            DType::F32 => launch!(f32, "adamw_f32"),
            other => candle_core::bail!("gradients in {other:?}"),
        }
        Ok(())
    }
}

/// The kernels as PTX, compiled once a process.
#[cfg(feature = "cuda")]
fn ptx() -> std::result::Result<&'static str, String> {
    use std::sync::OnceLock;

    use candle_core::cuda_backend::cudarc::nvrtc::compile_ptx;

    static PTX: OnceLock<std::result::Result<String, String>> = OnceLock::new();
    let ptx = PTX.get_or_init(|| match compile_ptx(include_str!("adamw.cu")) {
        Ok(ptx) => Ok(ptx.to_src()),
        Err(error) => Err(format!("compile AdamW: {error:?}")),
    });
    ptx.as_deref().map_err(Clone::clone)
}
