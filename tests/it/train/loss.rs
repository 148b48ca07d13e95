//! The wavelets, the loss and the timesteps.

use candle_core::{DType, Device, Tensor, Var};
use jobctl::models::schedule;
use jobctl::models::sd3::Sd3;
use jobctl::train::dwt::haar;
use jobctl::train::random::{Purpose, Stream};
use jobctl::train::timesteps::{Density, Levels, Weighting};
use jobctl::train::wlf::{Loss, Space, Target};
use proptest::prelude::*;

use super::{config, distance, floats, json, package, tensors, weights};

#[test]
fn the_bands_are_those_of_pytorch_wavelets_for_odd_and_even_sides() {
    let theirs = tensors("dwt.safetensors");
    let mut n_compared = 0;
    for case in 0..5 {
        let x = &theirs[&format!("{case}.x")];
        for n_levels in 1..=3 {
            let bands = haar(x, n_levels).unwrap();
            assert_eq!(bands.len(), 1 + 3 * n_levels);
            let close = |ours: &Tensor, theirs: &Tensor| {
                assert_eq!(ours.dims(), theirs.dims());
                let off = floats(&(ours - theirs).unwrap()).iter().fold(0_f32, |most, it| most.max(it.abs()));
                assert!(off < 2e-6, "{case} {n_levels}: {off:e}");
            };
            close(&bands[0], &theirs[&format!("{case}.{n_levels}.low")]);
            for level in 1..=n_levels {
                let high = &theirs[&format!("{case}.{n_levels}.high.{level}")];
                for band in 0..3 {
                    let ours = &bands[1 + 3 * (n_levels - level) + band];
                    close(ours, &high.narrow(2, band, 1).unwrap().squeeze(2).unwrap());
                    n_compared += 1;
                }
            }
        }
    }
    assert_eq!(n_compared, 5 * 18);
}

fn random(seed: u64, dims: [usize; 4]) -> Tensor {
    let values = Stream::new(seed, Purpose::HeldOut, 0, 0).normals(dims.iter().product());
    Tensor::from_vec(values, &dims, &Device::Cpu).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn equal_weights_are_the_plain_mean_square_up_to_the_timestep(
        seed in any::<u64>(), height in 1_usize..20, width in 1_usize..20, n_levels in 0_usize..6, sigma in 0.01_f32..1.0,
    ) {
        let dims = [2, 3, height, width];
        let (velocity, x0, noise) = (random(seed, dims), random(seed ^ 1, dims), random(seed ^ 2, dims));
        let sigmas = vec![sigma, 1.0 - sigma / 2.0];
        let off = ((&velocity - &noise).unwrap() + &x0).unwrap();
        let by_image: Vec<f64> = off.to_dtype(DType::F64).unwrap().sqr().unwrap().mean((1, 2, 3)).unwrap().to_vec1().unwrap();
        let target = Target { x0, noise, sigmas: sigmas.clone(), weights: vec![1.0, 0.5] };
        for space in [Space::Velocity, Space::X0] {
            let factor = |idx: usize| match space {
                Space::Velocity => 1.0,
                Space::X0 => f64::from(sigmas[idx]).powi(2),
            };
            let plain = (by_image[0] * factor(0) + 0.5 * by_image[1] * factor(1)) / 2.0;
            let loss = Loss { space, bands: vec![1.0; 1 + 3 * n_levels] }.of(&velocity, &target).unwrap();
            let total = f64::from(loss.total.to_scalar::<f32>().unwrap());
            prop_assert!((total - plain).abs() <= 2e-6 * plain, "{total} {plain}");
            let bands: f64 = floats(&loss.bands).iter().map(|it| f64::from(*it)).sum();
            prop_assert!((bands - plain).abs() <= 2e-6 * plain);
        }
    }
}

#[test]
fn the_gradient_of_the_loss_is_its_slope() {
    let dims = [1, 2, 5, 7];
    let loss = Loss { space: Space::X0, bands: vec![1.0, 2.0, 0.5, 4.0, 3.0, 0.0, 1.5] };
    let target = Target { x0: random(1, dims), noise: random(2, dims), sigmas: vec![0.7], weights: vec![1.3] };
    let velocity = Var::from_tensor(&random(3, dims)).unwrap();
    let at = |x: &Tensor| f64::from(loss.of(x, &target).unwrap().total.to_scalar::<f32>().unwrap());
    let gradient = loss.of(&velocity, &target).unwrap().total.backward().unwrap().remove(&velocity).unwrap();
    let along = random(4, dims);
    let slope: f64 = floats(&(&gradient * &along).unwrap()).iter().map(|it| f64::from(*it)).sum();
    // The loss is a square: the central difference is exact but for rounding.
    let step = 0.25;
    let (up, down) = (
        at(&(velocity.as_tensor() + (&along * step).unwrap()).unwrap()),
        at(&(velocity.as_tensor() - (&along * step).unwrap()).unwrap()),
    );
    let measured = (up - down) / (2.0 * step);
    assert!((slope - measured).abs() < 1e-5 * measured.abs(), "{slope} {measured}");
}

#[test]
fn weights_that_no_number_of_levels_has_are_refused() {
    let error = |bands: &[f64]| Loss { space: Space::X0, bands: bands.to_vec() }.n_levels().unwrap_err().to_string();
    assert!(error(&[1.0; 3]).contains("one level has 4"), "{}", error(&[1.0; 3]));
    assert!(error(&[]).contains("0 weights"));
    assert!(error(&[1.0, -1.0, 1.0, 1.0]).contains("negative"));
    assert!(error(&[1.0, f64::NAN, 1.0, 1.0]).contains("no number"));
    assert!(error(&[0.0; 4]).contains("nothing would be learnt"));
    assert_eq!(
        Loss { space: Space::X0, bands: vec![1.0; 7] }.names(),
        ["LL2", "LH2", "HL2", "HH2", "LH1", "HL1", "HH1"]
    );
    assert_eq!(Loss::plain().names(), ["all"]);
}

/// The densities and weightings that the released scripts' one flag stands for.
fn scheme(name: &str, mean: f64, deviation: f64, scale: f64) -> (Density, Weighting) {
    match name {
        "logit_normal" => (Density::LogitNormal { mean, deviation }, Weighting::None),
        "mode" => (Density::Mode { scale }, Weighting::None),
        "sigma_sqrt" => (Density::Uniform, Weighting::SigmaSqrt),
        "cosmap" => (Density::Uniform, Weighting::Cosmap),
        _ => (Density::Uniform, Weighting::None),
    }
}

#[test]
fn the_loss_of_one_batch_is_that_of_the_released_scripts_for_every_scheme() {
    let levels = Levels::new(&schedule::Config::read(&package("tiny").config("scheduler")).unwrap());
    let model = Sd3::load(&config("tiny"), &weights("tiny")).unwrap();
    let batch = tensors("schemes.safetensors");
    let rows = json("schemes.json");
    let numbers =
        |it: &serde_json::Value| -> Vec<f64> { it.as_array().unwrap().iter().map(|it| it.as_f64().unwrap()).collect() };
    let mut n_losses = 0;
    for row in rows.as_array().unwrap() {
        let name = row["scheme"].as_str().unwrap();
        let number = |key: &str| row[key].as_f64().unwrap();
        let (density, weighting) = scheme(name, number("mean"), number("std"), number("mode_scale"));
        let mut target =
            Target { x0: batch["x0"].clone(), noise: batch["noise"].clone(), sigmas: vec![], weights: vec![] };
        let mut timesteps = Vec::new();
        for (idx, draw) in numbers(&row["draws"]).into_iter().enumerate() {
            let place = density.place(draw);
            assert!((place - numbers(&row["places"])[idx]).abs() < 1e-6, "{name} {idx}");
            let (sigma, timestep) = levels.at(place);
            assert_eq!(sigma, numbers(&row["sigmas"])[idx] as f32, "{name} {idx}");
            assert_eq!(timestep, numbers(&row["timesteps"])[idx] as f32, "{name} {idx}");
            let weight = numbers(&row["weights"])[idx];
            assert!((f64::from(weighting.at(sigma)) - weight).abs() < 1e-6 * weight, "{name} {idx}");
            target.sigmas.push(sigma);
            target.weights.push(weighting.at(sigma));
            timesteps.push(timestep);
        }
        let (streams, condition) =
            model.embed(&target.noisy().unwrap(), &timesteps, &batch["context"], &batch["pooled"]).unwrap();
        let streams = (0..model.n_blocks()).fold(streams, |it, idx| model.block(idx, &it, &condition).unwrap());
        let velocity = model.finish(&streams.image, &condition, (10, 14)).unwrap();
        for golden in row["losses"].as_array().unwrap() {
            let space = if golden["space"] == "x0" { Space::X0 } else { Space::Velocity };
            let losses = Loss { space, bands: numbers(&golden["bands"]) }.of(&velocity, &target).unwrap();
            let (ours, theirs) =
                (f64::from(losses.total.to_scalar::<f32>().unwrap()), golden["loss"].as_f64().unwrap());
            assert!((ours - theirs).abs() < 1e-6 * theirs, "{name} {golden}: {ours}");
            for (ours, theirs) in floats(&losses.bands).into_iter().zip(numbers(&golden["parts"])) {
                assert!((f64::from(ours) - theirs).abs() < 5e-6 * theirs, "{name} {golden}: {ours}");
            }
            n_losses += 1;
        }
    }
    assert_eq!(n_losses, 80);
    assert!(distance(&batch["x0"], &batch["noise"]) > 0.1);
}

#[test]
fn equal_purposes_draw_equal_numbers_and_others_draw_others() {
    let draw = |seed, purpose, a, b| Stream::new(seed, purpose, a, b).normals(1001);
    let first = draw(1, Purpose::Noise, 2, 3);
    assert_eq!(first, draw(1, Purpose::Noise, 2, 3));
    for other in [
        draw(2, Purpose::Noise, 2, 3),
        draw(1, Purpose::Crop, 2, 3),
        draw(1, Purpose::Noise, 3, 3),
        draw(1, Purpose::Noise, 2, 4),
    ] {
        assert!(first.iter().zip(&other).all(|(a, b)| a != b));
    }
    let many = draw(5, Purpose::Noise, 0, 0)
        .into_iter()
        .chain((0..99).flat_map(|b| draw(5, Purpose::Noise, 1, b)))
        .collect::<Vec<_>>();
    let n = many.len() as f64;
    let mean = many.iter().map(|it| f64::from(*it)).sum::<f64>() / n;
    let power = many.iter().map(|it| f64::from(*it).powi(2)).sum::<f64>() / n;
    // Five standard errors.
    assert!(mean.abs() < 5.0 / n.sqrt() && (power - 1.0).abs() < 5.0 * (2.0 / n).sqrt(), "{mean} {power}");
    let mut order = Stream::new(0, Purpose::Order, 0, 0).order(100);
    assert_ne!(order, (0..100).collect::<Vec<_>>());
    order.sort_unstable();
    assert_eq!(order, (0..100).collect::<Vec<_>>());
}
