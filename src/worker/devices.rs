//! Which devices a worker's slots are on.

use anyhow::{bail, ensure};

use super::gpus::{Driver, Gpus};
use super::machine;
use crate::job::needs::Offer;
use crate::queue::claim::Gpu;

/// One slot's device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SlotDevice {
    /// The processor.
    Cpu,
    /// GPUs, by their numbers: more than one for jobs that ask for several at once.
    Cuda(Vec<usize>),
}

impl SlotDevice {
    /// Its name: `cpu`, `cuda:N`, or `cuda:N+M`.
    pub fn name(&self) -> String {
        match self {
            Self::Cpu => "cpu".to_owned(),
            Self::Cuda(ordinals) => {
                let ordinals: Vec<String> = ordinals.iter().map(ToString::to_string).collect();
                format!("cuda:{}", ordinals.join("+"))
            }
        }
    }

    /// The numbers of its GPUs.
    pub fn gpus(&self) -> &[usize] {
        match self {
            Self::Cpu => &[],
            Self::Cuda(ordinals) => ordinals,
        }
    }

    /// The GPUs of these slots, as the queue is told of them.
    pub(super) fn describe(slots: &[Self], gpus: &dyn Driver) -> Vec<Gpu> {
        let describe = |slot: &Self, ordinal: usize| Gpu {
            device: format!("cuda:{ordinal}"),
            slot: slot.name(),
            model: gpus.model(ordinal),
            memory_gib: gpus.memory_gib(ordinal),
        };
        slots.iter().flat_map(|slot| slot.gpus().iter().map(|it| describe(slot, *it)).collect::<Vec<_>>()).collect()
    }

    /// What these slots have to offer, without labels.
    pub fn offers(slots: &[Self]) -> Vec<Offer> {
        let gpus = Self::describe(slots, &Gpus::open());
        slots.iter().map(|it| it.offer(&gpus, &[])).collect()
    }

    /// What a slot on it has to offer, of the GPUs that the worker has: of several the least.
    pub(super) fn offer(&self, gpus: &[Gpu], labels: &[String]) -> Offer {
        let name = self.name();
        let own: Vec<&Gpu> = gpus.iter().filter(|it| it.slot == name).collect();
        let first = own.first().map_or("", |it| it.model.as_str());
        Offer {
            n_gpus: u16::try_from(self.gpus().len()).unwrap_or(u16::MAX),
            gpu_model: if own.iter().all(|it| it.model == first) { first.to_owned() } else { String::new() },
            gpu_memory_gib: own.iter().map(|it| it.memory_gib).min().unwrap_or(0),
            labels: labels.to_vec(),
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
            n => (0..n).map(|it| SlotDevice::Cuda(vec![it])).collect(),
        });
    };
    let mut slots = Vec::new();
    for word in list.split(',').map(str::trim) {
        if word == "cpu" {
            ensure!(!slots.contains(&SlotDevice::Cpu), "--device names `cpu` twice");
            slots.extend(vec![SlotDevice::Cpu; n_cpu]);
            continue;
        }
        let Some(ordinals) = ordinals(word) else {
            bail!(
                "`{word}` is no device: --device takes `cpu`, `cuda:0`, `cuda:0+1` for a slot of two GPUs, or several with \
                 commas between them"
            );
        };
        ensure!(cfg!(feature = "cuda"), "`{word}`: this jobctl was built without CUDA");
        let mut used: Vec<usize> = slots.iter().flat_map(SlotDevice::gpus).copied().collect();
        for ordinal in &ordinals {
            ensure!(*ordinal < n_gpus, "`{word}`: this machine has {n_gpus} GPUs, numbered from 0");
            ensure!(!used.contains(ordinal), "--device names `cuda:{ordinal}` twice");
            used.push(*ordinal);
        }
        slots.push(SlotDevice::Cuda(ordinals));
    }
    Ok(slots)
}

/// The numbers of `cuda`, `cuda:N` or `cuda:N+M`.
fn ordinals(word: &str) -> Option<Vec<usize>> {
    match word.strip_prefix("cuda")? {
        "" => Some(vec![0]),
        rest => rest.strip_prefix(':')?.split('+').map(|it| it.parse().ok()).collect(),
    }
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
    use super::{Gpu, SlotDevice, ordinals, slots};
    use crate::job::needs::Offer;

    #[test]
    fn devices_are_what_the_list_names() {
        assert_eq!(slots(Some("cpu"), Some(3)).unwrap(), vec![SlotDevice::Cpu; 3]);
        for (list, what) in [("gpu", "no device"), ("cuda:x", "no device"), ("", "no device"), ("cpu,cpu", "twice")] {
            let error = slots(Some(list), Some(1)).unwrap_err().to_string();
            assert!(error.contains(what), "{list}: {error}");
        }
    }

    #[test]
    fn several_gpus_can_be_one_slot() {
        assert_eq!(ordinals("cuda"), Some(vec![0]));
        assert_eq!(ordinals("cuda:2+3"), Some(vec![2, 3]));
        assert_eq!(ordinals("cuda:1+"), None);
        assert_eq!(ordinals("cuda1"), None);
        assert_eq!(SlotDevice::Cuda(vec![2, 3]).name(), "cuda:2+3");
    }

    #[test]
    fn a_slot_of_several_offers_the_least_of_them() {
        let gpu = |n: usize, slot: &str, model: &str, memory_gib| Gpu {
            device: format!("cuda:{n}"),
            slot: slot.to_owned(),
            model: model.to_owned(),
            memory_gib,
        };
        let gpus = [
            gpu(0, "cuda:0+1", "NVIDIA A100", 80),
            gpu(1, "cuda:0+1", "NVIDIA A100", 40),
            gpu(2, "cuda:2+3", "NVIDIA A100", 80),
            gpu(3, "cuda:2+3", "NVIDIA H100", 80),
        ];
        let offer = |n_gpus, model: &str, gpu_memory_gib| Offer {
            n_gpus,
            gpu_model: model.to_owned(),
            gpu_memory_gib,
            labels: vec!["a".to_owned()],
        };
        let labels = ["a".to_owned()];
        assert_eq!(SlotDevice::Cuda(vec![0, 1]).offer(&gpus, &labels), offer(2, "NVIDIA A100", 40));
        assert_eq!(SlotDevice::Cuda(vec![2, 3]).offer(&gpus, &labels), offer(2, "", 80));
        assert_eq!(SlotDevice::Cpu.offer(&gpus, &labels), offer(0, "", 0));
    }
}
