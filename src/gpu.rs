//! Devices, and our own operations on them: each has a forward and a backward, on the CPU and on CUDA.

pub mod attention;
pub mod conv;
pub mod kernels;
pub mod linear;
pub mod norm;
pub mod pointwise;

use anyhow::{Context, bail};
use candle_core::{DType, Device};

/// The device that `text` names: `cpu`, `cuda` or `cuda:N`.
///
/// # Errors
/// No such device here, or a jobctl that was built without CUDA.
pub fn device(text: &str) -> anyhow::Result<Device> {
    let ordinal = match text.split_once(':') {
        None if text == "cpu" => return Ok(Device::Cpu),
        None if text == "cuda" => 0,
        Some(("cuda", n)) => n.parse().with_context(|| format!("`{text}`: `{n}` is not a number of a GPU"))?,
        _ => bail!("`{text}` is no device: say cpu, cuda or cuda:N"),
    };
    if !candle_core::utils::cuda_is_available() {
        bail!("`{text}`: this jobctl was built without CUDA (build it with `--features cuda`)");
    }
    Device::new_cuda(ordinal).with_context(|| format!("open {text}"))
}

/// The type that a device computes in unless it is told otherwise: f32 on the CPU, bf16 on CUDA.
pub fn native_dtype(device: &Device) -> DType {
    if device.is_cuda() { DType::BF16 } else { DType::F32 }
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
