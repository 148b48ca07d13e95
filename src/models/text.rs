//! Prompts to what a diffusion model is conditioned on: tokenizers and text encoders.

use candle_core::Tensor;

/// What a prompt comes to.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// The text's states, [L, joint], f32.
    pub context: Tensor,
    /// The pooled text, [P], f32.
    pub pooled: Tensor,
    /// How many tokens each encoder's limit cut off.
    pub n_cut: [usize; 3],
}
