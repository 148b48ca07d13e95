//! The autoencoder against diffusers'.

use candle_core::{DType, Device, Tensor};
use jobctl::job::task::making::Partition;
use jobctl::models::package::Package;
use jobctl::models::vae::{Config, Vae};
use jobctl::models::weights::Weights;

use super::{PACKAGES, difference, golden, outputs};

const AMPLE: usize = 1 << 30;

fn open(package: &str) -> Vae {
    let package = Package::open(&golden(package)).unwrap();
    let weights = Weights::open(&package.weights("vae").unwrap(), &Device::Cpu, DType::F32).unwrap();
    let vae = Vae::load(&Config::read(&package.config("vae")).unwrap(), &weights).unwrap();
    weights.finish().unwrap();
    vae
}

fn picture(pixels: &Tensor) -> Tensor {
    let image = pixels.to_dtype(DType::F32).unwrap().permute((2, 0, 1)).unwrap().unsqueeze(0).unwrap();
    ((image / 127.5).unwrap() - 1.0).unwrap().contiguous().unwrap()
}

#[test]
fn encodes_and_decodes_as_diffusers_does() {
    for package in PACKAGES {
        let (vae, theirs) = (open(package), outputs(package));
        let (mean, log_variance) = vae.encode(&picture(&theirs["vae.image"]), AMPLE).unwrap();
        assert!(difference(&mean, &theirs["vae.mean"]) < 3e-5, "{package}");
        assert!(difference(&log_variance, &theirs["vae.logvar"]) < 3e-5, "{package}");
        for (name, partition) in
            [("vae.off", Partition::Off), ("vae.exact", Partition::Exact), ("vae.legacy", Partition::Legacy)]
        {
            let Some(theirs) = theirs.get(name) else { continue };
            // What a `z` of the pipeline means to the autoencoder is left to the caller.
            let ours = vae.decode(&outputs(package)["vae.z"], partition, AMPLE).unwrap();
            assert!(difference(&ours, theirs) < 3e-5, "{package} {name} {}", difference(&ours, theirs));
        }
    }
}

#[test]
fn bands_cannot_be_seen() {
    for package in PACKAGES {
        let vae = open(package);
        let n_channels = vae.config().latent_channels;
        let latent = Tensor::randn(0_f32, 1.0, (1, n_channels, 14, 10), &Device::Cpu).unwrap();
        let whole = vae.decode(&latent, Partition::Off, AMPLE).unwrap();
        // So little that every band has the fewest rows.
        assert!(difference(&vae.decode(&latent, Partition::Exact, 1).unwrap(), &whole) < 2e-6, "{package}");
        let (mean, _) = vae.encode(&whole, AMPLE).unwrap();
        let (banded, _) = vae.encode(&whole, 1).unwrap();
        assert!(difference(&banded, &mean) < 2e-5, "{package}");
    }
}

#[test]
fn legacy_is_the_exact_picture_shifted_by_one_pixel_in_bands_too() {
    let vae = open("tiny");
    let latent = Tensor::randn(0_f32, 1.0, (1, vae.config().latent_channels, 14, 10), &Device::Cpu).unwrap();
    let exact = vae.decode(&latent, Partition::Exact, AMPLE).unwrap();
    let (_, _, height, width) = exact.dims4().unwrap();
    for budget in [AMPLE, 1] {
        let legacy = vae.decode(&latent, Partition::Legacy, budget).unwrap();
        assert_eq!(legacy.dims(), exact.dims());
        let shifted = legacy.narrow(2, 1, height - 1).unwrap().narrow(3, 1, width - 1).unwrap();
        let exact = exact.narrow(2, 0, height - 1).unwrap().narrow(3, 0, width - 1).unwrap();
        assert!(difference(&shifted, &exact) < 2e-6);
    }
}

#[test]
fn legacy_without_a_stride_and_odd_sizes_are_refused() {
    let vae = open("odd");
    let latent = Tensor::zeros((1, vae.config().latent_channels, 4, 4), DType::F32, &Device::Cpu).unwrap();
    assert!(vae.decode(&latent, Partition::Legacy, AMPLE).unwrap_err().to_string().contains("stride 1"));
    let image = Tensor::zeros((1, 3, 60, 64), DType::F32, &Device::Cpu).unwrap();
    assert!(vae.encode(&image, AMPLE).unwrap_err().to_string().contains("multiples of 8"));
}
