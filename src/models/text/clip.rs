//! CLIP's text encoder, as `CLIPTextModelWithProjection` of transformers computes it.

use std::path::Path;

use anyhow::ensure;
use candle_core::{Device, Result, Tensor};

use crate::models::clip::{Layer, Shape};
use crate::models::config::Keys;
use crate::models::layers::{Activation, LayerNorm, Linear};
use crate::models::weights::Weights;

/// transformers' value of `eos_token_id` where a config has none.
const EOS: u32 = 49407;
/// An `eos_token_id` that configs had by mistake; transformers then takes the largest id of a prompt for its end.
const LEGACY_EOS: u32 = 2;

/// The encoder's config.json.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// Rows of the token table.
    pub vocab_size: usize,
    /// The longest prompt in tokens.
    pub max_position_embeddings: usize,
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Attention heads, a divisor of `hidden_size`.
    pub num_attention_heads: usize,
    /// Width of the pooled output.
    pub projection_dim: usize,
    /// The MLP's activation.
    pub hidden_act: Activation,
    /// Of the layer normalisations.
    pub layer_norm_eps: f64,
    /// The token whose place gives the pooled output.
    pub eos_token_id: u32,
}

impl Config {
    /// Reads a config.json.
    ///
    /// # Errors
    /// No JSON, or a key that is missing or wrong; which file and which key.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let keys = Keys::read(path)?;
        let act: String = keys.get("hidden_act")?;
        let config = Self {
            vocab_size: keys.count("vocab_size")?,
            max_position_embeddings: keys.count("max_position_embeddings")?,
            hidden_size: keys.count("hidden_size")?,
            intermediate_size: keys.count("intermediate_size")?,
            num_hidden_layers: keys.count("num_hidden_layers")?,
            num_attention_heads: keys.count("num_attention_heads")?,
            projection_dim: keys.count("projection_dim")?,
            hidden_act: keys.activation("hidden_act", &act)?,
            layer_norm_eps: keys.find("layer_norm_eps")?.unwrap_or(1e-5),
            eos_token_id: keys.find("eos_token_id")?.unwrap_or(EOS),
        };
        ensure!(
            config.hidden_size.is_multiple_of(config.num_attention_heads),
            "{}: `num_attention_heads` {} does not divide `hidden_size` {}",
            path.display(),
            config.num_attention_heads,
            config.hidden_size
        );
        Ok(config)
    }

    /// What its layers are like.
    fn shape(&self) -> Shape {
        Shape {
            width: self.hidden_size,
            inner: self.intermediate_size,
            n_heads: self.num_attention_heads,
            act: self.hidden_act,
            eps: self.layer_norm_eps,
        }
    }
}

/// The states of one prompt of N tokens.
pub struct Output {
    /// What goes into the last layer, [1, N, hidden_size]: `hidden_states[-2]` of transformers.
    pub hidden: Tensor,
    /// The normalised last state at the prompt's end, projected: [1, projection_dim].
    pub pooled: Tensor,
}

/// The encoder.
pub struct ClipText {
    tokens: Tensor,
    positions: Tensor,
    layers: Vec<Layer>,
    final_norm: LayerNorm,
    projection: Linear,
    eos_token_id: u32,
}

impl ClipText {
    /// Takes the tensors from `weights`, whose names begin with `text_model.` or, as transformers 5 can write them,
    /// without it.
    ///
    /// # Errors
    /// The tensors cannot be read.
    pub fn load(config: &Config, weights: &Weights) -> Result<Self> {
        let is_wrapped = weights.has("text_model.embeddings.token_embedding.weight");
        let bare = weights.has("embeddings.token_embedding.weight");
        let model = if is_wrapped || !bare { weights.at("text_model") } else { weights.clone() };
        let embeddings = model.at("embeddings");
        let layers = model.at("encoder").at("layers");
        let width = config.hidden_size;
        Ok(Self {
            tokens: embeddings.at("token_embedding").get((config.vocab_size, width), "weight")?,
            positions: embeddings.at("position_embedding").get((config.max_position_embeddings, width), "weight")?,
            layers: (0..config.num_hidden_layers)
                .map(|it| Layer::load(&config.shape(), &layers.at(it)))
                .collect::<Result<_>>()?,
            final_norm: LayerNorm::load(&model.at("final_layer_norm"), width, config.layer_norm_eps)?,
            projection: Linear::load(&weights.at("text_projection"), width, config.projection_dim, false)?,
            eos_token_id: config.eos_token_id,
        })
    }

    /// Encodes one prompt, padding included. Each token sees itself and those before it, padding or not.
    ///
    /// # Errors
    /// More ids than positions, an id that has no row, or no memory.
    pub fn forward(&self, ids: &[u32]) -> Result<Output> {
        let device = self.tokens.device();
        let n = ids.len();
        let tokens = self.tokens.index_select(&Tensor::new(ids, device)?, 0)?;
        let mut x = (tokens + self.positions.narrow(0, 0, n)?)?.unsqueeze(0)?;
        let mask = causal_mask(n, device)?;
        let mut hidden = x.clone();
        for layer in &self.layers {
            hidden = x;
            x = layer.forward(&hidden, Some(&mask))?;
        }
        let last = self.final_norm.forward(&x)?;
        let pooled = self.projection.forward(&last.narrow(1, self.end(ids), 1)?.squeeze(1)?)?;
        Ok(Output { hidden, pooled })
    }

    /// The place of a prompt's end: the first of the largest ids, or the first `eos_token_id`.
    fn end(&self, ids: &[u32]) -> usize {
        let end = match self.eos_token_id {
            LEGACY_EOS => ids.iter().max().copied().unwrap_or_default(),
            eos => eos,
        };
        ids.iter().position(|it| *it == end).unwrap_or(0)
    }
}

/// 0 where a query may look, −∞ where it may not: [1, 1, n, n] in f32.
fn causal_mask(n: usize, device: &Device) -> Result<Tensor> {
    let row = |query: usize| (0..n).map(move |key| if key <= query { 0.0 } else { f32::NEG_INFINITY });
    Tensor::from_iter((0..n).flat_map(row), device)?.reshape((1, 1, n, n))
}
