//! A package: a folder of weights in the diffusers layout, or one on the Hugging Face hub.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A package on this machine's disk.
#[derive(Clone, Debug)]
pub struct Package {
    /// Its name as the user gave it: a path, or `owner/name` on the hub.
    pub name: String,
    /// Its folder.
    pub root: PathBuf,
    /// The components that it has, with the classes that diffusers and transformers have for them.
    pub components: BTreeMap<String, String>,
}

impl Package {
    /// Opens the package in a folder.
    ///
    /// # Errors
    /// No model_index.json there, or one of another family than Stable Diffusion 3.
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join("model_index.json");
        ensure!(folder.is_dir(), "{} is no folder", folder.display());
        ensure!(
            path.is_file(),
            "{} has no model_index.json: a package is a folder in the layout of diffusers",
            folder.display()
        );
        let index: BTreeMap<String, Value> = read_config(&path)?;
        let class = index.get("_class_name").and_then(Value::as_str).unwrap_or_default();
        if class != "StableDiffusion3Pipeline" {
            bail!("{}: a package of `{class}`; only StableDiffusion3Pipeline is supported", path.display());
        }
        let components = index.iter().filter(|(name, _)| !name.starts_with('_'));
        let components = components.filter_map(|(name, it)| Some((name.clone(), it.get(1)?.as_str()?.to_owned())));
        let package =
            Self { name: folder.display().to_string(), root: folder.to_owned(), components: components.collect() };
        for needed in ["transformer", "vae", "scheduler", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"]
        {
            ensure!(package.has(needed), "{}: the package has no `{needed}`", path.display());
        }
        ensure!(
            package.has("text_encoder_3") == package.has("tokenizer_3"),
            "{}: of `text_encoder_3` and `tokenizer_3` there is only one",
            path.display()
        );
        Ok(package)
    }

    /// Whether it has this component.
    pub fn has(&self, component: &str) -> bool {
        self.components.contains_key(component)
    }

    /// The folder of a component.
    pub fn folder(&self, component: &str) -> PathBuf {
        self.root.join(component)
    }

    /// The config of a component.
    pub fn config(&self, component: &str) -> PathBuf {
        self.folder(component).join(if component == "scheduler" { "scheduler_config.json" } else { "config.json" })
    }

    /// The safetensors files of a component: one, or the shards that its index names.
    ///
    /// # Errors
    /// There is neither, or a shard is missing.
    pub fn weights(&self, component: &str) -> anyhow::Result<Vec<PathBuf>> {
        let folder = self.folder(component);
        for stem in ["diffusion_pytorch_model", "model"] {
            let single = folder.join(format!("{stem}.safetensors"));
            if single.is_file() {
                return Ok(vec![single]);
            }
            let index = folder.join(format!("{stem}.safetensors.index.json"));
            if index.is_file() {
                return shards(&folder, &index);
            }
        }
        bail!(
            "{} has no weights: neither diffusion_pytorch_model.safetensors nor model.safetensors, whole or in shards",
            folder.display()
        )
    }
}

fn shards(folder: &Path, index: &Path) -> anyhow::Result<Vec<PathBuf>> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let map: Index = read_config(index)?;
    let mut names: Vec<&String> = map.weight_map.values().collect();
    names.sort_unstable();
    names.dedup();
    let mut files = Vec::with_capacity(names.len());
    for name in names {
        let path = folder.join(name);
        let is_plain = Path::new(name).components().count() == 1;
        ensure!(is_plain, "{}: `{name}` is no file's name", index.display());
        ensure!(path.is_file(), "{} names the shard {name}, which is missing", index.display());
        files.push(path);
    }
    Ok(files)
}

/// Reads a JSON file of a package.
///
/// # Errors
/// The file cannot be read, or a key is missing or of another type; which file and which key.
pub fn read_config<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("understand {}", path.display()))
}
