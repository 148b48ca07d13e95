//! The small package that was trained on photographs: jobs/tiny/package.

use candle_core::{DType, Device};
use jobctl::image::Rgb;
use jobctl::job::task::making::Partition;
use jobctl::models::inspect::Inspection;
use jobctl::models::package::Package;
use jobctl::models::pipeline::Decoder;

use crate::support::root;

#[test]
fn the_trained_package_is_small_whole_and_gives_back_what_it_is_shown() {
    let folder = root().join("jobs/tiny/package");
    let files = walkdir::WalkDir::new(&folder).into_iter().map(Result::unwrap).filter(|it| it.file_type().is_file());
    let n_bytes: u64 = files.map(|it| it.metadata().unwrap().len()).sum();
    assert!(n_bytes <= 4 << 20, "{n_bytes} bytes");
    let package = Package::open(&folder).unwrap();
    assert!(Inspection::of(&package).is_usable());

    // Soft shapes, as photographs have them.
    let mut picture = Rgb::new(128, 128);
    for (idx, pixel) in picture.pixels.chunks_exact_mut(3).enumerate() {
        let (x, y) = ((idx % 128) as f64, (idx / 128) as f64);
        let hill = if y > 70.0 + 18.0 * (x / 25.0).sin() { 0.35 } else { 0.8 };
        for (channel, value) in pixel.iter_mut().enumerate() {
            let light = hill + 0.1 * (y / 128.0) + 0.03 * channel as f64 + 0.04 * ((x + y) / 6.0).sin();
            *value = (light * 255.0).clamp(0.0, 255.0) as u8;
        }
    }
    let decoder = Decoder::load(&package, &Device::Cpu, DType::F32).unwrap();
    let latent = decoder.encode(&picture, None, usize::MAX).unwrap();
    let values: Vec<f32> = latent.flatten_all().unwrap().to_vec1().unwrap();
    let square = values.iter().map(|it| f64::from(*it).powi(2)).sum::<f64>() / values.len() as f64;
    assert!((0.1..10.0).contains(&square), "latents are scaled to about 1: {square}");
    let back = decoder.decode(&latent, Partition::Exact, usize::MAX).unwrap();
    let off = picture.pixels.iter().zip(&back.pixels).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2));
    let psnr = 10.0 * (255.0_f64.powi(2) / (off.sum::<f64>() / picture.pixels.len() as f64)).log10();
    assert!(psnr >= 22.0, "{psnr} dB");
}
