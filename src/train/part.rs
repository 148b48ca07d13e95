//! A trained part of a model as one file, with the configs that say how it is computed: what a training job makes.
//!
//! Its tensors have the names that the package's component has, so that whoever loads a package loads it as one. One
//! key of metadata holds everything else: a file with several would have them in another order each time.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use super::checkpoint::{Stored, about};
use super::lora::Adapters;
use super::trainer::Snapshot;
use crate::gpu;
use crate::job::task::making::{Part, Precision};
use crate::models::package::Package;
use crate::models::weights::Weights;

/// Where a file's description stands among its metadata.
const KEY: &str = "jobctl_part";
/// The name of the weights in an unpacked part.
const WEIGHTS: &str = "diffusion_pytorch_model.safetensors";
/// What adapters are called in the file, before their layers' names: no part of the model, but what it was made with.
pub const ADAPTER: &str = "adapter:";

/// What a file says of itself.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct About {
    /// Which part it is.
    pub part: Part,
    /// How many steps it was trained.
    pub n_steps: usize,
    /// alpha/rank of the adapters that are joined to the weights, if any are.
    pub factor: Option<f64>,
    /// The configs that the part reads, by their paths in the package.
    configs: BTreeMap<String, String>,
}

impl About {
    /// The texts of the configs of one component, by their paths in the package.
    pub(super) fn own_configs(&self, component: &str) -> impl Iterator<Item = (&String, &String)> {
        self.configs.iter().filter(move |it| Path::new(it.0).starts_with(component))
    }
}

/// The component that a part's weights are in.
///
/// # Errors
/// Text encoders are not trained.
pub fn component(part: Part) -> Result<&'static str> {
    match part {
        Part::Denoiser => Ok("transformer"),
        Part::Vae => Ok("vae"),
        Part::Text | Part::Network => anyhow::bail!("text encoders and metrics' networks are not trained"),
    }
}

/// Writes a part of `base` with what a run has come to: its running means where it has some, else its values; adapters
/// are joined to the base's weights, and kept beside them. `changes` are other values of the component's config.
///
/// # Errors
/// A tensor that the base does not have or has in another shape, a full disk.
pub fn write(
    path: &Path,
    base: &Package,
    part: Part,
    snapshot: &Snapshot,
    adapters: Option<&Adapters>,
    precision: Precision,
    changes: &BTreeMap<String, serde_json::Value>,
) -> Result<()> {
    let component = component(part)?;
    let dtype = gpu::dtype(precision);
    let trained = snapshot.names.iter().cloned().zip(snapshot.comes_out().iter().cloned());
    let mut trained: HashMap<String, Tensor> = trained.collect();
    let weights = Weights::open(&base.weights(component)?, &Device::Cpu, DType::F32)?;
    let mut tensors: BTreeMap<String, Stored> = BTreeMap::new();
    if let Some(adapters) = adapters {
        for (name, it) in &trained {
            tensors.insert(format!("{ADAPTER}{name}"), Stored(it.clone()));
        }
        let names = weights.stored().into_iter().filter(|it| !it.0.starts_with(ADAPTER));
        let mut whole: HashMap<String, Tensor> =
            names.map(|(name, shape, _)| Ok((name.clone(), weights.get(shape, &name)?))).collect::<Result<_>>()?;
        adapters.join(&mut whole, &trained)?;
        trained = whole;
    }
    for (name, shape, _) in weights.stored().into_iter().filter(|it| !it.0.starts_with(ADAPTER)) {
        let tensor = match trained.remove(&name) {
            Some(tensor) => {
                ensure!(tensor.dims() == shape, "{name} is {:?}, in the base {shape:?}", tensor.dims());
                tensor
            }
            None => weights.get(shape, &name)?,
        };
        tensors.insert(name, Stored(tensor.to_dtype(dtype)?));
    }
    ensure!(trained.is_empty(), "the base has no {}", trained.into_keys().collect::<Vec<_>>().join(", "));
    let described = About {
        part,
        n_steps: snapshot.n_done,
        factor: adapters.map(|it| it.alpha / it.rank as f64),
        configs: configs(base, part, changes)?,
    };
    let metadata = HashMap::from([(KEY.to_owned(), serde_json::to_string(&described)?)]);
    safetensors::serialize_to_file(tensors, Some(metadata), path)
        .with_context(|| format!("write {}", path.display()))?;
    File::open(path)?.sync_all().with_context(|| format!("write {}", path.display()))
}

/// The texts of the configs that a part reads; `changes` are other values of its own component's.
fn configs(
    base: &Package,
    part: Part,
    changes: &BTreeMap<String, serde_json::Value>,
) -> Result<BTreeMap<String, String>> {
    let own = base.config(component(part)?);
    let is_config =
        |it: &std::path::PathBuf| it.file_name().is_some_and(|it| it == "config.json" || it == "scheduler_config.json");
    let read = |path: std::path::PathBuf| -> Result<(String, String)> {
        let mut text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        if path == own && !changes.is_empty() {
            let mut config: BTreeMap<String, serde_json::Value> = serde_json::from_str(&text)?;
            config.extend(changes.clone());
            text = serde_json::to_string_pretty(&config)? + "\n";
        }
        Ok((path.strip_prefix(&base.root)?.to_string_lossy().into_owned(), text))
    };
    base.files(part)?.into_iter().filter(is_config).map(read).collect()
}

/// What a file says of itself.
///
/// # Errors
/// It is no file of a trained part.
pub fn look(path: &Path) -> Result<About> {
    let text = about(path, KEY).with_context(|| format!("{} is no trained part", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("understand {}", path.display()))
}

/// Makes a package of a file in `folder`, which is empty, with a link to the file in the place of weights. The package
/// has no other part than this one.
///
/// # Errors
/// It is no file of a trained part, or the folder cannot be written.
pub fn unpack(path: &Path, folder: &Path) -> Result<Package> {
    let about = look(path)?;
    for (name, text) in &about.configs {
        let to = folder.join(name);
        ensure!(to.starts_with(folder) && !name.contains(".."), "{} names the file {name}", path.display());
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&to, text).with_context(|| format!("write {}", to.display()))?;
    }
    let path = path.canonicalize().with_context(|| format!("find {}", path.display()))?;
    std::os::unix::fs::symlink(&path, folder.join(component(about.part)?).join(WEIGHTS))?;
    let names = ["transformer", "vae", "scheduler", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"];
    let index: BTreeMap<&str, serde_json::Value> = names
        .into_iter()
        .map(|it| (it, serde_json::json!(["", it])))
        .chain([("_class_name", serde_json::json!("StableDiffusion3Pipeline"))])
        .collect();
    fs::write(folder.join("model_index.json"), serde_json::to_string(&index)?)?;
    Package::open(folder)
}
