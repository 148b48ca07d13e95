//! Smooth gates, number by number.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, CustomOp1, DType, Layout, Result, Shape, Tensor};
use half::bf16;

use super::{Number, ROW, buffer, on_cuda_alone, on_storages, ptx, stored, view};
use crate::gpu::tape;
use crate::gpu::tokens::cuda::{LaunchConfig, PushKernelArg, WrapErr};

/// x·sigmoid(a·x + b·x³) of `x`, which [`fits`](super::fits).
pub(in crate::gpu) fn gate(x: &Tensor, a: f32, b: f32) -> Result<Tensor> {
    tape::op1(&tape::contiguous(x)?, Gate { a, b })
}

struct Gate {
    a: f32,
    b: f32,
}

/// A thread for each 8 numbers, whatever the shape.
fn shape(n: usize) -> Result<(u32, LaunchConfig)> {
    let Ok(n) = u32::try_from(n) else { candle_core::bail!("gates count in 32 bits, not {n} numbers") };
    let grid_dim = (n.div_ceil(ROW * 8).max(1), 1, 1);
    Ok((n, LaunchConfig { grid_dim, block_dim: (ROW, 1, 1), shared_mem_bytes: 0 }))
}

impl CustomOp1 for Gate {
    fn name(&self) -> &'static str {
        "gate"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        on_cuda_alone(self.name())
    }

    fn cuda_fwd(&self, x: &CudaStorage, at: &Layout) -> Result<(CudaStorage, Shape)> {
        fn go<T: Number>(x: &CudaStorage, at: &Layout, a: f32, b: f32) -> Result<(CudaStorage, Shape)> {
            let (n, each) = shape(at.shape().elem_count())?;
            let mut y = buffer::<T>(x.device(), n as usize)?;
            let from = view::<T>(x, at)?;
            start!(x.device(), T, "gate", each, &from, &mut y, &n, &a, &b);
            Ok((CudaStorage::wrap_cuda_slice(y, x.device().clone()), at.shape().clone()))
        }
        by_type!(x.dtype(), go(x, at, self.a, self.b))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        fn go<T: Number>(x: &Tensor, grad: &Tensor, a: f32, b: f32) -> Result<Tensor> {
            let (n, each) = shape(x.elem_count())?;
            let dims = x.shape().clone();
            on_storages([x, grad], |device, [(x, at_x), (g, at_g)]| {
                let mut d_x = buffer::<T>(device, n as usize)?;
                let (x, g) = (view::<T>(x, at_x)?, view::<T>(g, at_g)?);
                start!(device, T, "gate_back", each, &x, &g, &mut d_x, &n, &a, &b);
                Ok(stored(d_x, device, dims))
            })
        }
        let grad = grad.contiguous()?;
        Ok(Some(by_type!(x.dtype(), go(x, &grad, self.a, self.b))?))
    }
}
