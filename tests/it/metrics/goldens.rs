//! Every metric on photographs and synthetic images against the libraries that define it.

use jobctl::image::{Rgb, decode, jpeg};
use serde_json::Value;

use super::{draw, evaluate, noise, shift, value};
use crate::support;

fn hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// The images of tests/golden/make_metrics.py.
fn synthetic(name: &str) -> Rgb {
    match name {
        "constant" => draw(192, 128, |_, _, channel| [137, 20, 99][channel as usize]),
        "noise" => noise(200, 150),
        "gradient" => draw(257, 129, |x, y, channel| {
            let (x, y) = (255 * x / 256, 255 * y / 128);
            [x, y, (x + y) / 2][channel as usize] as u8
        }),
        "xor" => draw(64, 64, |x, y, channel| [x ^ y, x * y % 256, x + y][channel as usize] as u8),
        "checks" => draw(131, 70, |x, y, channel| {
            let side = [2, 3, 5][channel as usize];
            if (x / side + y / side).is_multiple_of(2) { 0 } else { 255 }
        }),
        "edge" => draw(130, 195, |x, y, _| if x % 64 == 63 && y % 64 > 9 { (40 + y % 8 * 20) as u8 } else { 90 }),
        "narrow" => draw(63, 64, |x, y, channel| [4 * x, 3 * y, x * y % 256][channel as usize] as u8),
        "small" => draw(11, 6, |x, y, channel| [23 * x, 40 * y, x * y][channel as usize] as u8),
        _ => panic!("{name} is not drawn here"),
    }
}

/// Compares what the table says of `rgb` alone.
fn check_alone(name: &str, rgb: &Rgb, golden: &Value) {
    let bytes = jpeg::encode(rgb, 95).unwrap();
    assert_eq!(golden["jpeg95_blake3"], hash(&bytes), "{name}");
    assert_eq!(golden["jpeg95_bytes"], bytes.len(), "{name}");
    let ratio = 3.0 * f64::from(rgb.width) * f64::from(rgb.height) / bytes.len() as f64;
    assert_eq!(value("compression_ratio", rgb, None), ratio, "{name}");
    check_values(name, rgb, None, golden, "glcm_score,glcm_entropy,glcm_texture:*", 1e-12);
}

/// Compares what the table says of `rgb` beside its reference.
fn check_pair(name: &str, rgb: &Rgb, reference: &Rgb, golden: &Value) {
    assert_eq!(golden["damaged_blake3"], hash(&rgb.pixels), "{name}");
    check_values(name, rgb, Some(reference), golden, "psnr,ssim:*,nmse:*", 1e-11);
}

/// Each value of `list` that the table has, within `tolerance` of it (relative to values over 1).
fn check_values(name: &str, rgb: &Rgb, reference: Option<&Rgb>, golden: &Value, list: &str, tolerance: f64) {
    for score in evaluate(list, rgb, reference) {
        let (metric, variant) = (score.metric.name, score.metric.variant);
        let row = golden.get(metric).filter(|_| variant != "normalised");
        let Some(expected) = row.or_else(|| golden.get(format!("{metric}:{variant}"))).and_then(Value::as_f64) else {
            continue;
        };
        let found = score.value.unwrap_or_else(|why| panic!("{name}: {metric}:{variant} {why}"));
        let off = (found - expected).abs() / expected.abs().max(1.0);
        assert!(off < tolerance, "{name}: {metric}:{variant} is {found}, {expected} by the oracle");
    }
}

#[test]
fn synthetic_images_have_the_oracles_scores() {
    let golden = support::golden_json("metrics.json");
    for (name, golden) in golden["synthetic"].as_object().unwrap() {
        let rgb = synthetic(name);
        assert_eq!(golden["blake3"], hash(&rgb.pixels), "{name} is drawn differently");
        check_alone(name, &rgb, golden);
        check_pair(name, &shift(&rgb), &rgb, &golden["shift"]);
    }
}

#[test]
fn photographs_have_the_oracles_scores() {
    let golden = support::golden_json("metrics.json");
    let golden = golden["photographs"].as_object().unwrap();
    assert!(golden.len() >= 8);
    for (name, golden) in golden {
        let whole = decode(&std::fs::read(support::photos().join(name)).unwrap(), 1 << 28).unwrap();
        assert_eq!(golden["blake3"], hash(&whole.pixels), "{name} is decoded differently");
        check_alone(name, &whole, golden);

        let crop = whole.crop((whole.width - 1023) / 2, (whole.height - 771) / 2, 1023, 771);
        let golden = &golden["crop_1023x771"];
        check_alone(name, &crop, golden);
        let damaged = decode(&jpeg::encode(&crop, 30).unwrap(), 1 << 28).unwrap();
        check_pair(name, &damaged, &crop, &golden["jpeg30"]);
    }
}

#[test]
fn ssim_and_psnr_have_their_published_example() {
    let sample = |x: u32, y: u32| ((7 * x + 13 * y) % 256) as i32;
    let reference = draw(32, 32, |x, y, _| sample(x, y) as u8);
    let rgb = draw(32, 32, |x, y, _| (sample(x, y) + 4 * ((x * y % 5) as i32 - 2)).clamp(0, 255) as u8);
    assert!((value("ssim", &rgb, Some(&reference)) - 0.975_202_820_897_303_7).abs() < 1e-12);
    assert!((value("psnr", &rgb, Some(&reference)) - 32.262_118_683_594_35).abs() < 1e-9);
}
