//! The transformer's blocks: the text's and the image's streams, and what both are made of.

use candle_core::{Result, Tensor};

use super::{Config, EPS};
use crate::gpu::attention::multi_head;
use crate::gpu::tokens::{gated, join, modulated, split};
use crate::models::layers::{Activation, Linear, RmsNorm};
use crate::models::weights::Weights;

/// `n` equal parts of `x` [B, n · width].
pub(super) fn chunks(x: &Tensor, n: usize) -> Result<Vec<Tensor>> {
    split(x, 1, &vec![x.dim(1)? / n; n])
}

/// Two linear layers with SiLU between them.
pub(super) struct Mlp {
    first: Linear,
    second: Linear,
}

impl Mlp {
    pub(super) fn load(weights: &Weights, n_in: usize, width: usize) -> Result<Self> {
        Ok(Self {
            first: Linear::load(&weights.at("linear_1"), n_in, width, true)?,
            second: Linear::load(&weights.at("linear_2"), width, width, true)?,
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.second.forward(&self.first.forward(x)?.silu()?)
    }
}

/// Two linear layers with GELU between them, four times as wide inside.
struct FeedForward {
    first: Linear,
    second: Linear,
}

impl FeedForward {
    fn load(weights: &Weights, width: usize) -> Result<Self> {
        Ok(Self {
            first: Linear::load(&weights.at("net.0.proj"), width, 4 * width, true)?,
            second: Linear::load(&weights.at("net.2"), 4 * width, width, true)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.second.forward(&Activation::GeluTanh.forward(&self.first.forward(x)?)?)
    }
}

/// The projections of one stream into an attention.
struct Projections {
    q: Linear,
    k: Linear,
    v: Linear,
    norm_q: Option<RmsNorm>,
    norm_k: Option<RmsNorm>,
    n_heads: usize,
}

impl Projections {
    fn load(config: &Config, weights: &Weights, names: [&str; 5]) -> Result<Self> {
        let width = config.width();
        let linear = |name: &str| Linear::load(&weights.at(name), width, width, true);
        let norm = |name: &str| {
            config
                .qk_norm
                .is_some()
                .then(|| RmsNorm::load(&weights.at(name), config.attention_head_dim, EPS))
                .transpose()
        };
        Ok(Self {
            q: linear(names[0])?,
            k: linear(names[1])?,
            v: linear(names[2])?,
            norm_q: norm(names[3])?,
            norm_k: norm(names[4])?,
            n_heads: config.num_attention_heads,
        })
    }

    const IMAGE: [&'static str; 5] = ["to_q", "to_k", "to_v", "norm_q", "norm_k"];
    const TEXT: [&'static str; 5] = ["add_q_proj", "add_k_proj", "add_v_proj", "norm_added_q", "norm_added_k"];

    /// Queries, keys and values, each [B, N, width]: the heads side by side.
    fn forward(&self, x: &Tensor) -> Result<[Tensor; 3]> {
        let normed = |x: Tensor, norm: Option<&RmsNorm>| norm.map_or(Ok(x.clone()), |norm| norm.forward_heads(&x));
        Ok([
            normed(self.q.forward(x)?, self.norm_q.as_ref())?,
            normed(self.k.forward(x)?, self.norm_k.as_ref())?,
            self.v.forward(x)?,
        ])
    }

    /// The attention of these queries, keys and values.
    fn attend(&self, [q, k, v]: &[Tensor; 3]) -> Result<Tensor> {
        multi_head(q, k, v, self.n_heads)
    }
}

/// The text's half of a block: none of it but the projections and their modulation in the last one.
struct TextHalf {
    modulation: Linear,
    projections: Projections,
    rest: Option<(Linear, FeedForward)>,
}

/// A second attention over the image alone.
struct Second {
    projections: Projections,
    out: Linear,
}

pub(super) struct Block {
    modulation: Linear,
    projections: Projections,
    out: Linear,
    second: Option<Second>,
    feed_forward: FeedForward,
    text: TextHalf,
}

impl Block {
    pub(super) fn load(config: &Config, idx: usize, weights: &Weights) -> Result<Self> {
        let width = config.width();
        let is_last = idx + 1 == config.num_layers;
        let is_dual = config.dual_attention_layers.contains(&idx);
        let attn = weights.at("attn");
        let linear = |weights: &Weights, n_out: usize| Linear::load(weights, width, n_out, true);
        let text = TextHalf {
            modulation: linear(&weights.at("norm1_context.linear"), if is_last { 2 } else { 6 } * width)?,
            projections: Projections::load(config, &attn, Projections::TEXT)?,
            rest: if is_last {
                None
            } else {
                Some((linear(&attn.at("to_add_out"), width)?, FeedForward::load(&weights.at("ff_context"), width)?))
            },
        };
        let second = if is_dual {
            let attn2 = weights.at("attn2");
            let projections = Projections::load(config, &attn2, Projections::IMAGE)?;
            Some(Second { projections, out: linear(&attn2.at("to_out.0"), width)? })
        } else {
            None
        };
        Ok(Self {
            modulation: linear(&weights.at("norm1.linear"), if is_dual { 9 } else { 6 } * width)?,
            projections: Projections::load(config, &attn, Projections::IMAGE)?,
            out: linear(&attn.at("to_out.0"), width)?,
            second,
            feed_forward: FeedForward::load(&weights.at("ff"), width)?,
            text,
        })
    }

    /// The image's and the text's states after the block; `condition` has gone through SiLU.
    pub(super) fn forward(&self, image: &Tensor, text: &Tensor, condition: &Tensor) -> Result<(Tensor, Tensor)> {
        let own = chunks(&self.modulation.forward(condition)?, if self.second.is_some() { 9 } else { 6 })?;
        let of_image = self.projections.forward(&modulated(image, EPS, &own[0], &own[1])?)?;

        let n_parts = if self.text.rest.is_some() { 6 } else { 2 };
        let theirs = chunks(&self.text.modulation.forward(condition)?, n_parts)?;
        // The last block's modulation has its scale first.
        let (shift, scale) = if n_parts == 6 { (&theirs[0], &theirs[1]) } else { (&theirs[1], &theirs[0]) };
        let of_text = self.text.projections.forward(&modulated(text, EPS, shift, scale)?)?;

        let n_image = image.dim(1)?;
        let joint = |idx: usize| join(&of_image[idx], &of_text[idx], 1);
        let attended = self.projections.attend(&[joint(0)?, joint(1)?, joint(2)?])?;
        let attended = split(&attended, 1, &[n_image, text.dim(1)?])?;

        let before = image;
        let mut image = gated(image, &own[2], &self.out.forward(&attended[0])?)?;
        if let Some(second) = &self.second {
            let of_image = second.projections.forward(&modulated(before, EPS, &own[6], &own[7])?)?;
            image = gated(&image, &own[8], &second.out.forward(&second.projections.attend(&of_image)?)?)?;
        }
        let inner = self.feed_forward.forward(&modulated(&image, EPS, &own[3], &own[4])?)?;
        let image = gated(&image, &own[5], &inner)?;

        let Some((out, feed_forward)) = &self.text.rest else { return Ok((image, text.clone())) };
        let text = gated(text, &theirs[2], &out.forward(&attended[1])?)?;
        let inner = feed_forward.forward(&modulated(&text, EPS, &theirs[3], &theirs[4])?)?;
        let text = gated(&text, &theirs[5], &inner)?;
        Ok((image, text))
    }
}
