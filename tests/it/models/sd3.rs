//! The transformer and the whole of its sampling against diffusers'.

use candle_core::{DType, Device, Tensor};
use jobctl::job::task::making::Partition;
use jobctl::models::noise::Recipe;
use jobctl::models::package::Package;
use jobctl::models::pipeline::{Decoder, Denoiser, Sampling};
use jobctl::models::sd3::{Config, Sd3};
use jobctl::models::text::Encoded;
use jobctl::models::weights::Weights;
use serde_json::Value;

use super::{PACKAGES, difference, golden, json, outputs, psnr, values};

fn encoded(key: &str, theirs: &std::collections::HashMap<String, Tensor>) -> Encoded {
    let part = |part: &str| theirs[&format!("prompt.{key}.{part}")].squeeze(0).unwrap();
    Encoded { context: part("embeds"), pooled: part("pooled"), n_cut: [0; 3] }
}

fn sampling(run: &Value) -> Sampling {
    let number = |key: &str| u32::try_from(run[key].as_u64().unwrap()).unwrap();
    Sampling {
        width: number("width"),
        height: number("height"),
        steps: number("steps") as usize,
        guidance: run["guidance"].as_f64().unwrap(),
        seed: run["seed"].as_u64().unwrap(),
        noise: Recipe::Current,
    }
}

#[test]
fn the_velocity_is_that_of_diffusers() {
    for name in PACKAGES {
        let package = Package::open(&golden(name)).unwrap();
        let weights = Weights::open(&package.weights("transformer").unwrap(), &Device::Cpu, DType::F32).unwrap();
        let transformer = Sd3::load(&Config::read(&package.config("transformer")).unwrap(), &weights).unwrap();
        assert!(weights.faults().is_empty(), "{}", weights.faults());
        let theirs = outputs(name);
        for (idx, run) in json(&format!("{name}.json"))["runs"].as_array().unwrap().iter().enumerate() {
            let part = |part: &str| &theirs[&format!("run.{idx}.{part}")];
            let keys = [&run["negative_key"], &run["prompt_key"]];
            let texts: Vec<Encoded> = keys.iter().filter_map(|it| it.as_str()).map(|it| encoded(it, &theirs)).collect();
            let stack =
                |of: fn(&Encoded) -> Tensor| Tensor::stack(&texts.iter().map(of).collect::<Vec<_>>(), 0).unwrap();
            let latent = Tensor::cat(&vec![part("noise"); texts.len()], 0).unwrap();
            let timestep = values(part("timesteps"))[0];
            let (context, pooled) = (stack(|it| it.context.clone()), stack(|it| it.pooled.clone()));
            let ours = transformer.forward(&latent, timestep, &context, &pooled).unwrap();
            assert!(difference(&ours, part("first")) < 2e-5, "{name} {idx}: {}", difference(&ours, part("first")));
        }
    }
}

#[test]
fn latents_and_pictures_are_those_of_diffusers() {
    for name in PACKAGES {
        let package = Package::open(&golden(name)).unwrap();
        let denoiser = Denoiser::load(&package, &Device::Cpu, DType::F32).unwrap();
        let decoder = Decoder::load(&package, &Device::Cpu, DType::F32).unwrap();
        let theirs = outputs(name);
        let golden = json(&format!("{name}.json"));
        for (idx, run) in golden["runs"].as_array().unwrap().iter().enumerate() {
            let text = |key: &str| run[key].as_str().map(|it| encoded(it, &theirs));
            let mut steps = Vec::new();
            let latent = denoiser
                .denoise(
                    &text("prompt_key").unwrap(),
                    text("negative_key").as_ref(),
                    &sampling(run),
                    &mut |done, of| {
                        steps.push((done, of));
                    },
                )
                .unwrap();
            let n_steps = sampling(run).steps;
            assert_eq!(steps.len(), n_steps);
            assert_eq!(steps.last(), Some(&(n_steps, n_steps)));
            let wanted = &theirs[&format!("run.{idx}.latent")];
            assert!(difference(&latent, wanted) < 1e-3, "{name} {idx}: {}", difference(&latent, wanted));

            let picture = decoder.decode(&latent, Partition::Exact, 1 << 30).unwrap();
            let wanted = &theirs[&format!("run.{idx}.image")];
            assert_eq!(wanted.dims(), [picture.height as usize, picture.width as usize, 3]);
            let psnr = psnr(&picture.pixels, &values(wanted));
            assert!(psnr >= 55.0, "{name} {idx}: {psnr} dB");
        }
    }
}

#[test]
fn sizes_that_a_package_cannot_make_are_refused_with_the_nearest_good_one() {
    let package = Package::open(&golden("tiny")).unwrap();
    let denoiser = Denoiser::load(&package, &Device::Cpu, DType::F32).unwrap();
    let theirs = outputs("tiny");
    let prompt = encoded("empty.16", &theirs);
    let refusal = |width, height| {
        let sampling = Sampling { width, height, steps: 1, guidance: 1.0, seed: 0, noise: Recipe::Current };
        denoiser.denoise(&prompt, None, &sampling, &mut |_, _| {}).unwrap_err().to_string()
    };
    assert!(refusal(60, 64).contains("64x64 is the nearest"), "{}", refusal(60, 64));
    assert!(refusal(32, 5000).contains("multiples of 32"), "{}", refusal(32, 5000));
    let unguided = Sampling { width: 64, height: 64, steps: 1, guidance: 7.0, seed: 0, noise: Recipe::Current };
    let error = denoiser.denoise(&prompt, None, &unguided, &mut |_, _| {}).unwrap_err().to_string();
    assert!(error.contains("negative prompt"), "{error}");
}
