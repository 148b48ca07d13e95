//! The kernels of `tokens.cu` as candle's operations.

use std::sync::OnceLock;

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaView, DeviceRepr, LaunchConfig, PushKernelArg};
use candle_core::cuda_backend::cudarc::nvrtc::compile_ptx;
use candle_core::cuda_backend::{CudaDType, CudaDevice, WrapErr};
use candle_core::op::BackpropOp;
use candle_core::{CpuStorage, CudaStorage, CustomOp3, DType, Device, Error, Layout, Result, Shape, Storage, Tensor};
use half::bf16;

use crate::gpu::tape;

/// Threads of a block that has a row to itself.
const ROW: u32 = 256;
/// Threads of a block that has columns, one each.
const COLUMNS: u32 = 128;

/// Whether the kernels take these: all on CUDA, of one type, which is bf16 or f32.
pub(in crate::gpu) fn fits(tensors: &[&Tensor]) -> bool {
    let dtype = tensors[0].dtype();
    matches!(dtype, DType::BF16 | DType::F32)
        && tensors.iter().all(|it| it.device().is_cuda() && it.dtype() == dtype && it.elem_count() > 0)
}

/// See [`super::modulated`].
pub(super) fn modulated(x: &Tensor, eps: f64, shift: &Tensor, scale: &Tensor) -> Result<Tensor> {
    let (x, scale, shift) = (tape::contiguous(x)?, tape::contiguous(scale)?, tape::contiguous(shift)?);
    tape::op3(&x, &scale, &shift, Modulated { eps: eps as f32 })
}

/// See [`super::gated`].
pub(super) fn gated(x: &Tensor, gate: &Tensor, by: &Tensor) -> Result<Tensor> {
    tape::op3(&tape::contiguous(x)?, &tape::contiguous(gate)?, &tape::contiguous(by)?, Gated)
}

/// The numbers that the kernels come in.
trait Number: CudaDType + DeviceRepr + 'static {
    const NAME: &'static str;
}

impl Number for f32 {
    const NAME: &'static str = "f32";
}

impl Number for bf16 {
    const NAME: &'static str = "bf16";
}

/// Calls a generic function for the type that a tensor has.
macro_rules! by_type {
    ($dtype:expr, $function:ident($($argument:expr),*)) => {
        match $dtype {
            DType::BF16 => $function::<bf16>($($argument),*),
            DType::F32 => $function::<f32>($($argument),*),
            other => candle_core::bail!("tokens in {other:?}"),
        }
    };
}

/// Starts a kernel with these arguments.
macro_rules! start {
    ($device:expr, $type:ty, $name:literal, $shape:expr, $($argument:expr),+) => {{
        let name = format!(concat!($name, "_{}"), <$type as Number>::NAME);
        let kernel = $device.get_or_load_custom_func(&name, "jobctl_tokens", ptx()?)?;
        let mut launch = kernel.builder();
        $(launch.arg($argument);)+
        #[expect(unsafe_code, reason = "the kernel takes these arguments, and stays within the slices: sizes are checked")]
        unsafe {
            launch.launch($shape).w()?;
        }
    }};
}

mod gate;

pub(in crate::gpu) use gate::gate;

/// The kernels as PTX, compiled once a process.
fn ptx() -> Result<&'static str> {
    static PTX: OnceLock<std::result::Result<String, String>> = OnceLock::new();
    let ptx = PTX.get_or_init(|| match compile_ptx(include_str!("tokens.cu")) {
        Ok(ptx) => Ok(ptx.to_src()),
        Err(error) => Err(format!("compile the kernels of tokens: {error:?}")),
    });
    ptx.as_deref().map_err(|error| Error::Cuda(error.clone().into()))
}

/// Images, rows of each, columns.
#[derive(Clone, Copy)]
struct Sizes {
    n_images: u32,
    per: u32,
    n: u32,
}

impl Sizes {
    fn of(shape: &Shape) -> Result<Self> {
        let (images, per, n) = match *shape.dims() {
            [images, per, n] => (images, per, n),
            [rows, n] => (1, rows, n),
            _ => candle_core::bail!("tokens of {shape:?}"),
        };
        let small =
            |it: usize| u32::try_from(it).map_err(|_| Error::Msg(format!("tokens of {shape:?}: too many")).bt());
        small(images * per)?;
        Ok(Self { n_images: small(images)?, per: small(per)?, n: small(n)? })
    }

    /// Refuses what has not one number for each image and column.
    fn check(self, of_images: &Layout) -> Result<()> {
        if of_images.dims() != [self.n_images as usize, self.n as usize] {
            candle_core::bail!("{:?} for {} images of width {}", of_images.dims(), self.n_images, self.n);
        }
        Ok(())
    }

    fn count(self) -> usize {
        self.n_images as usize * self.per as usize * self.n as usize
    }

    fn a_row_each(self) -> LaunchConfig {
        LaunchConfig { grid_dim: (self.n_images * self.per, 1, 1), block_dim: (ROW, 1, 1), shared_mem_bytes: 0 }
    }

    /// Parts that an image's rows are summed in.
    fn n_parts(self) -> u32 {
        (self.per / 64).clamp(1, 256)
    }

    fn a_column_each(self) -> LaunchConfig {
        LaunchConfig {
            grid_dim: (self.n.div_ceil(COLUMNS), self.n_parts(), self.n_images),
            block_dim: (COLUMNS, 1, 1),
            shared_mem_bytes: 0,
        }
    }
}

/// Adds `bias` [n] to each row of `y` [.., n], in place.
pub(in crate::gpu) fn add_bias(y: &mut CudaStorage, bias: &CudaStorage, at: &Layout) -> Result<()> {
    fn go<T: Number>(y: &mut CudaStorage, bias: &CudaStorage, at: &Layout) -> Result<()> {
        let (device, n) = (bias.device().clone(), at.shape().elem_count());
        let bias = view::<T>(bias, at)?;
        let y = y.as_cuda_slice_mut::<T>()?;
        let it = Sizes::of(&(y.len() / n, n).into())?;
        start!(device, T, "add_bias", it.a_row_each(), y, &bias, &it.n);
        Ok(())
    }
    by_type!(bias.dtype(), go(y, bias, at))
}

/// The sums of `x` [M, n] over its rows: [n], of its type, summed in f32.
pub(in crate::gpu) fn column_sums(x: &Tensor) -> Result<Tensor> {
    fn go<T: Number>(x: &Tensor) -> Result<Tensor> {
        let it = Sizes::of(x.shape())?;
        on_storages([x], |device, [(x, at)]| {
            let mut sums = buffer::<f32>(device, (it.n_parts() * it.n) as usize)?;
            let x = view::<T>(x, at)?;
            start!(device, T, "column_sums", it.a_column_each(), &x, &mut sums, &it.n, &it.per);
            Ok(stored(sums, device, (it.n_parts() as usize, it.n as usize)))
        })
    }
    by_type!(x.dtype(), go(x))?.sum(0)?.to_dtype(x.dtype())
}

/// a + b, of one shape.
pub(in crate::gpu) fn sum(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    fn go<T: Number>(a: &Tensor, b: &Tensor) -> Result<Tensor> {
        let n = u64::try_from(a.elem_count())?;
        let n_blocks = u32::try_from(n.div_ceil(u64::from(ROW) * 8))?;
        let each = LaunchConfig { grid_dim: (n_blocks, 1, 1), block_dim: (ROW, 1, 1), shared_mem_bytes: 0 };
        on_storages([a, b], |device, [(x, at_x), (y, at_y)]| {
            let mut sum = buffer::<T>(device, a.elem_count())?;
            let (x, y) = (view::<T>(x, at_x)?, view::<T>(y, at_y)?);
            start!(device, T, "sum", each, &x, &y, &mut sum, &n);
            Ok(stored(sum, device, a.shape().clone()))
        })
    }
    if a.shape() != b.shape() {
        candle_core::bail!("{:?} and {:?} tokens", a.shape(), b.shape());
    }
    by_type!(a.dtype(), go(&a.contiguous()?, &b.contiguous()?))
}

/// Sums of the squares of parts of `x`: f32, as many as the kernel has blocks.
pub(in crate::gpu) fn square_sums(x: &Tensor) -> Result<Tensor> {
    fn go<T: Number>(x: &Tensor) -> Result<Tensor> {
        let n = u64::try_from(x.elem_count())?;
        let n_parts = u32::try_from(n.div_ceil(u64::from(ROW) * 16))?.min(1024);
        let each = LaunchConfig { grid_dim: (n_parts, 1, 1), block_dim: (ROW, 1, 1), shared_mem_bytes: 0 };
        on_storages([x], |device, [(x, at)]| {
            let mut sums = buffer::<f32>(device, n_parts as usize)?;
            let x = view::<T>(x, at)?;
            start!(device, T, "square_sums", each, &x, &mut sums, &n);
            Ok(stored(sums, device, n_parts as usize))
        })
    }
    by_type!(x.dtype(), go(&x.contiguous()?))
}

fn view<'a, T: Number>(storage: &'a CudaStorage, layout: &Layout) -> Result<CudaView<'a, T>> {
    let Some((first, end)) = layout.contiguous_offsets() else {
        candle_core::bail!("the kernels of tokens want their numbers one after the other")
    };
    Ok(storage.as_cuda_slice::<T>()?.slice(first..end))
}

/// Memory of the device that nothing has written to.
fn buffer<T: DeviceRepr>(device: &CudaDevice, n: usize) -> Result<CudaSlice<T>> {
    #[expect(unsafe_code, reason = "a kernel writes all of it before anyone reads it")]
    unsafe {
        device.alloc::<T>(n)
    }
}

fn stored<T: Number>(slice: CudaSlice<T>, device: &CudaDevice, shape: impl Into<Shape>) -> Tensor {
    let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(slice, device.clone()));
    Tensor::from_storage(storage, shape, BackpropOp::none(), false)
}

/// What `work` makes of tensors on one CUDA device.
fn on_storages<const N: usize, R>(
    tensors: [&Tensor; N],
    work: impl FnOnce(&CudaDevice, [(&CudaStorage, &Layout); N]) -> Result<R>,
) -> Result<R> {
    let Device::Cuda(device) = tensors[0].device() else { candle_core::bail!("tokens are not on CUDA") };
    let guards = tensors.map(Tensor::storage_and_layout);
    let mut found = Vec::with_capacity(N);
    for (storage, layout) in &guards {
        let Storage::Cuda(storage) = &**storage else { candle_core::bail!("tokens are not on CUDA") };
        found.push((storage, *layout));
    }
    let Ok(found) = found.try_into() else { candle_core::bail!("as many storages as tensors") };
    work(device, found)
}

fn on_cuda_alone<T>(what: &str) -> Result<T> {
    candle_core::bail!("{what} as one kernel runs on CUDA alone")
}

struct Modulated {
    eps: f32,
}

impl CustomOp3 for Modulated {
    fn name(&self) -> &'static str {
        "modulated"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        on_cuda_alone(self.name())
    }

    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        at_x: &Layout,
        scale: &CudaStorage,
        at_scale: &Layout,
        shift: &CudaStorage,
        at_shift: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        fn go<T: Number>(parts: [(&CudaStorage, &Layout); 3], eps: f32) -> Result<(CudaStorage, Shape)> {
            let [(x, at_x), (scale, at_scale), (shift, at_shift)] = parts;
            let it = Sizes::of(at_x.shape())?;
            it.check(at_scale)?;
            it.check(at_shift)?;
            let mut y = buffer::<T>(x.device(), it.count())?;
            let (from, by, plus) = (view::<T>(x, at_x)?, view::<T>(scale, at_scale)?, view::<T>(shift, at_shift)?);
            start!(x.device(), T, "modulated", it.a_row_each(), &from, &by, &plus, &mut y, &it.n, &it.per, &eps);
            Ok((CudaStorage::wrap_cuda_slice(y, x.device().clone()), at_x.shape().clone()))
        }
        by_type!(x.dtype(), go([(x, at_x), (scale, at_scale), (shift, at_shift)], self.eps))
    }

    fn bwd(
        &self,
        x: &Tensor,
        scale: &Tensor,
        _: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        fn go<T: Number>(x: &Tensor, scale: &Tensor, grad: &Tensor, eps: f32) -> Result<[Tensor; 2]> {
            let it = Sizes::of(x.shape())?;
            let (rows, n_sums) = (it.n_images * it.per, it.n_images * it.n_parts() * 2 * it.n);
            on_storages([x, scale, grad], |device, [(x, at_x), (scale, at_scale), (g, at_g)]| {
                let mut d_x = buffer::<T>(device, it.count())?;
                let mut kept = buffer::<f32>(device, 2 * rows as usize)?;
                let mut sums = buffer::<f32>(device, n_sums as usize)?;
                let (x, scale, g) = (view::<T>(x, at_x)?, view::<T>(scale, at_scale)?, view::<T>(g, at_g)?);
                let each = it.a_row_each();
                start!(device, T, "modulated_x", each, &x, &scale, &g, &mut d_x, &mut kept, &it.n, &it.per, &eps);
                let each = it.a_column_each();
                start!(device, T, "modulated_sums", each, &x, &g, &kept, &mut sums, &it.n, &it.per);
                let shape = (it.n_images as usize, it.n_parts() as usize, 2, it.n as usize);
                let d_x = stored(d_x, device, (it.n_images as usize, it.per as usize, it.n as usize));
                Ok([d_x, stored(sums, device, shape)])
            })
        }
        let grad = grad.contiguous()?;
        let [d_x, sums] = by_type!(x.dtype(), go(x, scale, &grad, self.eps))?;
        let sums = sums.sum(1)?.to_dtype(x.dtype())?;
        let one = |idx: usize| sums.narrow(1, idx, 1)?.squeeze(1)?.contiguous();
        Ok((Some(d_x), Some(one(0)?), Some(one(1)?)))
    }
}

struct Gated;

impl CustomOp3 for Gated {
    fn name(&self) -> &'static str {
        "gated"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        on_cuda_alone(self.name())
    }

    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        at_x: &Layout,
        gate: &CudaStorage,
        at_gate: &Layout,
        by: &CudaStorage,
        at_by: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        fn go<T: Number>(parts: [(&CudaStorage, &Layout); 3]) -> Result<(CudaStorage, Shape)> {
            let [(x, at_x), (gate, at_gate), (by, at_by)] = parts;
            let it = Sizes::of(at_x.shape())?;
            it.check(at_gate)?;
            if at_by.shape() != at_x.shape() {
                candle_core::bail!("{:?} and {:?} tokens", at_x.shape(), at_by.shape());
            }
            let mut y = buffer::<T>(x.device(), it.count())?;
            let (from, open, through) = (view::<T>(x, at_x)?, view::<T>(gate, at_gate)?, view::<T>(by, at_by)?);
            start!(x.device(), T, "gated", it.a_row_each(), &from, &open, &through, &mut y, &it.n, &it.per);
            Ok((CudaStorage::wrap_cuda_slice(y, x.device().clone()), at_x.shape().clone()))
        }
        by_type!(x.dtype(), go([(x, at_x), (gate, at_gate), (by, at_by)]))
    }

    fn bwd(
        &self,
        _: &Tensor,
        gate: &Tensor,
        by: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        fn go<T: Number>(gate: &Tensor, by: &Tensor, grad: &Tensor) -> Result<[Tensor; 2]> {
            let it = Sizes::of(by.shape())?;
            let n_sums = it.n_images * it.n_parts() * it.n;
            on_storages([gate, by, grad], |device, [(gate, at_gate), (by, at_by), (g, at_g)]| {
                let mut d_by = buffer::<T>(device, it.count())?;
                let mut sums = buffer::<f32>(device, n_sums as usize)?;
                let (gate, by, g) = (view::<T>(gate, at_gate)?, view::<T>(by, at_by)?, view::<T>(g, at_g)?);
                let each = it.a_column_each();
                start!(device, T, "gated_back", each, &gate, &by, &g, &mut d_by, &mut sums, &it.n, &it.per);
                let shape = (it.n_images as usize, it.n_parts() as usize, it.n as usize);
                let d_by = stored(d_by, device, (it.n_images as usize, it.per as usize, it.n as usize));
                Ok([d_by, stored(sums, device, shape)])
            })
        }
        let grad = grad.contiguous()?;
        let [d_by, sums] = by_type!(by.dtype(), go(gate, by, &grad))?;
        Ok((Some(grad), Some(sums.sum(1)?.to_dtype(gate.dtype())?), Some(d_by)))
    }
}
