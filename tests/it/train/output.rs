//! What training leaves behind, and training of the autoencoder.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use jobctl::job::task::making::Precision;
use jobctl::models::package::Package;
use jobctl::models::vae::{Config, Vae};
use jobctl::models::weights::Weights;
use jobctl::train::autoencoder::{Pictures, Reconstruction};
use jobctl::train::exchange::Alone;
use jobctl::train::lora::Adapters;
use jobctl::train::objective::Objective;
use jobctl::train::optim::{Course, Rate};
use jobctl::train::output;
use jobctl::train::parameters::{Gradients, Parameters, Start};
use jobctl::train::random::{Purpose, Stream};
use jobctl::train::trainer::{Settings, Trainer};

use super::{asked, config, distance, floats, package, weights, whole};

/// The values of what is trained, changed a little.
fn changed(names: &[String], masters: &[Tensor]) -> Vec<(String, Tensor)> {
    names.iter().cloned().zip(masters.iter().map(|it| (it + 0.125).unwrap())).collect()
}

fn read(folder: &Path, component: &str) -> HashMap<String, Tensor> {
    let files = Package::open(folder).unwrap().weights(component).unwrap();
    files.iter().flat_map(|it| candle_core::safetensors::load(it, &Device::Cpu).unwrap()).collect()
}

#[test]
fn a_package_is_its_base_with_other_weights() {
    for name in ["tiny", "odd", "deep"] {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("tuned");
        let (parameters, masters) = whole(name);
        let trained = changed(parameters.names(), &masters);
        output::package(&package(name), "transformer", &trained, Precision::F32, &at).unwrap();
        let (before, after) = (read(&package(name).root, "transformer"), read(&at, "transformer"));
        assert_eq!(before.len(), after.len());
        for (tensor, before) in before {
            let off = (after[&tensor].clone() - before.to_dtype(DType::F32).unwrap()).unwrap();
            let moved = if tensor == "pos_embed.pos_embed" { 0.0 } else { 0.125 };
            assert!(floats(&off).iter().all(|it| (it - moved).abs() < 1e-6), "{name} {tensor}");
        }
        // Everything else is the base's own, to the byte.
        for entry in walkdir::WalkDir::new(&package(name).root).into_iter().map(Result::unwrap) {
            let below = entry.path().strip_prefix(&package(name).root).unwrap();
            if entry.file_type().is_file()
                && !(below.starts_with("transformer") && below.to_string_lossy().contains("safetensors"))
            {
                assert_eq!(
                    std::fs::read(entry.path()).unwrap(),
                    std::fs::read(at.join(below)).unwrap(),
                    "{}",
                    below.display()
                );
            }
        }
        let error = output::package(&package(name), "transformer", &trained, Precision::F32, &at).unwrap_err();
        assert!(error.to_string().contains("is there already"), "{error}");
    }
}

#[test]
fn a_package_with_a_tensor_too_many_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let one = Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap();
    let at = folder.path().join("tuned");
    let trained = [("no.such.weight".to_owned(), one.clone())];
    let error =
        output::package(&package("tiny"), "transformer", &trained, Precision::F32, &at).unwrap_err().to_string();
    assert!(error.contains("the base has no no.such.weight"), "{error}");
    let trained = [("proj_out.bias".to_owned(), one)];
    let error =
        output::package(&package("tiny"), "transformer", &trained, Precision::F32, &at).unwrap_err().to_string();
    assert!(error.contains("proj_out.bias is [3], in the base [16]"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn adapters_are_written_as_diffusers_names_them() {
    let folder = tempfile::tempdir().unwrap();
    let adapters = Adapters { alpha: 6.0, ..Adapters::of_attention(2) };
    let (parameters, masters) =
        Parameters::adapted(&asked(&config("tiny")), &weights("tiny"), DType::F32, adapters, 3).unwrap();
    output::adapters(&changed(parameters.names(), &masters), 3.0, folder.path()).unwrap();
    let file =
        candle_core::safetensors::load(folder.path().join("pytorch_lora_weights.safetensors"), &Device::Cpu).unwrap();
    assert_eq!(file.len(), masters.len());
    let b = &file["transformer.transformer_blocks.1.attn.to_out.0.lora_B.weight"];
    assert!(b.dims() == [16, 2] && floats(b).iter().all(|it| *it == 0.375));
    assert_eq!(file["transformer.transformer_blocks.0.attn.add_k_proj.lora_A.weight"].dims(), [2, 16]);
    assert!(Adapters { rank: 0, ..Adapters::of_attention(2) } != Adapters::of_attention(2));
}

#[test]
fn adapters_that_fit_nothing_are_refused() {
    let refusal = |adapters: Adapters| {
        let made = Parameters::adapted(&asked(&config("tiny")), &weights("tiny"), DType::F32, adapters, 3);
        made.err().unwrap().to_string()
    };
    assert!(refusal(Adapters::of_attention(17)).contains("rank 17"), "{}", refusal(Adapters::of_attention(17)));
    let nowhere = Adapters { targets: vec!["attn.q".to_owned()], ..Adapters::of_attention(2) };
    assert!(refusal(nowhere).contains("no layer's name ends in one of attn.q"));
}

fn autoencoder(name: &str) -> (Config, Start) {
    let config = Config::read(&package(name).config("vae")).unwrap();
    let blueprint = Weights::blueprint();
    Vae::load(&config, &blueprint).unwrap();
    let weights = Weights::open(&package(name).weights("vae").unwrap(), &Device::Cpu, DType::F32).unwrap();
    let start = Parameters::whole(&blueprint.asked(), &weights, DType::F32, |_| false).unwrap();
    (config, start)
}

/// Two smooth pictures of 32×32.
fn pictures(config: &Config) -> Pictures {
    let side = 32;
    let values = (0..2 * 3 * side * side).map(|idx| {
        let (c, y, x) = (idx / (side * side), idx / side % side, idx % side);
        ((x * (c + 1)) as f32 / 9.0).sin() * 0.5 + (y as f32 / 7.0 + c as f32).cos() * 0.4
    });
    let images = Tensor::from_vec(values.collect::<Vec<f32>>(), (2, 3, side, side), &Device::Cpu).unwrap();
    let dims = (2, config.latent_channels, side / config.factor(), side / config.factor());
    let noise = Stream::new(1, Purpose::Noise, 0, 0).normals(dims.0 * dims.1 * dims.2 * dims.3);
    Pictures { images, noise: Tensor::from_vec(noise, dims, &Device::Cpu).unwrap() }
}

#[test]
fn every_parameter_of_the_autoencoder_gets_a_gradient_that_is_the_slope() {
    for name in ["tiny", "odd", "deep"] {
        let (config, (parameters, _)) = autoencoder(name);
        let batch = pictures(&config);
        let objective = Reconstruction { config, divergence: 0.01 };
        let mut sums = Gradients::none(parameters.names().len());
        objective.gradients(&parameters, &batch, &mut sums).unwrap();
        let gradients = sums.all(parameters.names()).unwrap();
        for (parameter, gradient) in parameters.names().iter().zip(&gradients) {
            // A key's bias adds the same to every score of a query, which the softmax takes off again.
            let is_idle = parameter.ends_with("to_k.bias");
            let largest = floats(gradient).iter().fold(0_f32, |top, it| top.max(it.abs()));
            assert!(largest.is_finite() && (is_idle || largest > 1e-7), "{name} {parameter}: {largest:e}");
        }
        // Along the gradient of a few parameters the loss rises as much as it says.
        for ending in [
            "encoder.conv_in.weight",
            "decoder.conv_out.weight",
            "encoder.conv_out.bias",
            "mid_block.attentions.0.to_q.weight",
        ] {
            let idx = parameters.names().iter().position(|it| it.ends_with(ending)).unwrap();
            let (variable, gradient) = (&parameters.variables()[idx], &gradients[idx]);
            let start = variable.as_tensor().copy().unwrap();
            let norm = f64::from(gradient.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap()).sqrt();
            let step = 2e-2 * f64::from(start.sqr().unwrap().mean_all().unwrap().to_scalar::<f32>().unwrap()).sqrt();
            let at = |by: f64| {
                variable.set(&(&start + (gradient * (by / norm)).unwrap()).unwrap()).unwrap();
                f64::from(objective.loss(&parameters, &batch).unwrap().total.to_scalar::<f32>().unwrap())
            };
            let measured = (at(step) - at(-step)) / (2.0 * step);
            at(0.0);
            assert!((measured - norm).abs() < 0.03 * norm + 2e-5, "{name} {ending}: {measured} {norm}");
        }
    }
}

#[test]
fn an_autoencoder_learns_two_pictures() {
    let (config, start) = autoencoder("tiny");
    let batch = pictures(&config);
    let objective = Reconstruction { config, divergence: 1e-6 };
    let settings = Settings {
        n_steps: 30,
        rate: Rate { rate: 4e-3, warm_up: 0, course: Course::Constant },
        ..Settings::default()
    };
    let mut trainer = Trainer::new(objective, start, settings, &Alone).unwrap();
    let steps: Vec<f64> =
        (0..30).map(|_| trainer.step(std::slice::from_ref(&batch), &mut Alone).unwrap().loss).collect();
    assert!(steps[29] < 0.5 * steps[0], "{steps:?}");
    assert!(distance(trainer.parameters().variables()[0].as_tensor(), &weights_of_vae()[0]) > 1e-4);
}

fn weights_of_vae() -> Vec<Tensor> {
    autoencoder("tiny").1.1
}
