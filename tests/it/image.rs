//! Pixels equal to OpenCV's, JPEG bytes equal to Pillow's, damage equal to SciPy's and Pillow's.

use std::fs::{self, File};
use std::io::{BufReader, Cursor};
use std::time::Instant;

use jobctl::image::{self, Format, ImageError, MAX_PIXELS, Rgb};
use jobctl::job::task::Step;
use rayon::prelude::*;
use serde_json::Value;

use crate::support::{golden, golden_json, photo_files};

/// The same as `pattern` in tests/golden/make_images.py.
fn pattern(width: u32, height: u32, kind: u64) -> Rgb {
    let mut image = Rgb::new(width, height);
    let mut state: u64 = 12345;
    let (w, h) = (u64::from(width), u64::from(height));
    for (i, pixel) in image.pixels.as_chunks_mut::<3>().0.iter_mut().enumerate() {
        let (x, y) = (i as u64 % w, i as u64 / w);
        let values = match kind {
            0 => [x * 3 + y, x * y / 7, (x / 8 + y / 8) % 2 * 200 + x % 50],
            1 => [x * 255 / w.max(2), y * 255 / h.max(2), (x + y) * 255 / (w + h)],
            _ => [(); 3].map(|()| {
                state = (state * 1_103_515_245 + 12345) % (1 << 31);
                state >> 16
            }),
        };
        *pixel = values.map(|it| it as u8);
    }
    image
}

fn hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

fn decode_file(name: &str) -> Result<Rgb, ImageError> {
    image::decode(&fs::read(golden("images").join(name)).unwrap(), MAX_PIXELS)
}

#[test]
fn every_kind_of_file_decodes_to_the_pixels_of_opencv() {
    let table = golden_json("images.json");
    let mut wrong = Vec::new();
    for (name, expected) in table["good"].as_object().unwrap() {
        match decode_file(name) {
            Ok(image) => {
                let found = (u64::from(image.width), u64::from(image.height), hash(&image.pixels));
                let expected = (&expected["width"], &expected["height"], expected["blake3"].as_str().unwrap());
                if (&Value::from(found.0), &Value::from(found.1), found.2.as_str()) != expected {
                    wrong.push(format!("{name}: {found:?} is not {expected:?}"));
                }
            }
            Err(error) => wrong.push(format!("{name}: {error}")),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_bad_file_is_refused_in_words_of_its_own() {
    for (name, word) in golden_json("images.json")["bad"].as_object().unwrap() {
        let error = decode_file(name).expect_err(name).to_string();
        assert!(error.contains(word.as_str().unwrap()), "{name}: {error}");
    }
}

#[test]
fn the_header_alone_tells_the_size_that_decoding_gives() {
    for name in golden_json("images.json")["good"].as_object().unwrap().keys() {
        let file = BufReader::new(File::open(golden("images").join(name)).unwrap());
        let header = image::header(file).unwrap();
        let image = decode_file(name).unwrap();
        assert_eq!((header.width, header.height), (image.width, image.height), "{name}");
        assert_eq!(header.format.to_string().to_lowercase().replace("jpeg", "jpg"), name.rsplit_once('.').unwrap().1);
    }
}

#[test]
fn photographs_decode_to_the_pixels_of_opencv_and_their_crops_encode_to_the_bytes_of_pillow() {
    let table = golden_json("images.json");
    photo_files().par_iter().for_each(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        let expected = &table["photos"][name];
        let image = image::decode(&fs::read(path).unwrap(), MAX_PIXELS).unwrap();
        assert_eq!(
            (Value::from(image.width), Value::from(image.height)),
            (expected["width"].clone(), expected["height"].clone())
        );
        assert_eq!(hash(&image.pixels), expected["blake3"], "{name}");
        check_jpeg(name, &image.crop(200, 100, 701, 513), &expected["jpeg_of_crop"]);
    });
}

#[test]
fn drawn_images_of_any_size_encode_to_the_bytes_of_pillow() {
    for row in golden_json("images.json")["jpeg"].as_array().unwrap() {
        let side = |name: &str| row[name].as_u64().unwrap() as u32;
        let kind = row["kind"].as_u64().unwrap();
        let image = pattern(side("width"), side("height"), kind);
        check_jpeg(&format!("{image:?} of kind {kind}"), &image, &row["blake3"]);
    }
}

fn check_jpeg(name: &str, image: &Rgb, expected: &Value) {
    for (quality, expected) in expected.as_object().unwrap() {
        let bytes = image::jpeg::encode(image, quality.parse().unwrap()).unwrap();
        assert_eq!(hash(&bytes), *expected, "{name}, quality {quality}");
    }
}

#[test]
fn a_png_holds_what_was_put_in() {
    let image = pattern(63, 47, 2);
    let bytes = image::png::encode(&image);
    assert!(image::decode(&bytes, MAX_PIXELS).unwrap() == image);
    assert_eq!(image::header(Cursor::new(&bytes)).unwrap().format, Format::Png);
}

#[test]
fn the_limit_is_on_pixels_and_can_be_raised_or_lowered() {
    let bytes = fs::read(golden("images/plain.jpg")).unwrap();
    assert!(image::decode(&bytes, 45 * 29).is_ok());
    let error = image::decode(&bytes, 45 * 29 - 1).unwrap_err().to_string();
    assert!(error.contains("45×29") && error.contains("1305") && error.contains("1304"), "{error}");
    assert!(error.contains("max_pixels"), "{error}");
}

#[test]
fn every_cut_of_a_file_is_an_error_and_never_a_panic() {
    for name in ["plain.jpg", "progressive.jpg", "rgba.png", "lossy.webp", "lossless.webp", "turned5.webp"] {
        let bytes = fs::read(golden("images").join(name)).unwrap();
        // The last byte of a WebP may be padding; of a PNG the last chunk's checksum.
        for len in 0..bytes.len() - 1 {
            assert!(image::decode(&bytes[..len], MAX_PIXELS).is_err(), "{name} cut to {len} of {}", bytes.len());
        }
    }
}

#[test]
fn flipped_bits_never_panic() {
    for name in ["plain.jpg", "progressive.jpg", "turned6.jpg", "palette.png", "lossy-alpha.webp", "lossless.webp"] {
        let bytes = fs::read(golden("images").join(name)).unwrap();
        for i in 0..bytes.len() {
            let mut broken = bytes.clone();
            broken[i] ^= 1 << (i % 8);
            let _ = image::decode(&broken, 1 << 20);
            let _ = image::header(Cursor::new(&broken));
        }
    }
}

#[test]
fn a_crop_is_the_middle_or_what_there_is_of_it() {
    let image = pattern(61, 47, 2);
    let crop = |size| image::apply(image.clone(), &[Step::Crop { size }]).unwrap();
    assert!(crop(10) == image.crop(25, 18, 10, 10));
    assert!(crop(50) == image.crop(5, 0, 50, 47));
    assert!(crop(100) == image);
    assert_eq!(image.crop(60, 46, 9, 9).pixels, image.pixels[image.pixels.len() - 3..]);
}

#[test]
fn blur_is_scipys_and_resizing_pillows() {
    for row in golden_json("images.json")["damage"].as_array().unwrap() {
        let file = |name: &str| decode_file(name).unwrap();
        let of = row["of"].as_str().unwrap();
        let source = if of == "61x47" { pattern(61, 47, 0) } else { file(of) };
        let level = row["level"].as_f64().unwrap();
        let (step, allowed) = match row["kind"].as_str().unwrap() {
            "blur" => (Step::Blur { sigma: level }, 0.001),
            _ => (Step::Resize { factor: level }, 0.02),
        };
        let expected = file(&format!("damaged/{}", row["file"].as_str().unwrap()));
        let found = image::apply(source, &[step]).unwrap();
        let pairs = || found.pixels.iter().zip(&expected.pixels);
        let largest = pairs().map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        let share = pairs().filter(|(a, b)| a != b).count() as f64 / found.pixels.len() as f64;
        eprintln!("{}: largest {largest}, share {share:.5}", row["file"]);
        assert!(largest <= 1 && share <= allowed, "{}: {share} of the values differ, by up to {largest}", row["file"]);
    }
}

#[test]
fn noise_is_gaussian_and_follows_from_its_seed_alone() {
    let grey = Rgb { width: 400, height: 300, pixels: vec![128; 360_000] };
    let noisy = |sigma, seed| image::apply(grey.clone(), &[Step::Noise { sigma, seed }]).unwrap();
    assert_eq!(hash(&noisy(8.0, 1).pixels), "1baa63e7e7605c26590966d7f28f825e83281bc74e6d02c107e6cb044ae71cce");
    assert!(noisy(8.0, 1) == noisy(8.0, 1));
    assert!(noisy(8.0, 1) != noisy(8.0, 2));
    for sigma in [1.0, 2.0, 16.0] {
        let values: Vec<f64> = noisy(sigma, 3).pixels.iter().map(|&it| f64::from(it) - 128.0).collect();
        let moment = |power: i32| values.iter().map(|it| it.powi(power)).sum::<f64>() / values.len() as f64;
        // Rounding adds a twelfth to the variance.
        let deviation = (sigma * sigma + 1.0 / 12.0).sqrt();
        assert!(moment(1).abs() < 0.01 * deviation, "mean {}", moment(1));
        assert!((moment(2).sqrt() / deviation - 1.0).abs() < 0.01, "deviation {}", moment(2).sqrt());
        assert!((moment(4) / moment(2).powi(2) - 3.0).abs() < 0.1, "kurtosis {}", moment(4) / moment(2).powi(2));
    }
}

#[test]
fn a_ladder_of_damage_on_a_large_photograph_is_quick() {
    let image = image::decode(&fs::read(&photo_files()[1]).unwrap(), MAX_PIXELS).unwrap();
    let image = image::apply(image, &[Step::Crop { size: 2048 }]).unwrap();
    for step in [
        Step::Blur { sigma: 4.0 },
        Step::Noise { sigma: 16.0, seed: 1 },
        Step::Resize { factor: 4.0 },
        Step::Jpeg { quality: 50 },
    ] {
        let image = image.clone();
        let start = Instant::now();
        image::apply(image, &[step]).unwrap();
        eprintln!("{step:?}: {:?}", start.elapsed());
    }
}

#[test]
fn a_thumbnail_keeps_the_shape_and_never_grows() {
    let image = pattern(300, 100, 1);
    let small = image::thumbnail(&image, 60);
    assert_eq!((small.width, small.height), (60, 20));
    assert!(image::thumbnail(&image, 1000) == image);
    let line = image::thumbnail(&pattern(1, 900, 1), 30);
    assert_eq!((line.width, line.height), (1, 30));
}
