//! What is known of this machine's GPUs: name and memory, from NVML, which is loaded when the program runs. Where there is no
//! driver, nothing is known, and nothing fails.

use std::collections::BTreeMap;

use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::struct_wrappers::device::ProcessInfo;
use nvml_wrapper::{Device, Nvml};

/// The library as a driver installs it, without the link that only its development package brings.
const LIBRARY: &str = "libnvidia-ml.so.1";

/// Who knows the GPUs, which are numbered as CUDA does it. Asking may take its time, or hang where a driver does.
pub trait Driver: Send + Sync {
    /// What the maker calls a GPU; empty where nobody knows.
    fn model(&self, ordinal: usize) -> String;

    /// A GPU's memory in GiB, rounded up to the size that it is sold as: 80 of an H100, whose driver says 79.6; 0 where
    /// nobody knows.
    fn memory_gib(&self, ordinal: usize) -> u32;

    /// How much of it is in use, in MiB, by whatever process.
    fn used_mib(&self, ordinal: usize) -> Option<i32>;

    /// How much of it each process has, in MiB, by process number; none where nobody knows. In a container a driver may give
    /// the numbers that the processes have outside.
    fn processes_mib(&self, ordinal: usize) -> Option<BTreeMap<i32, i32>>;
}

/// The driver's view of the GPUs.
pub struct Gpus {
    nvml: Option<Nvml>,
}

impl Gpus {
    /// Loads the library.
    pub fn open() -> Self {
        let nvml = Nvml::builder().lib_path(LIBRARY.as_ref()).init();
        if let Err(error) = &nvml {
            tracing::debug!(error = %error, "NVML is not here: GPU memory is not watched");
        }
        Self { nvml: nvml.ok() }
    }

    /// CUDA may number GPUs otherwise than NVML does (`CUDA_VISIBLE_DEVICES`): the UUID tells which is which.
    fn device(&self, ordinal: usize) -> Option<Device<'_>> {
        let nvml = self.nvml.as_ref()?;
        match uuid(ordinal) {
            Some(uuid) => nvml.device_by_uuid(uuid).ok(),
            None => nvml.device_by_index(u32::try_from(ordinal).ok()?).ok(),
        }
    }
}

impl Driver for Gpus {
    fn model(&self, ordinal: usize) -> String {
        self.device(ordinal).and_then(|it| it.name().ok()).unwrap_or_default()
    }

    fn memory_gib(&self, ordinal: usize) -> u32 {
        let memory = self.device(ordinal).and_then(|it| it.memory_info().ok());
        memory.map_or(0, |it| u32::try_from(it.total.div_ceil(1 << 30)).unwrap_or(u32::MAX))
    }

    fn used_mib(&self, ordinal: usize) -> Option<i32> {
        let memory = self.device(ordinal)?.memory_info().ok()?;
        i32::try_from(memory.used >> 20).ok()
    }

    fn processes_mib(&self, ordinal: usize) -> Option<BTreeMap<i32, i32>> {
        let device = self.device(ordinal)?;
        let (compute, graphics) = (device.running_compute_processes().ok()?, device.running_graphics_processes().ok()?);
        let of = |it: ProcessInfo| match it.used_gpu_memory {
            UsedGpuMemory::Used(bytes) => Some((i32::try_from(it.pid).ok()?, i32::try_from(bytes >> 20).ok()?)),
            UsedGpuMemory::Unavailable => None,
        };
        // One that computes and draws is in both lists, with the same amount.
        Some(compute.into_iter().chain(graphics).filter_map(of).collect())
    }
}

#[cfg(feature = "cuda")]
fn uuid(ordinal: usize) -> Option<String> {
    use candle_core::cuda_backend::cudarc::driver::result;
    result::init().ok()?;
    let device = result::device::get(i32::try_from(ordinal).ok()?).ok()?;
    let bytes = result::device::get_uuid(device).ok()?.bytes.map(|it| it as u8);
    Some(format!("GPU-{}", uuid::Uuid::from_bytes(bytes).hyphenated()))
}

#[cfg(not(feature = "cuda"))]
fn uuid(_ordinal: usize) -> Option<String> {
    None
}
