//! Training against PyTorch.

mod data;
mod gradients;
mod loss;
mod output;
mod run;
mod session;
mod steps;

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use jobctl::models::package::Package;
use jobctl::models::sd3::{Config, Sd3};
use jobctl::models::weights::Weights;
use jobctl::train::parameters::{Parameters, Start};
use jobctl::train::transformer::{Batch, FIXED};
use jobctl::train::wlf::Target;

pub fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

pub fn json(name: &str) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(path("train").join(name)).unwrap()).unwrap()
}

pub fn tensors(name: &str) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(path("train").join(name), &Device::Cpu).unwrap()
}

pub fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

pub fn package(name: &str) -> Package {
    Package::open(&path("sd3").join(name)).unwrap()
}

pub fn config(name: &str) -> Config {
    Config::read(&package(name).config("transformer")).unwrap()
}

/// What the transformer asks for.
pub fn asked(config: &Config) -> Vec<(String, Vec<usize>)> {
    let blueprint = Weights::blueprint();
    Sd3::load(config, &blueprint).unwrap();
    blueprint.asked()
}

pub fn weights(name: &str) -> Weights {
    Weights::open(&package(name).weights("transformer").unwrap(), &Device::Cpu, DType::F32).unwrap()
}

/// Everything of a golden package's transformer, to be trained.
pub fn whole(name: &str) -> Start {
    Parameters::whole(&asked(&config(name)), &weights(name), DType::F32, |it| it == FIXED).unwrap()
}

/// A batch of the golden file whose tensors begin with `prefix`.
pub fn batch(tensors: &HashMap<String, Tensor>, prefix: &str) -> Batch {
    let it = |key: &str| tensors[&format!("{prefix}.{key}")].clone();
    let sigmas = floats(&it("sigma"));
    Batch {
        timesteps: floats(&it("timestep")),
        context: it("context"),
        pooled: it("pooled"),
        target: Target { x0: it("x0"), noise: it("noise"), weights: vec![1.0; sigmas.len()], sigmas },
    }
}

/// ‖a − b‖ / ‖b‖.
pub fn distance(a: &Tensor, b: &Tensor) -> f64 {
    let wide = |x: &Tensor| x.to_dtype(DType::F64).unwrap();
    let norm = |x: &Tensor| x.sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap().sqrt();
    let (a, b) = (wide(a), wide(b));
    assert!(norm(&b) > 0.0);
    norm(&(a - &b).unwrap()) / norm(&b)
}
