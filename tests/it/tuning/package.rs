//! The small package that was trained on photographs: jobs/tiny/package.

use std::fs;

use candle_core::{DType, Device};
use jobctl::image::{MAX_PIXELS, decode};
use jobctl::job::task::making::Partition;
use jobctl::models::inspect::Inspection;
use jobctl::models::package::Package;
use jobctl::models::pipeline::Decoder;
use jobctl::sweep::Sweep;

use crate::support::{golden, root};

#[test]
fn the_trained_package_is_small_and_whole() {
    let folder = root().join("jobs/tiny/package");
    let files = walkdir::WalkDir::new(&folder).into_iter().map(Result::unwrap).filter(|it| it.file_type().is_file());
    let n_bytes: u64 = files.map(|it| it.metadata().unwrap().len()).sum();
    assert!(n_bytes <= 4 << 20, "{n_bytes} bytes");
    assert!(Inspection::of(&Package::open(&folder).unwrap()).is_usable());
}

#[test]
fn the_trained_package_gives_back_pieces_of_photographs_that_it_never_saw() {
    let package = Package::open(&root().join("jobs/tiny/package")).unwrap();
    let decoder = Decoder::load(&package, &Device::Cpu, DType::F32).unwrap();
    let (mut n, mut latents, mut off) = (0.0, 0.0, 0.0);
    for name in ["aitzgorri_by_Aitzol_Berasategi", "Bridge_by_Sander_Klootwijk"] {
        let bytes = fs::read(golden("held_out").join(format!("{name}.png"))).unwrap();
        let strip = decode(&bytes, MAX_PIXELS).unwrap();
        for idx in 0..4 {
            let square = strip.crop(64 * idx, 0, 64, 64);
            let latent = decoder.encode(&square, None, usize::MAX).unwrap();
            let values: Vec<f32> = latent.flatten_all().unwrap().to_vec1().unwrap();
            latents += values.iter().map(|it| f64::from(*it).powi(2)).sum::<f64>() / values.len() as f64;
            let back = decoder.decode(&latent, Partition::Exact, usize::MAX).unwrap();
            let squares = square.pixels.iter().zip(&back.pixels).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2));
            off += squares.sum::<f64>() / square.pixels.len() as f64;
            n += 1.0;
        }
    }
    let psnr = 10.0 * (255.0_f64.powi(2) * n / off).log10();
    assert!(psnr >= 22.0, "{psnr} dB");
    assert!((0.1..10.0).contains(&(latents / n)), "latents are scaled to about 1: {}", latents / n);
}

#[test]
fn a_clone_has_what_the_ablation_starts_from() {
    let jobs = root().join("jobs");
    for name in ["wlf-ablation", "demo-training"] {
        let sweep = Sweep::parse(&fs::read_to_string(jobs.join(format!("{name}.toml"))).unwrap(), name).unwrap();
        let points: Vec<_> = sweep.finetune.iter().flat_map(|it| &it.points).collect();
        assert!(!points.is_empty());
        for point in points {
            let package = Package::open(&jobs.join(sweep.root(&point.name))).unwrap();
            assert!(Inspection::of(&package).is_usable(), "{name}: {}", point.name);
        }
    }
    // What made the package lies beside it.
    let made = Sweep::parse(&fs::read_to_string(jobs.join("tiny/tiny.toml")).unwrap(), "tiny").unwrap();
    assert_eq!(made.finetune.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["vae", "base"]);
}
