//! The softmax of rows of bf16 scores, in place, on CUDA: one kernel instead of a dozen passes over the scores.

use std::f64::consts::LOG2_E;
use std::sync::OnceLock;

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{LaunchConfig, PushKernelArg};
use candle_core::cuda_backend::cudarc::nvrtc::compile_ptx;
use candle_core::{CpuStorage, CudaStorage, Error, InplaceOp1, Layout, Result, Tensor};
use half::bf16;

/// Replaces contiguous bf16 `scores` on CUDA by softmax(scale · scores) over the last axis, computed in f32.
///
/// # Errors
/// A kernel that could not be compiled or started.
pub(super) fn softmax(scores: &Tensor, scale: f64) -> Result<()> {
    scores.inplace_op1(&Softmax { scale: (scale * LOG2_E) as f32 })
}

struct Softmax {
    /// For powers of 2.
    scale: f32,
}

/// The kernel as PTX, compiled once a process.
fn ptx() -> Result<&'static str> {
    static PTX: OnceLock<std::result::Result<String, String>> = OnceLock::new();
    let ptx = PTX.get_or_init(|| match compile_ptx(include_str!("rows.cu")) {
        Ok(ptx) => Ok(ptx.to_src()),
        Err(error) => Err(format!("compile the softmax of rows: {error:?}")),
    });
    ptx.as_deref().map_err(|error| Error::Cuda(error.clone().into()))
}

impl InplaceOp1 for Softmax {
    fn name(&self) -> &'static str {
        "softmax of rows"
    }

    fn cpu_fwd(&self, _: &mut CpuStorage, _: &Layout) -> Result<()> {
        candle_core::bail!("the softmax of rows in place runs on CUDA alone")
    }

    fn cuda_fwd(&self, storage: &mut CudaStorage, layout: &Layout) -> Result<()> {
        let (Some((first, end)), Some(&n)) = (layout.contiguous_offsets(), layout.dims().last()) else {
            candle_core::bail!("the softmax of rows wants its rows one after the other")
        };
        if n == 0 || first == end {
            return Ok(());
        }
        let (Ok(n_keys), Ok(n_rows)) = (u32::try_from(n), u32::try_from((end - first) / n)) else {
            candle_core::bail!("the softmax of rows counts in 32 bits, not {n} keys");
        };
        let kernel = storage.device.clone().get_or_load_custom_func("softmax_rows", "jobctl_softmax_rows", ptx()?)?;
        let mut scores = storage.as_cuda_slice_mut::<bf16>()?.slice_mut(first..end);
        let mut launch = kernel.builder();
        launch.arg(&mut scores).arg(&n_keys).arg(&self.scale);
        let shape = LaunchConfig { grid_dim: (n_rows, 1, 1), block_dim: (256, 1, 1), shared_mem_bytes: 0 };
        #[expect(unsafe_code, reason = "the kernel takes these arguments, and writes to these rows of n_keys alone")]
        unsafe {
            launch.launch(shape).w()?;
        }
        Ok(())
    }
}
