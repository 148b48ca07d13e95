//! Prompts to what a diffusion model is conditioned on: tokenizers and text encoders.

pub mod tokenizer;
