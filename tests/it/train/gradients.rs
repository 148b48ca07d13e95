//! Gradients: of every parameter, as torch has them, whatever is computed twice.

use std::collections::HashMap;

use candle_core::{DType, Tensor};
use jobctl::train::lora::Adapters;
use jobctl::train::objective::Objective;
use jobctl::train::parameters::{Gradients, Parameters};
use jobctl::train::random::{Purpose, Stream};
use jobctl::train::transformer::{Batch, FlowMatching, Recompute};
use jobctl::train::wlf::{Loss, Space};

use super::{asked, batch, config, distance, floats, json, tensors, weights, whole};

/// Whether a parameter's gradient is 0 by the model's shape: nothing looks at the text after the last block, so what its
/// queries are does not matter.
fn is_idle(package: &str, parameter: &str) -> bool {
    let last = format!("transformer_blocks.{}.attn.", config(package).num_layers - 1);
    parameter.strip_prefix(&last).is_some_and(|it| it.starts_with("add_q_proj.") || it.starts_with("norm_added_q."))
}

fn is_zero(gradient: &Tensor) -> bool {
    floats(gradient).iter().all(|it| *it == 0.0)
}

fn gradients(
    name: &str,
    parameters: &Parameters,
    batch: &Batch,
    loss: Loss,
    recompute: Recompute,
) -> (f32, HashMap<String, Tensor>) {
    let objective = FlowMatching { config: config(name), loss, recompute };
    let mut sums = Gradients::none(parameters.names().len());
    let losses = objective.gradients(parameters, batch, &mut sums).unwrap();
    let found = sums.all(parameters.names()).unwrap();
    let named = parameters.names().iter().cloned().zip(found).collect();
    (losses.total.to_scalar().unwrap(), named)
}

#[test]
fn every_gradient_is_that_of_torch() {
    let golden = tensors("steps.safetensors");
    let told = &json("steps.json")["first"];
    let batch = batch(&golden, "batch.0");
    let loss = Loss { space: Space::X0, bands: vec![1.0, 1.5, 0.5, 2.0, 3.0, 0.25, 4.0] };
    let (parameters, _) = whole("tiny");
    let theirs: Vec<&str> = golden.keys().filter_map(|it| it.strip_prefix("grad.")).collect();
    assert_eq!(theirs.len(), parameters.names().len());
    for recompute in [Recompute::Nothing, Recompute::Blocks] {
        let (total, ours) = gradients("tiny", &parameters, &batch, loss.clone(), recompute);
        let wanted = told["loss"].as_f64().unwrap();
        assert!((f64::from(total) - wanted).abs() < 1e-6 * wanted, "{total} {wanted}");
        for name in &theirs {
            let wanted = &golden[&format!("grad.{name}")];
            if is_idle("tiny", name) {
                assert!(is_zero(&ours[*name]) && is_zero(wanted));
                continue;
            }
            let off = distance(&ours[*name], wanted);
            assert!(off < 1e-4, "{recompute:?} {name}: {off:e}");
        }
    }
}

#[test]
fn normalised_queries_and_second_attentions_have_the_gradients_of_torch() {
    let (golden, told) = (tensors("steps.safetensors"), json("steps.json"));
    let batch = batch(&golden, "odd");
    let (parameters, _) = whole("odd");
    let (total, ours) = gradients("odd", &parameters, &batch, Loss::plain(), Recompute::Blocks);
    let wanted = told["odd"]["loss"].as_f64().unwrap();
    assert!((f64::from(total) - wanted).abs() < 1e-6 * wanted);
    let theirs = told["odd"]["gradients"].as_object().unwrap();
    assert_eq!(theirs.len(), ours.len());
    for (name, digest) in theirs {
        let values: Vec<f64> = floats(&ours[name]).into_iter().map(f64::from).collect();
        let norm = values.iter().map(|it| it * it).sum::<f64>().sqrt();
        let along = values.iter().enumerate().map(|(idx, it)| it * (idx as f64).cos()).sum::<f64>();
        let (their_norm, their_along) = (digest[0].as_f64().unwrap(), digest[1].as_f64().unwrap());
        assert!(
            (norm - their_norm).abs() <= 1e-4 * their_norm && (norm == 0.0) == is_idle("odd", name),
            "{name}: {norm} {their_norm}"
        );
        // A sum of n terms of either sign is about the norm.
        assert!((along - their_along).abs() <= 1e-4 * their_norm, "{name}: {along} {their_along}");
    }
}

/// Two made-up images for any package.
fn made_up(name: &str) -> Batch {
    let config = config(name);
    let random = |key: u64, dims: &[usize]| {
        let values = Stream::new(9, Purpose::HeldOut, key, 0).normals(dims.iter().product());
        Tensor::from_vec(values, dims, &candle_core::Device::Cpu).unwrap()
    };
    let latent = [2, config.in_channels, 6, 10];
    let sigmas = vec![0.25, 0.875];
    Batch {
        timesteps: sigmas.iter().map(|it| it * 1000.0).collect(),
        context: random(3, &[2, 7, config.joint_attention_dim]),
        pooled: random(4, &[2, config.pooled_projection_dim]),
        target: jobctl::train::wlf::Target {
            x0: random(1, &latent),
            noise: random(2, &latent),
            sigmas,
            weights: vec![1.0; 2],
        },
    }
}

#[test]
fn every_trained_parameter_of_every_package_gets_a_gradient() {
    for name in ["tiny", "odd", "deep"] {
        let (parameters, _) = whole(name);
        let config = config(name);
        // All that diffusers has, but the positional table.
        assert_eq!(parameters.names().len() + 1, asked(&config).len());
        for recompute in [Recompute::Nothing, Recompute::Blocks] {
            let (_, found) = gradients(name, &parameters, &made_up(name), Loss::plain(), recompute);
            for (parameter, gradient) in found {
                let values = floats(&gradient);
                assert!(values.iter().all(|it| it.is_finite()), "{name} {parameter}");
                if is_idle(name, &parameter) {
                    assert!(is_zero(&gradient), "{name} {parameter}");
                    continue;
                }
                let n_zero = values.iter().filter(|it| **it == 0.0).count();
                assert!(n_zero * 10 < values.len().max(10), "{name} {parameter}: {n_zero} of {} are 0", values.len());
            }
        }
    }
}

#[test]
fn computing_blocks_twice_changes_no_gradient() {
    for name in ["tiny", "odd", "deep"] {
        let (parameters, _) = whole(name);
        let loss = Loss { space: Space::X0, bands: vec![1.0, 2.0, 2.0, 4.0] };
        let (kept, kept_gradients) = gradients(name, &parameters, &made_up(name), loss.clone(), Recompute::Nothing);
        let (again, gradients) = gradients(name, &parameters, &made_up(name), loss, Recompute::Blocks);
        assert!((kept - again).abs() <= 1e-6 * kept, "{name}: {kept} {again}");
        for (parameter, gradient) in &gradients {
            if is_idle(name, parameter) {
                assert!(is_zero(gradient) && is_zero(&kept_gradients[parameter]));
                continue;
            }
            let off = distance(gradient, &kept_gradients[parameter]);
            assert!(off < 3e-6, "{name} {parameter}: {off:e}");
        }
    }
}

#[test]
fn a_parameter_that_nothing_uses_is_named() {
    let (parameters, _) = whole("tiny");
    let error = Gradients::none(parameters.names().len()).all(parameters.names()).unwrap_err().to_string();
    assert!(error.contains("proj_out.bias") && error.contains("no gradient"), "{error}");
}

#[test]
fn adapters_start_as_the_model_itself_and_alone_are_trained() {
    let config = config("tiny");
    let adapters = Adapters { alpha: 4.0, ..Adapters::of_attention(2) };
    let (parameters, masters) =
        Parameters::adapted(&asked(&config), &weights("tiny"), DType::F32, adapters, 3).unwrap();
    // Two blocks with eight projections each; the last has no way out for the text.
    assert_eq!(masters.len(), 2 * 15);
    let (full, _) = whole("tiny");
    let batch = made_up("tiny");
    let (with, found) = gradients("tiny", &parameters, &batch, Loss::plain(), Recompute::Blocks);
    let (without, _) = gradients("tiny", &full, &batch, Loss::plain(), Recompute::Blocks);
    assert_eq!(with, without);
    for (name, gradient) in &found {
        // B is 0 at first, so nothing reaches A yet.
        assert_eq!(is_zero(gradient), name.ends_with("lora_A.weight") || is_idle("tiny", name), "{name}");
    }
    // With another B every adapter is reached, the same way whether blocks are computed twice or not.
    for (name, variable) in parameters.names().iter().zip(parameters.variables()) {
        if name.ends_with("lora_B.weight") {
            variable.set(&variable.affine(0.0, 0.125).unwrap()).unwrap();
        }
    }
    let (_, kept) = gradients("tiny", &parameters, &batch, Loss::plain(), Recompute::Nothing);
    let (changed, found) = gradients("tiny", &parameters, &batch, Loss::plain(), Recompute::Blocks);
    assert_ne!(changed, without);
    for (name, gradient) in &found {
        assert_eq!(is_zero(gradient), is_idle("tiny", name), "{name}");
        assert!(is_idle("tiny", name) || distance(gradient, &kept[name]) < 3e-6, "{name}");
    }
}
