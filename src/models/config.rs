//! A component's config.json, read key by key, so that a mistake is told with its file and its key.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::models::layers::Activation;
use crate::models::package::read_config;

/// The keys of a config file; those that nobody asks for are tolerated.
pub struct Keys {
    path: PathBuf,
    map: Map<String, Value>,
}

impl Keys {
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        Ok(Self { path: path.to_owned(), map: read_config(path)? })
    }

    /// The keys of the object under a key that may be missing or null.
    pub fn below(&self, key: &str) -> anyhow::Result<Option<Self>> {
        Ok(self.find(key)?.map(|map| Self { path: self.path.clone(), map }))
    }

    /// The value of a key that may be missing or null.
    pub fn find<T: DeserializeOwned>(&self, key: &str) -> anyhow::Result<Option<T>> {
        let Some(value) = self.map.get(key).filter(|it| !it.is_null()) else { return Ok(None) };
        let parsed = serde_json::from_value(value.clone());
        parsed.map(Some).with_context(|| format!("{}: `{key}` is {value}", self.path.display()))
    }

    /// The value of a key that must be there.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> anyhow::Result<T> {
        self.find(key)?.with_context(|| format!("{}: `{key}` is missing", self.path.display()))
    }

    /// A number that counts something there must be one of.
    pub fn count(&self, key: &str) -> anyhow::Result<usize> {
        let n = self.get(key)?;
        ensure!(n > 0, "{}: `{key}` is 0", self.path.display());
        Ok(n)
    }

    /// The same, of which there may be a default.
    pub fn count_or(&self, key: &str, default: usize) -> anyhow::Result<usize> {
        if self.find::<Value>(key)?.is_some() { self.count(key) } else { Ok(default) }
    }

    /// The activation that transformers knows by the name `name`, which stands under `key`.
    pub fn activation(&self, key: &str, name: &str) -> anyhow::Result<Activation> {
        Ok(match name {
            "gelu" => Activation::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" => Activation::GeluTanh,
            "quick_gelu" => Activation::QuickGelu,
            "relu" => Activation::Relu,
            "silu" | "swish" => Activation::Silu,
            _ => anyhow::bail!(
                "{}: `{key}`: the activation `{name}` is none of gelu, gelu_new, gelu_pytorch_tanh, quick_gelu, relu, silu",
                self.path.display()
            ),
        })
    }

    /// The file that these keys stand in.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
