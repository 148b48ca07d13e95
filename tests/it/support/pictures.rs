//! Folders of small pictures, and sweeps over them.

use std::fs;
use std::path::{Path, PathBuf};

use jobctl::image::{Rgb, jpeg, png};

/// A picture that differs from those of other seeds: waves and seeded grain.
pub fn picture(width: u32, height: u32, seed: u32) -> Rgb {
    let mut image = Rgb::new(width, height);
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let phase = f64::from(seed);
    for (idx, pixel) in image.pixels.chunks_exact_mut(3).enumerate() {
        let (x, y) = (idx % width as usize, idx / width as usize);
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let grain = (state >> 28) as f64;
        let wave = 110.0 + 50.0 * (x as f64 / 9.0 + phase).sin() + 40.0 * (y as f64 / 13.0 - phase).cos();
        for (channel, value) in pixel.iter_mut().enumerate() {
            *value = (wave + grain + 10.0 * channel as f64) as u8;
        }
    }
    image
}

/// Makes `n` pictures of 128×96 in `folder`, PNG and JPEG in turn: `p000.png`, `p001.jpg` and so on.
pub fn pictures(folder: &Path, n: u32) -> Vec<PathBuf> {
    pictures_of(folder, n, 128, 96)
}

/// Makes `n` pictures of a size in `folder`.
pub fn pictures_of(folder: &Path, n: u32, width: u32, height: u32) -> Vec<PathBuf> {
    fs::create_dir_all(folder).unwrap();
    (0..n)
        .map(|seed| {
            let image = picture(width, height, seed);
            let (bytes, ending) =
                if seed % 2 == 0 { (png::encode(&image), "png") } else { (jpeg::encode(&image, 90).unwrap(), "jpg") };
            let path = folder.join(format!("p{seed:03}.{ending}"));
            fs::write(&path, bytes).unwrap();
            path
        })
        .collect()
}

/// Writes a sweep over `folder` beside it, as `NAME.toml`. `blocks` stands before `[evaluate]`.
pub fn sweep(folder: &Path, name: &str, blocks: &str, metrics: &[&str]) -> PathBuf {
    let base = folder.parent().unwrap();
    let path = base.join(format!("{name}.toml"));
    let photos = folder.file_name().unwrap().to_str().unwrap();
    let text = format!(
        "name = \"{name}\"\n\n[[images]]\nname = \"photos\"\npath = \"{photos}\"\n\n{blocks}\n\n[evaluate]\nmetrics = {metrics:?}\n"
    );
    fs::write(&path, text).unwrap();
    path
}

/// Four levels of blur.
pub const LADDER: &str = "[[damage]]\nof = \"photos\"\nkind = \"blur\"\nsigma = [0.5, 1, 2, 4]";
