//! Devices, and our own operations on them: each has a forward and a backward, on the CPU and on CUDA.

pub mod attention;
pub mod conv;
pub mod kernels;
pub mod linear;
pub mod norm;
pub mod pointwise;
mod product;
pub mod tape;
mod tile;
pub mod tokens;
pub mod usage;

use anyhow::{Context, bail};
use candle_core::{DType, Device};

use crate::job::task::making::Precision;

/// The device that `text` names: `cpu`, `cuda` or `cuda:N`; of several, `cuda:N+M`, the first.
///
/// # Errors
/// No such device here, or a jobctl that was built without CUDA.
pub fn device(text: &str) -> anyhow::Result<Device> {
    let ordinal = match text.split_once(':') {
        None if text == "cpu" => return Ok(Device::Cpu),
        None if text == "cuda" => 0,
        Some(("cuda", n)) => n
            .split('+')
            .next()
            .unwrap_or(n)
            .parse()
            .with_context(|| format!("`{text}`: `{n}` is not a number of a GPU"))?,
        _ => bail!("`{text}` is no device: say cpu, cuda or cuda:N"),
    };
    if !candle_core::utils::cuda_is_available() {
        bail!("`{text}`: this jobctl was built without CUDA (build it with `--features cuda`)");
    }
    Device::new_cuda(ordinal).with_context(|| format!("open {text}"))
}

/// What candle calls a precision.
pub fn dtype(precision: Precision) -> DType {
    match precision {
        Precision::Bf16 => DType::BF16,
        Precision::F32 => DType::F32,
    }
}

/// What `device` computes in: what is wanted, else f32 on the CPU and bf16 on CUDA.
///
/// # Errors
/// bf16 on the CPU.
pub fn dtype_on(device: &Device, wanted: Option<Precision>) -> anyhow::Result<DType> {
    match wanted {
        Some(Precision::Bf16) if device.is_cpu() => bail!("bf16 needs CUDA: the CPU computes in f32"),
        Some(precision) => Ok(dtype(precision)),
        None if device.is_cpu() => Ok(DType::F32),
        None => Ok(DType::BF16),
    }
}

/// Free and all bytes of a GPU's memory; none on the CPU.
pub fn memory(device: &Device) -> Option<(usize, usize)> {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(cuda) = device {
        return cuda.cuda_stream().context().mem_get_info().ok();
    }
    let _ = device;
    None
}
