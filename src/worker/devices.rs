//! Which devices a worker's slots are on.

use anyhow::{bail, ensure};

use super::machine;
use crate::queue::submit::{LANE_CPU, LANE_CUDA};

/// One slot's device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SlotDevice {
    /// The processor.
    Cpu,
    /// A GPU, by its number.
    Cuda(usize),
}

impl SlotDevice {
    /// Its name: `cpu`, or `cuda:N`.
    pub fn name(self) -> String {
        match self {
            Self::Cpu => "cpu".to_owned(),
            Self::Cuda(ordinal) => format!("cuda:{ordinal}"),
        }
    }

    /// The lanes that it takes jobs from, that which fewer slots serve first.
    pub(super) fn lanes(self) -> &'static [i16] {
        match self {
            Self::Cpu => &[LANE_CPU],
            Self::Cuda(_) => &[LANE_CUDA, LANE_CPU],
        }
    }
}

/// The slots of a worker that was told `list`, such as `cpu` or `cuda:0,cuda:1,cpu`, and how many slots the processor
/// shall have; without a list all GPUs, or the processor where there are none.
///
/// # Errors
/// A word that is no device, a device twice, or one that this machine or this build does not have.
pub fn slots(list: Option<&str>, n_cpu: Option<usize>) -> anyhow::Result<Vec<SlotDevice>> {
    let n_cpu = n_cpu.unwrap_or_else(machine::n_cores);
    let n_gpus = n_gpus();
    let Some(list) = list else {
        return Ok(match n_gpus {
            0 => vec![SlotDevice::Cpu; n_cpu],
            n => (0..n).map(SlotDevice::Cuda).collect(),
        });
    };
    let mut slots = Vec::new();
    for word in list.split(',').map(str::trim) {
        let ordinal = match word.strip_prefix("cuda") {
            None if word == "cpu" => {
                ensure!(!slots.contains(&SlotDevice::Cpu), "--device names `cpu` twice");
                slots.extend(vec![SlotDevice::Cpu; n_cpu]);
                continue;
            }
            Some("") => Some(0),
            Some(rest) => rest.strip_prefix(':').and_then(|it| it.parse::<usize>().ok()),
            None => None,
        };
        let Some(ordinal) = ordinal else {
            bail!("`{word}` is no device: --device takes `cpu`, `cuda:0`, or several with commas between them");
        };
        ensure!(cfg!(feature = "cuda"), "`{word}`: this jobctl was built without CUDA");
        ensure!(ordinal < n_gpus, "`{word}`: this machine has {n_gpus} GPUs, numbered from 0");
        ensure!(!slots.contains(&SlotDevice::Cuda(ordinal)), "--device names `{word}` twice");
        slots.push(SlotDevice::Cuda(ordinal));
    }
    Ok(slots)
}

#[cfg(feature = "cuda")]
fn n_gpus() -> usize {
    use candle_core::cuda_backend::cudarc::driver::CudaContext;
    // Asking a driver that is not installed would panic.
    if !["/dev/nvidiactl", "/dev/dxg"].iter().any(|it| std::path::Path::new(it).exists()) {
        return 0;
    }
    CudaContext::device_count().ok().and_then(|it| usize::try_from(it).ok()).unwrap_or(0)
}

#[cfg(not(feature = "cuda"))]
fn n_gpus() -> usize {
    0
}

#[cfg(test)]
mod tests {
    use super::{SlotDevice, slots};

    #[test]
    fn devices_are_what_the_list_names() {
        assert_eq!(slots(Some("cpu"), Some(3)).unwrap(), [SlotDevice::Cpu; 3]);
        for (list, what) in [("gpu", "no device"), ("cuda:x", "no device"), ("", "no device"), ("cpu,cpu", "twice")] {
            let error = slots(Some(list), Some(1)).unwrap_err().to_string();
            assert!(error.contains(what), "{list}: {error}");
        }
    }
}
