//! Random weights to files, tensor by tensor: no component is ever in memory.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use half::bf16;
use safetensors::{Dtype, View};
use serde_json::json;

use super::random::Tensor;
use crate::job::task::making::Precision;

/// The most bytes of tensors in a file, unless one tensor alone has more.
const MOST_BYTES: u64 = 5_000_000_000;

/// How weights are stored.
impl Precision {
    /// torch's name of it.
    pub(super) fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::Bf16 => "bfloat16",
        }
    }

    fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }

    fn stored_as(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::Bf16 => Dtype::BF16,
        }
    }

    fn store(self) -> fn(&[f32], &mut [u8]) {
        match self {
            Self::F32 => |from, to| {
                for (from, to) in from.iter().zip(to.as_chunks_mut().0) {
                    *to = from.to_le_bytes();
                }
            },
            Self::Bf16 => |from, to| {
                for (from, to) in from.iter().zip(to.as_chunks_mut().0) {
                    *to = bf16::from_f32(*from).to_le_bytes();
                }
            },
        }
    }
}

/// The files of one component.
pub struct Plan<'a> {
    component: &'a str,
    seed: u64,
    precision: Precision,
    shards: Vec<Vec<Tensor>>,
}

impl<'a> Plan<'a> {
    pub fn new(component: &'a str, seed: u64, precision: Precision, tensors: Vec<Tensor>) -> Self {
        Self { component, seed, precision, shards: cut(tensors, precision, MOST_BYTES) }
    }

    pub fn n_bytes(&self) -> u64 {
        self.shards.iter().flatten().map(|it| n_bytes(it, self.precision)).sum()
    }
}

fn n_bytes(tensor: &Tensor, precision: Precision) -> u64 {
    (tensor.len() * precision.size()) as u64
}

/// Tensors in their order, in files of at most `most` bytes.
fn cut(tensors: Vec<Tensor>, precision: Precision, most: u64) -> Vec<Vec<Tensor>> {
    let mut shards = vec![Vec::new()];
    let mut filled = 0;
    for tensor in tensors {
        let n = n_bytes(&tensor, precision);
        if filled + n > most && filled > 0 {
            shards.push(Vec::new());
            filled = 0;
        }
        filled += n;
        if let Some(last) = shards.last_mut() {
            last.push(tensor);
        }
    }
    shards
}

/// Writes components one after the other and counts their bytes.
pub struct Writer<'a> {
    written: AtomicU64,
    progress: &'a (dyn Fn(u64) + Sync),
}

impl<'a> Writer<'a> {
    pub fn new(progress: &'a (dyn Fn(u64) + Sync)) -> Self {
        Self { written: AtomicU64::new(0), progress }
    }

    /// Writes the files that `plan` names into a component's folder, with an index where there are several.
    pub fn write(&self, folder: &Path, plan: &Plan) -> anyhow::Result<()> {
        let is_clip_or_t5 = plan.component.starts_with("text_encoder");
        let stem = if is_clip_or_t5 { "model" } else { "diffusion_pytorch_model" };
        let n = plan.shards.len();
        let mut places = BTreeMap::new();
        for (idx, shard) in plan.shards.iter().enumerate() {
            let name = if n == 1 {
                format!("{stem}.safetensors")
            } else {
                format!("{stem}-{:05}-of-{n:05}.safetensors", idx + 1)
            };
            let views = shard.iter().map(|it| (&it.name, Lazy { tensor: it, plan, writer: self }));
            // transformers refuses files that don't say this.
            let about = HashMap::from([("format".to_owned(), "pt".to_owned())]);
            safetensors::serialize_to_file(views, Some(about), &folder.join(&name))
                .with_context(|| format!("write {name}"))?;
            places.extend(shard.iter().map(|it| (&it.name, name.clone())));
        }
        if n > 1 {
            let index = json!({ "metadata": { "total_size": plan.n_bytes() }, "weight_map": places });
            fs::write(folder.join(format!("{stem}.safetensors.index.json")), serde_json::to_string_pretty(&index)?)?;
        }
        Ok(())
    }
}

/// A tensor that is made when its turn comes to be written.
struct Lazy<'a> {
    tensor: &'a Tensor,
    plan: &'a Plan<'a>,
    writer: &'a Writer<'a>,
}

impl View for Lazy<'_> {
    fn dtype(&self) -> Dtype {
        self.plan.precision.stored_as()
    }

    fn shape(&self) -> &[usize] {
        &self.tensor.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let Plan { component, seed, precision, .. } = self.plan;
        let bytes = self.tensor.bytes(*seed, component, precision.size(), precision.store());
        let n = bytes.len() as u64;
        (self.writer.progress)(self.writer.written.fetch_add(n, Ordering::Relaxed) + n);
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        self.tensor.len() * self.plan.precision.size()
    }
}

#[cfg(test)]
mod tests {
    use super::super::random::Hints;
    use super::*;

    #[test]
    fn a_file_holds_no_more_than_it_may_but_one_tensor_at_least() {
        let tensor = |n: usize| Tensor::new(format!("{n}"), vec![n], Hints::default());
        let shards = cut([3, 2, 9, 1, 4].map(tensor).into(), Precision::Bf16, 10);
        let sizes: Vec<Vec<usize>> = shards.iter().map(|it| it.iter().map(Tensor::len).collect()).collect();
        assert_eq!(sizes, [vec![3, 2], vec![9], vec![1, 4]]);
    }
}
