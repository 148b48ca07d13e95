//! Low-rank adapters (Hu et al. 2021, arXiv 2106.09685) in the layout of diffusers.

use std::collections::HashMap;

use anyhow::ensure;
use candle_core::{Device, Result, Tensor};
use serde::{Deserialize, Serialize};

use super::random::{Purpose, Stream};

/// Adapters of the linear layers whose names end in one of `targets`: W + (alpha/rank)·B·A.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Adapters {
    /// Rows of A and columns of B.
    pub rank: usize,
    /// What B·A is multiplied with, times the rank.
    pub alpha: f64,
    /// The ends of the layers' names, `attn.to_q` for one.
    pub targets: Vec<String>,
}

impl Adapters {
    /// Of every projection of the attentions, as diffusers' script for SD3 has it.
    pub fn of_attention(rank: usize) -> Self {
        let targets = [
            "attn.add_k_proj",
            "attn.add_q_proj",
            "attn.add_v_proj",
            "attn.to_add_out",
            "attn.to_k",
            "attn.to_out.0",
            "attn.to_q",
            "attn.to_v",
        ];
        Self { rank, alpha: rank as f64, targets: targets.map(str::to_owned).to_vec() }
    }

    /// The layer that a weight belongs to, if it has an adapter.
    fn layer<'a>(&self, name: &'a str) -> Option<&'a str> {
        let layer = name.strip_suffix(".weight")?;
        let is_target = |it: &String| layer == it || layer.ends_with(&format!(".{it}"));
        self.targets.iter().any(is_target).then_some(layer)
    }

    /// New adapters for what a model asks for, f32: A is uniform up to 1/√n_in as torch's linear layers are, B is 0.
    ///
    /// # Errors
    /// No layer has such a name, a rank of 0 or above a layer's sides, no memory.
    pub(super) fn draw(
        &self,
        asked: &[(String, Vec<usize>)],
        seed: u64,
        device: &Device,
    ) -> anyhow::Result<Vec<(String, Tensor)>> {
        let mut drawn = Vec::new();
        for (idx, (name, shape)) in asked.iter().enumerate() {
            let (Some(layer), [n_out, n_in]) = (self.layer(name), shape.as_slice()) else { continue };
            let most = (*n_in).min(*n_out);
            ensure!(
                (1..=most).contains(&self.rank),
                "rank {} for {layer}, which is {n_out}×{n_in}: from 1 to {most}",
                self.rank
            );
            let mut random = Stream::new(seed, Purpose::Weights, idx as u64, 0);
            let bound = 1.0 / (*n_in as f64).sqrt();
            let a: Vec<f32> = (0..self.rank * n_in).map(|_| (bound * (2.0 * random.uniform() - 1.0)) as f32).collect();
            drawn.push((format!("{layer}.lora_A.weight"), Tensor::from_vec(a, (self.rank, *n_in), device)?));
            let b = Tensor::zeros((*n_out, self.rank), candle_core::DType::F32, device)?;
            drawn.push((format!("{layer}.lora_B.weight"), b));
        }
        ensure!(!drawn.is_empty(), "no layer's name ends in one of {}", self.targets.join(", "));
        Ok(drawn)
    }

    /// Adds B·A to the weights that have adapters.
    pub(super) fn join(&self, weights: &mut HashMap<String, Tensor>, adapters: &HashMap<String, Tensor>) -> Result<()> {
        for (name, a) in adapters {
            let Some(layer) = name.strip_suffix(".lora_A.weight") else { continue };
            let weight = format!("{layer}.weight");
            let (Some(b), Some(base)) = (adapters.get(&format!("{layer}.lora_B.weight")), weights.get(&weight)) else {
                candle_core::bail!("the adapter of {layer} is not whole")
            };
            let by = (b.matmul(a)? * (self.alpha / self.rank as f64))?;
            let joined = (base + by.to_dtype(base.dtype())?)?;
            weights.insert(weight, joined);
        }
        Ok(())
    }
}
