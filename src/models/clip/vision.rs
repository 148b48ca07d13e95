//! CLIP's vision encoder, as `CLIPVisionModelWithProjection` of transformers computes it.

use std::path::Path;

use anyhow::{Context, ensure};
use candle_core::{DType, Tensor};

use super::picture::Preparation;
use super::{Layer, Shape};
use crate::gpu::conv;
use crate::image::Rgb;
use crate::models::config::Keys;
use crate::models::layers::{Activation, LayerNorm, Linear};
use crate::models::package::Package;
use crate::models::weights::Weights;

/// The encoder's part of a config.json.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// Its layers.
    pub shape: Shape,
    /// How many there are.
    pub n_layers: usize,
    /// Pixels a side.
    pub image_size: usize,
    /// Pixels a side of a patch, which becomes one token.
    pub patch_size: usize,
    /// Width of the embedding.
    pub projection_dim: usize,
}

impl Config {
    /// Reads the config.json of a whole CLIP or of its vision encoder alone. What it leaves out is as in transformers.
    ///
    /// # Errors
    /// No JSON, no CLIP, or a key that is wrong; which file and which key.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let keys = Keys::read(path)?;
        let kind: Option<String> = keys.find("model_type")?;
        ensure!(
            kind.as_deref().is_some_and(|it| ["clip", "clip_vision_model"].contains(&it)),
            "{}: a model of the type `{}`, not `clip` or `clip_vision_model`",
            path.display(),
            kind.unwrap_or_default()
        );
        // transformers lets the older key win, and a whole CLIP's own width of the embedding.
        let (vision, projection) = match keys.below("vision_config_dict")?.or(keys.below("vision_config")?) {
            Some(vision) => (vision, keys.count_or("projection_dim", 512)?),
            None => {
                let projection = keys.count_or("projection_dim", 512)?;
                (keys, projection)
            }
        };
        let act: Option<String> = vision.find("hidden_act")?;
        let shape = Shape {
            width: vision.count_or("hidden_size", 768)?,
            inner: vision.count_or("intermediate_size", 3072)?,
            n_heads: vision.count_or("num_attention_heads", 12)?,
            act: act.map_or(Ok(Activation::QuickGelu), |it| vision.activation("hidden_act", &it))?,
            eps: vision.find("layer_norm_eps")?.unwrap_or(1e-5),
        };
        let config = Self {
            shape,
            n_layers: vision.count_or("num_hidden_layers", 12)?,
            image_size: vision.count_or("image_size", 224)?,
            patch_size: vision.count_or("patch_size", 32)?,
            projection_dim: projection,
        };
        let (path, n_channels) = (path.display(), vision.count_or("num_channels", 3)?);
        ensure!(n_channels == 3, "{path}: `num_channels` is {n_channels}: pictures have 3");
        ensure!(
            shape.width.is_multiple_of(shape.n_heads),
            "{path}: `num_attention_heads` {} does not divide `hidden_size` {}",
            shape.n_heads,
            shape.width
        );
        ensure!(
            config.patch_size <= config.image_size,
            "{path}: a patch of {} pixels is larger than the picture, which has {}",
            config.patch_size,
            config.image_size
        );
        Ok(config)
    }

    /// Patches along a side.
    fn n_patches(&self) -> usize {
        self.image_size / self.patch_size
    }
}

/// The encoder, and how pictures are made ready for it.
pub struct ClipVision {
    preparation: Preparation,
    class: Tensor,
    patches: Tensor,
    positions: Tensor,
    pre_norm: LayerNorm,
    layers: Vec<Layer>,
    post_norm: LayerNorm,
    projection: Linear,
    patch_size: usize,
}

impl ClipVision {
    /// Loads the encoder of a network's folder; `weights` are its tensors. Those of a text encoder are left alone.
    ///
    /// # Errors
    /// Configs that are wrong or contradict each other, or tensors that cannot be read.
    pub fn open(package: &Package, weights: &Weights) -> anyhow::Result<Self> {
        let path = package.root.join("config.json");
        let config = Config::read(&path)?;
        let preparation = Preparation::read(&package.root)?;
        ensure!(
            preparation.crop == config.image_size,
            "{}: `image_size` is {}, but preprocessor_config.json crops to {}",
            path.display(),
            config.image_size,
            preparation.crop
        );
        Self::load(&config, preparation, weights).with_context(|| format!("load {}", package.root.display()))
    }

    /// Takes the tensors from `weights`: `vision_model.*` and `visual_projection.weight`.
    ///
    /// # Errors
    /// The tensors cannot be read.
    pub fn load(config: &Config, preparation: Preparation, weights: &Weights) -> anyhow::Result<Self> {
        let model = weights.at("vision_model");
        let (embeddings, layers) = (model.at("embeddings"), model.at("encoder").at("layers"));
        let Shape { width, eps, .. } = config.shape;
        let (patch, n_tokens) = (config.patch_size, config.n_patches().pow(2) + 1);
        Ok(Self {
            preparation,
            class: embeddings.get(width, "class_embedding")?,
            patches: embeddings.at("patch_embedding").get((width, 3, patch, patch), "weight")?,
            positions: embeddings.at("position_embedding").get((n_tokens, width), "weight")?,
            // The name is misspelt in every CLIP there is.
            pre_norm: LayerNorm::load(&model.at("pre_layrnorm"), width, eps)?,
            layers: (0..config.n_layers)
                .map(|it| Layer::load(&config.shape, &layers.at(it)))
                .collect::<Result<_, _>>()?,
            post_norm: LayerNorm::load(&model.at("post_layernorm"), width, eps)?,
            projection: Linear::load(&weights.at("visual_projection"), width, config.projection_dim, false)?,
            patch_size: patch,
        })
    }

    /// How many numbers an embedding has.
    pub fn width(&self) -> usize {
        self.projection.n_out()
    }

    /// The embedding of a picture, as long as it comes out: `projection_dim` numbers.
    ///
    /// # Errors
    /// No memory.
    pub fn embed(&self, picture: &Rgb) -> anyhow::Result<Vec<f32>> {
        let pixels = self.preparation.prepare(picture)?;
        let pixels = pixels.to_device(self.patches.device())?.to_dtype(self.patches.dtype())?;
        let embedding = self.forward(&pixels)?.squeeze(0)?.to_dtype(DType::F32)?.to_vec1()?;
        Ok(embedding)
    }

    /// Prepared pictures [B, 3, image_size, image_size] to embeddings [B, projection_dim].
    ///
    /// # Errors
    /// Shapes that don't fit, or no memory.
    pub fn forward(&self, pixels: &Tensor) -> candle_core::Result<Tensor> {
        let n_batch = pixels.dim(0)?;
        let tokens = conv::conv2d(pixels, &self.patches, self.patch_size, 0)?.flatten_from(2)?.transpose(1, 2)?;
        let class = self.class.broadcast_as((n_batch, 1, self.class.dim(0)?))?;
        let mut x = Tensor::cat(&[&class, &tokens.contiguous()?], 1)?.broadcast_add(&self.positions)?;
        x = self.pre_norm.forward(&x)?;
        for layer in &self.layers {
            x = layer.forward(&x, None)?;
        }
        self.projection.forward(&self.post_norm.forward(&x.narrow(1, 0, 1)?.squeeze(1)?)?)
    }
}
