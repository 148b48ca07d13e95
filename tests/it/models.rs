//! The models against diffusers and transformers.

mod clip;
pub mod hub;
mod init;
mod manifests;
mod memory;
mod noise;
mod package;
mod schedule;
mod sd3;
mod text;
mod vae;

use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use std::collections::HashMap;

/// The three packages that diffusers made.
pub const PACKAGES: [&str; 3] = ["tiny", "odd", "deep"];

pub fn golden(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/sd3").join(path)
}

pub fn json(path: &str) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(golden(path)).unwrap()).unwrap()
}

/// What diffusers made of a package.
pub fn outputs(package: &str) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(golden(&format!("{package}.safetensors")), &Device::Cpu).unwrap()
}

pub fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Of 8-bit values against those before rounding, in dB.
pub fn psnr(ours: &[u8], theirs: &[f32]) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    let square = |(a, b): (&u8, &f32)| (f64::from(*a) - f64::from(*b)).powi(2);
    let mse = ours.iter().zip(theirs).map(square).sum::<f64>() / ours.len() as f64;
    10.0 * (255.0 * 255.0 / mse).log10()
}

/// The largest difference, as a part of the largest value.
pub fn difference(ours: &Tensor, theirs: &Tensor) -> f32 {
    assert_eq!(ours.dims(), theirs.dims());
    let (ours, theirs) = (values(ours), values(theirs));
    let top = theirs.iter().fold(0_f32, |top, it| top.max(it.abs()));
    assert!(top > 0.0 && ours.iter().all(|it| it.is_finite()));
    ours.iter().zip(&theirs).fold(0_f32, |most, (a, b)| most.max((a - b).abs())) / top
}
