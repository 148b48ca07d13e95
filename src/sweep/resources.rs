//! What a sweep asks of the slots that do its work: `[resources]`, and a block's own.

use crate::job::needs::Needs;

/// The keys of a `[resources]` table, as far as the file has them.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Wants {
    /// `device`: true for `"cuda"`, false for `"any"`.
    pub cuda: Option<bool>,
    /// `gpu`: a part of the GPU's name, in lower case.
    pub gpu: Option<String>,
    /// `gpu_memory`: GiB of each GPU.
    pub gpu_memory_gib: Option<u32>,
    /// `gpus`: how many at once.
    pub n_gpus: Option<u16>,
    /// `labels`: which the worker must have; sorted.
    pub labels: Option<Vec<String>>,
}

impl Wants {
    /// These, and the outer table's where a key is not here.
    #[must_use]
    pub fn within(self, outer: &Self) -> Self {
        Self {
            cuda: self.cuda.or(outer.cuda),
            gpu: self.gpu.or_else(|| outer.gpu.clone()),
            gpu_memory_gib: self.gpu_memory_gib.or(outer.gpu_memory_gib),
            n_gpus: self.n_gpus.or(outer.n_gpus),
            labels: self.labels.or_else(|| outer.labels.clone()),
        }
    }

    /// The labels alone: what a sweep asks for those of its jobs that load no model.
    #[must_use]
    pub fn labels_only(&self) -> Self {
        Self { labels: self.labels.clone(), ..Self::default() }
    }

    /// What a job asks of a slot, where the work itself needs a GPU or does not.
    pub fn needs(&self, needs_gpu: bool) -> Needs {
        let labels = self.labels.clone().unwrap_or_default();
        let asks = self.cuda == Some(true) || self.asks_for_gpus();
        if !(needs_gpu || asks) {
            return Needs { labels, ..Needs::default() };
        }
        Needs {
            n_gpus: self.n_gpus.unwrap_or(1),
            gpu_model: self.gpu.clone().unwrap_or_default(),
            gpu_memory_gib: self.gpu_memory_gib.unwrap_or(0),
            labels,
        }
    }

    /// Whether a key says something of GPUs, but for `device`.
    pub(super) fn asks_for_gpus(&self) -> bool {
        self.gpu.is_some() || self.gpu_memory_gib.is_some() || self.n_gpus.is_some()
    }
}
