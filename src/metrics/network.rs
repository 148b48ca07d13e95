//! The networks that metrics look through: where their weights lie, and how they are loaded and checked.

use anyhow::Context;
use candle_core::{DType, Device};

use super::{Metric, Score, Subject};
use crate::models::package::{Package, Part};
use crate::models::weights::Weights;

/// What the metrics of one group look through. Its weights are in no jobctl: people name a folder in the layout of
/// transformers, or a name on the Hugging Face hub.
#[derive(Debug)]
pub struct Network {
    /// The metric that it belongs to, by which people name the weights.
    pub metric: &'static str,
    /// The weights of the published definition, by their name on the hub.
    pub default: &'static str,
    /// Makes it of a folder and its tensors, which may be looked at only.
    pub load: fn(package: &Package, weights: &Weights) -> anyhow::Result<Box<dyn Scorer>>,
}

/// A network that is loaded.
pub trait Scorer: Send + Sync {
    /// One score for each of `wanted`, which look through this network.
    ///
    /// # Errors
    /// No memory, or weights that give no number.
    fn score(&self, wanted: &[&'static Metric], subject: &Subject) -> anyhow::Result<Vec<Score>>;
}

impl Network {
    /// Loads it. It computes in f32 on every device.
    ///
    /// # Errors
    /// Another network, files that are missing or wrong, or no memory.
    pub fn open(&self, package: &Package, device: &Device) -> anyhow::Result<Box<dyn Scorer>> {
        self.make(package, &Weights::open(&package.weights("")?, device, DType::F32)?)
    }

    /// Whether these are its weights, by their configs and the names and shapes of their tensors.
    ///
    /// # Errors
    /// What is missing or wrong.
    pub fn check(&self, package: &Package) -> anyhow::Result<()> {
        package.files(Part::Network)?;
        self.make(package, &Weights::look(&package.weights("")?)?).map(drop)
    }

    fn make(&self, package: &Package, weights: &Weights) -> anyhow::Result<Box<dyn Scorer>> {
        let what = || format!("{} is no network for {}", package.root.display(), self.metric);
        let made = (self.load)(package, weights).with_context(what)?;
        weights.finish().with_context(what)?;
        Ok(made)
    }
}
