//! Models in the diffusers layout: their weights, their layers, and pictures made with them.

pub mod weights;
pub mod layers;
pub mod noise;
pub mod schedule;
pub mod package;
pub mod hub;
mod config;
pub mod clip;
pub mod text;
pub mod sd3;
pub mod vae;
pub mod pipeline;
pub mod init;
pub mod memory;
pub mod inspect;
