//! T5's encoder, as `T5EncoderModel` of transformers computes it. Padding is attended, as diffusers has it.

use std::path::Path;

use candle_core::{DType, Device, Result, Tensor};

use crate::gpu::attention::attention;
use crate::models::config::Keys;
use crate::models::layers::{Activation, Linear, RmsNorm};
use crate::models::weights::Weights;

/// The encoder's config.json.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// Rows of the token table.
    pub vocab_size: usize,
    /// Width of the states.
    pub d_model: usize,
    /// Width of an attention head.
    pub d_kv: usize,
    /// Width inside the feed-forward part.
    pub d_ff: usize,
    /// Blocks.
    pub num_layers: usize,
    /// Attention heads; together they may be wider or narrower than `d_model`.
    pub num_heads: usize,
    /// Classes of distances, half of them for each direction.
    pub relative_attention_num_buckets: usize,
    /// From this distance on all are of one class.
    pub relative_attention_max_distance: usize,
    /// Whether the feed-forward part has a gate.
    pub is_gated_act: bool,
    /// Its activation.
    pub dense_act_fn: Activation,
    /// Of the normalisations.
    pub layer_norm_epsilon: f64,
}

impl Config {
    /// Reads a config.json.
    ///
    /// # Errors
    /// No JSON, or a key that is missing or wrong; which file and which key.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let keys = Keys::read(path)?;
        let proj: String = keys.find("feed_forward_proj")?.unwrap_or_else(|| "relu".to_owned());
        let (is_gated, act) = match proj.split_once('-') {
            None => (false, proj.as_str()),
            // "for backwards compatibility" in transformers: gated-gelu means the tanh approximation.
            Some(("gated", "gelu")) => (true, "gelu_new"),
            Some(("gated", act)) if !act.contains('-') => (true, act),
            Some(_) => anyhow::bail!(
                "{}: `feed_forward_proj` is `{proj}`; it should be an activation, or gated- and one",
                keys.path().display()
            ),
        };
        // What the config says of its own goes before what follows from `feed_forward_proj`.
        let act = keys.find("dense_act_fn")?.unwrap_or_else(|| act.to_owned());
        let config = Self {
            vocab_size: keys.count("vocab_size")?,
            d_model: keys.count("d_model")?,
            d_kv: keys.count("d_kv")?,
            d_ff: keys.count("d_ff")?,
            num_layers: keys.count("num_layers")?,
            num_heads: keys.count("num_heads")?,
            relative_attention_num_buckets: keys.count_or("relative_attention_num_buckets", 32)?,
            relative_attention_max_distance: keys.count_or("relative_attention_max_distance", 128)?,
            is_gated_act: keys.find("is_gated_act")?.unwrap_or(is_gated),
            dense_act_fn: keys.activation("dense_act_fn", &act)?,
            layer_norm_epsilon: keys.find("layer_norm_epsilon")?.unwrap_or(1e-6),
        };
        let n_exact = config.relative_attention_num_buckets / 4;
        anyhow::ensure!(
            n_exact > 0 && config.relative_attention_max_distance > n_exact,
            "{}: {} buckets cannot hold distances up to {}",
            path.display(),
            config.relative_attention_num_buckets,
            config.relative_attention_max_distance
        );
        Ok(config)
    }
}

/// The encoder.
pub struct T5Encoder {
    tokens: Tensor,
    /// [buckets, heads]; the first block has it and all use it.
    distances: Tensor,
    blocks: Vec<Block>,
    final_norm: RmsNorm,
    n_buckets: usize,
    max_distance: usize,
}

impl T5Encoder {
    /// Takes the tensors from `weights`; the token table may be named `shared` or `encoder.embed_tokens`.
    ///
    /// # Errors
    /// The tensors cannot be read.
    pub fn load(config: &Config, weights: &Weights) -> Result<Self> {
        let encoder = weights.at("encoder");
        let has_shared = weights.has("shared.weight") || !weights.has("encoder.embed_tokens.weight");
        let table = if has_shared { weights.at("shared") } else { encoder.at("embed_tokens") };
        let blocks = encoder.at("block");
        let (n_buckets, n_heads) = (config.relative_attention_num_buckets, config.num_heads);
        let distances = blocks.at(0).at("layer").at(0).at("SelfAttention").at("relative_attention_bias");
        Ok(Self {
            tokens: table.get((config.vocab_size, config.d_model), "weight")?,
            distances: distances.get((n_buckets, n_heads), "weight")?,
            blocks: (0..config.num_layers).map(|it| Block::load(config, &blocks.at(it))).collect::<Result<_>>()?,
            final_norm: RmsNorm::load(&encoder.at("final_layer_norm"), config.d_model, config.layer_norm_epsilon)?,
            n_buckets,
            max_distance: config.relative_attention_max_distance,
        })
    }

    /// Encodes one prompt of N ids, padding included, to [1, N, d_model].
    ///
    /// # Errors
    /// An id that has no row, or no memory.
    pub fn forward(&self, ids: &[u32]) -> Result<Tensor> {
        let device = self.tokens.device();
        let mut x = self.tokens.index_select(&Tensor::new(ids, device)?, 0)?.unsqueeze(0)?;
        let bias = self.position_bias(ids.len(), device)?;
        for block in &self.blocks {
            x = block.forward(&x, &bias)?;
        }
        self.final_norm.forward(&x)
    }

    /// What is added to the scores of each head for each distance, [1, heads, n, n] in f32.
    fn position_bias(&self, n: usize, device: &Device) -> Result<Tensor> {
        let of = |distance: i64| bucket(distance, self.n_buckets, self.max_distance);
        let table: Vec<u32> = (1 - n as i64..n as i64).map(of).collect();
        let row = |query: usize| table[n - 1 - query..][..n].iter().copied();
        let buckets = Tensor::from_iter((0..n).flat_map(row), device)?;
        let bias = self.distances.to_dtype(DType::F32)?.index_select(&buckets, 0)?;
        bias.reshape((n, n, ()))?.permute((2, 0, 1))?.contiguous()?.unsqueeze(0)
    }
}

/// The class of a distance, key minus query: near ones have one each, far ones share them logarithmically.
/// transformers, `T5Attention._relative_position_bucket`, in f32 as there.
fn bucket(distance: i64, n_buckets: usize, max_distance: usize) -> u32 {
    let half = n_buckets / 2;
    let n_exact = half / 2;
    let far = distance.unsigned_abs() as usize;
    let class = if far < n_exact {
        far
    } else {
        let span = ((max_distance as f64) / (n_exact as f64)).ln() as f32;
        let share = ((far as f32) / (n_exact as f32)).ln() / span;
        (n_exact + (share * (half - n_exact) as f32) as usize).min(half - 1)
    };
    let ahead = if distance > 0 { half } else { 0 };
    (ahead + class) as u32
}

struct Block {
    attn_norm: RmsNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    ff_norm: RmsNorm,
    wi: Linear,
    gated: Option<Linear>,
    wo: Linear,
    act: Activation,
    n_heads: usize,
}

impl Block {
    fn load(config: &Config, weights: &Weights) -> Result<Self> {
        let (attn_layer, ff_layer) = (weights.at("layer").at(0), weights.at("layer").at(1));
        let (attn, ff) = (attn_layer.at("SelfAttention"), ff_layer.at("DenseReluDense"));
        let (width, inner) = (config.d_model, config.num_heads * config.d_kv);
        let linear = |weights: Weights, n_in, n_out| Linear::load(&weights, n_in, n_out, false);
        let (wi, gated) = if config.is_gated_act {
            let gated = linear(ff.at("wi_1"), width, config.d_ff)?;
            (linear(ff.at("wi_0"), width, config.d_ff)?, Some(gated))
        } else {
            (linear(ff.at("wi"), width, config.d_ff)?, None)
        };
        Ok(Self {
            attn_norm: RmsNorm::load(&attn_layer.at("layer_norm"), width, config.layer_norm_epsilon)?,
            q: linear(attn.at("q"), width, inner)?,
            k: linear(attn.at("k"), width, inner)?,
            v: linear(attn.at("v"), width, inner)?,
            o: linear(attn.at("o"), inner, width)?,
            ff_norm: RmsNorm::load(&ff_layer.at("layer_norm"), width, config.layer_norm_epsilon)?,
            wi,
            gated,
            wo: linear(ff.at("wo"), config.d_ff, width)?,
            act: config.dense_act_fn,
            n_heads: config.num_heads,
        })
    }

    fn forward(&self, x: &Tensor, bias: &Tensor) -> Result<Tensor> {
        let (b, n, _) = x.dims3()?;
        let normed = self.attn_norm.forward(x)?;
        let heads = |linear: &Linear| linear.forward(&normed)?.reshape((b, n, self.n_heads, ()))?.transpose(1, 2);
        // T5 does not divide the scores by √d: its initial weights did.
        let y = attention(&heads(&self.q)?, &heads(&self.k)?, &heads(&self.v)?, 1.0, Some(bias))?;
        let x = (x + self.o.forward(&y.transpose(1, 2)?.reshape((b, n, ()))?)?)?;
        let normed = self.ff_norm.forward(&x)?;
        let mut y = self.act.forward(&self.wi.forward(&normed)?)?;
        if let Some(gated) = &self.gated {
            y = (y * gated.forward(&normed)?)?;
        }
        &x + self.wo.forward(&y)?
    }
}

#[cfg(test)]
mod tests {
    use super::bucket;

    /// Where a new class begins, as torch computes it: for 32 classes up to 128, 16 up to 64, 8 up to 20.
    #[test]
    fn classes_of_distances_begin_where_transformers_has_them() {
        let check = |n_buckets: usize, max_distance: usize, starts: &[i64]| {
            let half = u32::try_from(n_buckets / 2).unwrap();
            for distance in 0..512 {
                let class = u32::try_from(starts.iter().filter(|it| **it <= distance).count()).unwrap();
                assert_eq!(bucket(-distance, n_buckets, max_distance), class, "-{distance} of {n_buckets}");
                let ahead = if distance > 0 { half + class } else { 0 };
                assert_eq!(bucket(distance, n_buckets, max_distance), ahead, "{distance} of {n_buckets}");
            }
        };
        check(32, 128, &[1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91]);
        check(16, 64, &[1, 2, 3, 4, 8, 16, 32]);
        check(8, 20, &[1, 2, 7]);
    }
}
