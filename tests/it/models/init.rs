//! Random packages: loadable, reproducible, and with pictures that are not flat.

use std::fs;
use std::path::Path;

use candle_core::{DType, Device};
use jobctl::job::task::making::{Partition, Precision};
use jobctl::models::init::{self, Preset, Wanted};
use jobctl::models::inspect::{self, Inspection};
use jobctl::models::noise::Recipe;
use jobctl::models::package::Package;
use jobctl::models::pipeline::{Decoder, Denoiser, Sampling};
use jobctl::models::text::TextEncoders;

use super::{golden, values};

const TINY: Wanted = Wanted { preset: Preset::Tiny, seed: 0, precision: Precision::F32, with_t5: true };

fn write(dir: &Path, wanted: Wanted) -> Package {
    init::write(dir, wanted, &|_, _| {}).unwrap();
    Package::open(dir).unwrap()
}

/// The pixels of a picture of two steps.
fn picture(package: &Package, prompt: &str) -> Vec<u8> {
    let prompts = [prompt, ""];
    let texts = TextEncoders::encode_all(&package.root, &Device::Cpu, DType::F32, &prompts, 77).unwrap();
    let denoiser = Denoiser::load(package, &Device::Cpu, DType::F32).unwrap();
    let sampling = Sampling { width: 128, height: 96, steps: 2, guidance: 7.0, seed: 0, noise: Recipe::Current };
    let latent = denoiser.denoise(&texts[0], Some(&texts[1]), &sampling, &mut |_, _| {}).unwrap();
    let decoder = Decoder::load(package, &Device::Cpu, DType::F32).unwrap();
    decoder.decode(&latent, Partition::Exact, 1 << 30).unwrap().pixels
}

#[test]
fn a_tiny_package_makes_pictures_that_are_not_flat_and_follow_the_prompt() {
    let folder = tempfile::tempdir().unwrap();
    for (name, wanted) in [
        ("f32", TINY),
        ("bf16", Wanted { precision: Precision::Bf16, ..TINY }),
        ("no-t5", Wanted { with_t5: false, ..TINY }),
    ] {
        let package = write(&folder.path().join(name), wanted);
        inspect::check(&package).unwrap();
        assert!(Inspection::of(&package).components.iter().all(|it| it.faults.is_empty()));
        let pixels = picture(&package, "a red fox");
        let n = pixels.len() as f64;
        let mean = pixels.iter().map(|it| f64::from(*it)).sum::<f64>() / n;
        let sd = (pixels.iter().map(|it| (f64::from(*it) - mean).powi(2)).sum::<f64>() / n).sqrt();
        assert!((30.0..225.0).contains(&mean) && sd > 15.0, "{name}: mean {mean}, deviation {sd}");
        assert_ne!(pixels, picture(&package, "the sea"), "{name}");
    }
}

#[test]
fn equal_seeds_give_equal_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let weights = |name: &str, seed| {
        let package = write(&folder.path().join(name), Wanted { seed, ..TINY });
        fs::read(&package.weights("vae").unwrap()[0]).unwrap()
    };
    let first = weights("a", 1);
    assert!(first == weights("b", 1));
    assert!(first != weights("c", 2));
}

#[test]
fn the_positional_table_is_that_of_diffusers() {
    let theirs =
        candle_core::safetensors::load(golden("tiny/transformer/diffusion_pytorch_model.safetensors"), &Device::Cpu);
    let theirs = values(&theirs.unwrap()["pos_embed.pos_embed"]);
    let ours = init::positional_table(12, 4, 16);
    assert_eq!(ours.len(), theirs.len());
    let most = ours.iter().zip(&theirs).fold(0_f32, |most, (a, b)| most.max((a - b).abs()));
    assert!(most < 2e-6, "{most}");
}

#[test]
fn a_folder_that_holds_something_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("mine");
    fs::create_dir(&dir).unwrap();
    // An empty one is fine.
    write(&dir, TINY);
    let before = fs::read(dir.join("model_index.json")).unwrap();
    let error = init::write(&dir, Wanted { seed: 5, ..TINY }, &|_, _| {}).unwrap_err();
    assert!(format!("{error:#}").contains("not empty"), "{error:#}");
    assert_eq!(fs::read(dir.join("model_index.json")).unwrap(), before);
    fs::write(folder.path().join("file"), "x").unwrap();
    assert!(init::write(&folder.path().join("file"), TINY, &|_, _| {}).is_err());
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn nothing_stays_of_a_package_that_was_broken_off() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("deep/mine");
    let broken = std::panic::catch_unwind(|| {
        init::write(&dir, TINY, &|written, _| assert!(written < 100_000, "enough")).unwrap();
    });
    assert!(broken.is_err());
    assert_eq!(fs::read_dir(folder.path().join("deep")).unwrap().count(), 0);
}

#[test]
fn everybody_may_read_what_was_written() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let package = write(&folder.path().join("mine"), TINY);
    for entry in walkdir::WalkDir::new(&package.root) {
        let mode = entry.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o444, 0o444);
    }
}
