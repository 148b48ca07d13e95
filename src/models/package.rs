//! A package: a folder of weights in the diffusers layout, what it must hold, and which files each stage reads.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::clip::picture;
use crate::job::Hash;
pub use crate::job::task::making::Part;

/// What a component's weights are called, without `.safetensors`: by diffusers, by transformers.
pub(super) const STEMS: [&str; 2] = ["diffusion_pytorch_model", "model"];
/// The files of a tokenizer's folder that are read, if they are there, beside its vocabulary.
pub(super) const TOKENIZER_SETTINGS: [&str; 3] =
    ["tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"];
/// The older files of a tokenizer's vocabulary, which count where there is no `tokenizer.json`.
pub(super) const TOKENIZER_FILES: [&str; 3] = ["vocab.json", "merges.txt", "spiece.model"];

/// How a folder of weights is laid out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layout {
    /// A pipeline of diffusers: a model_index.json, and a folder a component.
    Diffusers,
    /// One network of transformers: config.json, its weights and, for pictures, preprocessor_config.json.
    Transformers,
}

impl Layout {
    /// That of the folders which have such a part.
    pub fn of(part: Part) -> Self {
        match part {
            Part::Text | Part::Denoiser | Part::Vae => Self::Diffusers,
            Part::Network => Self::Transformers,
        }
    }

    /// What of it is read.
    pub fn parts(self) -> &'static [Part] {
        match self {
            Self::Diffusers => &Part::ALL,
            Self::Transformers => &[Part::Network],
        }
    }
}

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
        ensure!(folder.is_dir(), "{} is no folder", folder.display());
        let path = folder.join("model_index.json");
        ensure!(
            path.exists(),
            "{} has no model_index.json: a package is a folder in the layout of diffusers",
            folder.display()
        );
        let components = components(&path)?;
        Ok(Self { name: folder.display().to_string(), root: folder.to_owned(), components })
    }

    /// Opens a folder of either layout; a network's has no components.
    ///
    /// # Errors
    /// It is of the other layout, or of none.
    pub fn open_as(folder: &Path, layout: Layout) -> anyhow::Result<Self> {
        if layout == Layout::Diffusers {
            return Self::open(folder);
        }
        ensure!(folder.is_dir(), "{} is no folder", folder.display());
        let help = if folder.join("model_index.json").exists() { ", but the package of a pipeline" } else { "" };
        ensure!(
            folder.join("config.json").exists(),
            "{} has no config.json: it is no network in the layout of transformers{help}",
            folder.display()
        );
        Ok(Self { name: folder.display().to_string(), root: folder.to_owned(), components: BTreeMap::new() })
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
        self.folder(component).join(config_name(component))
    }

    /// The safetensors files of a component, or of a network, whose component is empty: one, or the shards that its index
    /// names.
    ///
    /// # Errors
    /// There is neither, or a shard is missing.
    pub fn weights(&self, component: &str) -> anyhow::Result<Vec<PathBuf>> {
        let mut files = self.weight_files(component)?;
        files.retain(|it| it.extension().is_some_and(|it| it == "safetensors"));
        Ok(files)
    }

    /// The same, and the index where there is one.
    fn weight_files(&self, component: &str) -> anyhow::Result<Vec<PathBuf>> {
        let folder = if component.is_empty() { self.root.clone() } else { self.folder(component) };
        for stem in STEMS {
            let single = folder.join(format!("{stem}.safetensors"));
            if single.exists() {
                ensure!(single.is_file(), "{} is no file", single.display());
                return Ok(vec![single]);
            }
            let index = folder.join(format!("{stem}.safetensors.index.json"));
            if index.exists() {
                let mut files = vec![index.clone()];
                for name in shards(&index)? {
                    let path = folder.join(&name);
                    ensure!(path.exists(), "{} names the shard {name}, which is missing", index.display());
                    ensure!(path.is_file(), "{} is no file", path.display());
                    files.push(path);
                }
                return Ok(files);
            }
        }
        bail!(
            "{} has no weights: neither diffusion_pytorch_model.safetensors nor model.safetensors, whole or in shards",
            folder.display()
        )
    }

    /// The files of a tokenizer that are read.
    fn tokenizer_files(&self, component: &str) -> anyhow::Result<Vec<PathBuf>> {
        let folder = self.folder(component);
        let has = |it: &&str| folder.join(it).exists();
        let vocabulary: Vec<&str> =
            if has(&"tokenizer.json") { vec!["tokenizer.json"] } else { TOKENIZER_FILES.into_iter().collect() };
        let vocabulary: Vec<&str> = vocabulary.into_iter().filter(has).collect();
        ensure!(
            !vocabulary.is_empty(),
            "{} has none of tokenizer.json, vocab.json with merges.txt, spiece.model",
            folder.display()
        );
        let names = vocabulary.into_iter().chain(TOKENIZER_SETTINGS.into_iter().filter(has));
        Ok(names.map(|it| folder.join(it)).collect())
    }

    /// The files of one component that are read: its config, its weights or its tokenizer.
    ///
    /// # Errors
    /// One that it cannot do without is missing.
    pub fn component_files(&self, component: &str) -> anyhow::Result<Vec<PathBuf>> {
        if component.starts_with("tokenizer") {
            return self.tokenizer_files(component);
        }
        let mut files = vec![self.config(component)];
        if component != "scheduler" {
            files.extend(self.weight_files(component)?);
        }
        for it in &files {
            ensure!(it.is_file(), "{} is {}", it.display(), if it.exists() { "no file" } else { "missing" });
        }
        Ok(files)
    }

    /// Every file that a part reads, sorted by its path below the package; model_index.json is not among them.
    ///
    /// # Errors
    /// A file that the part cannot do without is missing.
    pub fn files(&self, part: Part) -> anyhow::Result<Vec<PathBuf>> {
        let has = |it: &&str| self.has(it);
        let (components, configs): (Vec<&str>, &[&str]) = match part {
            Part::Text => {
                let all =
                    ["text_encoder", "text_encoder_2", "text_encoder_3", "tokenizer", "tokenizer_2", "tokenizer_3"];
                // It says how wide the zeros in T5's place are.
                let width: &[&str] = if self.has("text_encoder_3") { &[] } else { &["transformer"] };
                (all.into_iter().filter(has).collect(), width)
            }
            Part::Denoiser => (vec!["transformer"], &["scheduler", "vae"]),
            Part::Vae => (vec!["vae"], &[]),
            Part::Network => return self.network_files(),
        };
        let mut files = Vec::new();
        for component in components {
            files.extend(self.component_files(component)?);
        }
        for component in configs {
            let path = self.config(component);
            ensure!(path.is_file(), "{} is missing", path.display());
            files.push(path);
        }
        files.sort_unstable();
        Ok(files)
    }

    /// The files of a network that are read.
    fn network_files(&self) -> anyhow::Result<Vec<PathBuf>> {
        let mut files = self.weight_files("")?;
        files.extend(["config.json", picture::FILE].map(|it| self.root.join(it)).into_iter().filter(|it| it.exists()));
        files.sort_unstable();
        Ok(files)
    }

    /// The hash of what a part reads: of the files' paths below the package and of their contents, which `hash_file`
    /// hashes. The same files elsewhere have the same hash.
    ///
    /// # Errors
    /// Those of [`files`](Self::files) and of `hash_file`.
    pub fn part_hash(
        &self,
        part: Part,
        mut hash_file: impl FnMut(&Path) -> anyhow::Result<Hash>,
    ) -> anyhow::Result<Hash> {
        let listed = self.files(part)?.into_iter().map(|path| {
            let name = path.strip_prefix(&self.root).unwrap_or(&path).to_string_lossy().into_owned();
            Ok((name, hash_file(&path)?))
        });
        Ok(Hash::of_value(&listed.collect::<anyhow::Result<Vec<_>>>()?))
    }
}

/// The name of a component's config.
pub(super) fn config_name(component: &str) -> &'static str {
    if component == "scheduler" { "scheduler_config.json" } else { "config.json" }
}

/// The components that a model_index.json names, with their classes.
pub(super) fn components(path: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let index: BTreeMap<String, Value> = read_config(path)?;
    let class = index.get("_class_name").and_then(Value::as_str).unwrap_or_default();
    ensure!(
        class == "StableDiffusion3Pipeline",
        "{}: a package of `{class}`; only StableDiffusion3Pipeline is supported",
        path.display()
    );
    let components = index.iter().filter(|(name, _)| !name.starts_with('_'));
    let components: BTreeMap<_, _> =
        components.filter_map(|(name, it)| Some((name.clone(), it.get(1)?.as_str()?.to_owned()))).collect();
    for needed in ["transformer", "vae", "scheduler", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"] {
        ensure!(components.contains_key(needed), "{}: the package has no `{needed}`", path.display());
    }
    ensure!(
        components.contains_key("text_encoder_3") == components.contains_key("tokenizer_3"),
        "{}: of `text_encoder_3` and `tokenizer_3` there is only one",
        path.display()
    );
    Ok(components)
}

/// The names of the files that an index of shards names, sorted.
pub(super) fn shards(index: &Path) -> anyhow::Result<Vec<String>> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let map: Index = read_config(index)?;
    let mut names: Vec<String> = map.weight_map.into_values().collect();
    names.sort_unstable();
    names.dedup();
    for name in &names {
        let is_plain = Path::new(name).file_name().is_some_and(|it| it == name.as_str());
        let is_safetensors = name.ends_with(".safetensors");
        ensure!(is_plain && is_safetensors, "{}: `{name}` is no name of a shard beside it", index.display());
    }
    ensure!(!names.is_empty(), "{} names no shard", index.display());
    Ok(names)
}

/// Reads a JSON file of a package.
///
/// # Errors
/// The file cannot be read, or a key is missing or of another type; which file and which key.
pub fn read_config<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("understand {}", path.display()))
}
