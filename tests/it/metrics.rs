//! The metrics against scikit-image, OpenCV, Pillow and torchmetrics, and against laws that they must keep.

mod counts;
mod goldens;

use jobctl::image::{Rgb, jpeg};
use jobctl::metrics::{self, Metric, PoolItem, Score, Subject, TABLE, UnknownMetric};
use proptest::prelude::*;

use crate::support;

/// An image of whatever `sample(x, y, channel)` gives.
fn draw(width: u32, height: u32, sample: impl Fn(u32, u32, u32) -> u8) -> Rgb {
    let mut rgb = Rgb { width, height, pixels: Vec::new() };
    for y in 0..height {
        for x in 0..width {
            rgb.pixels.extend((0..3).map(|channel| sample(x, y, channel)));
        }
    }
    rgb
}

fn noise(width: u32, height: u32) -> Rgb {
    let mut state = 12345_u32;
    let mut rgb = Rgb::new(width, height);
    for sample in &mut rgb.pixels {
        state = state.wrapping_mul(1_103_515_245).wrapping_add(12345) % (1 << 31);
        *sample = (state >> 16) as u8;
    }
    rgb
}

/// The same pixels up to 8 levels off.
fn shift(rgb: &Rgb) -> Rgb {
    draw(rgb.width, rgb.height, |x, y, channel| {
        let sample = rgb.pixels[(3 * (y * rgb.width + x) + channel) as usize];
        (i32::from(sample) + ((7 * x + 13 * y + 5 * channel) % 17) as i32 - 8).clamp(0, 255) as u8
    })
}

fn evaluate(list: &str, rgb: &Rgb, reference: Option<&Rgb>) -> Vec<Score> {
    metrics::evaluate(&metrics::parse(list).unwrap(), &Subject { rgb, file_bytes: None, reference })
}

fn value(list: &str, rgb: &Rgb, reference: Option<&Rgb>) -> f64 {
    evaluate(list, rgb, reference).remove(0).value.unwrap()
}

fn why(list: &str, rgb: &Rgb, reference: Option<&Rgb>) -> String {
    evaluate(list, rgb, reference).remove(0).value.unwrap_err()
}

fn names(list: &str) -> Vec<String> {
    metrics::parse(list).unwrap().iter().map(|it| format!("{}:{}", it.name, it.variant)).collect()
}

#[test]
fn a_bare_name_is_the_default_variant_and_a_star_is_all_of_them() {
    assert_eq!(names("ssim, psnr:rgb,glcm_score"), ["ssim:torchmetrics", "psnr:rgb", "glcm_score:authors"]);
    assert_eq!(names("nmse"), ["nmse:rmse_over_mean"]);
    assert_eq!(names("ssim:*"), ["ssim:torchmetrics", "ssim:skimage", "ssim:skimage-uniform"]);
    assert_eq!(names("ssim:skimage,ssim:*,ssim"), ["ssim:skimage", "ssim:torchmetrics", "ssim:skimage-uniform"]);
}

#[test]
fn a_misspelt_metric_is_answered_with_what_was_meant() {
    let check = |list: &str, name: &str, suggestion: Option<&str>| {
        let error = metrics::parse(list).unwrap_err();
        assert_eq!(error, UnknownMetric { name: name.to_owned(), suggestion: suggestion.map(str::to_owned) });
    };
    check("psnr,glmc_score", "glmc_score", Some("glcm_score"));
    check("SSIM", "SSIM", Some("ssim"));
    check("compression", "compression", Some("compression_ratio"));
    check("ssim:skimag", "ssim:skimag", Some("ssim:skimage"));
    check("sim:skimage-uniform", "sim:skimage-uniform", Some("ssim:skimage-uniform"));
    check("glcm_texture:entropy", "glcm_texture:entropy", Some("glcm_texture:energy"));
    check("ssim:zzz", "ssim:zzz", Some("ssim:*"));
    check("fortune", "fortune", None);
    check("ssim,", "", None);
    let error = metrics::parse("ssmi").unwrap_err();
    assert_eq!(error.to_string(), "`ssmi` is no metric; did you mean `ssim`?");
}

#[test]
fn every_row_is_found_by_its_id_and_no_other_version_is() {
    for metric in TABLE {
        let mut id = metric.id();
        assert_eq!(metrics::find(&id), Some(metric));
        id.version += 1;
        assert_eq!(metrics::find(&id), None);
        assert_eq!(TABLE.iter().filter(|it| (it.name, it.variant) == (metric.name, metric.variant)).count(), 1);
    }
}

#[test]
fn scores_come_in_the_order_that_they_were_asked_for() {
    let rgb = noise(70, 65);
    let wanted: Vec<&Metric> = TABLE.iter().rev().step_by(2).chain(TABLE.iter().step_by(3)).collect();
    let scores =
        metrics::evaluate(&wanted, &Subject { rgb: &rgb, file_bytes: Some(999), reference: Some(&shift(&rgb)) });
    for (metric, score) in wanted.iter().zip(&scores) {
        assert_eq!(*metric, score.metric);
        let alone =
            metrics::evaluate(&[*metric], &Subject { rgb: &rgb, file_bytes: Some(999), reference: Some(&shift(&rgb)) });
        assert_eq!(alone, [score.clone()]);
    }
}

#[test]
fn what_is_undefined_says_why() {
    let (small, wide) = (noise(63, 64), noise(100, 80));
    assert_eq!(why("glcm_score", &small, None), "is 63x64: smaller than the 64x64 pixels of one patch");
    assert_eq!(why("psnr", &wide, Some(&wide)), "the picture equals its reference, so its PSNR is infinite");
    assert_eq!(why("ssim", &wide, Some(&small)), "is 100x80, its reference 63x64");
    assert_eq!(why("nmse:energy", &wide, None), "there is no reference to compare it with");
    assert_eq!(why("compression_ratio:file", &wide, None), "the picture is in no file");
    let tiny = noise(40, 5);
    assert_eq!(why("ssim", &tiny, Some(&tiny)), "is 40x5: its window needs at least 6x6 pixels");
    assert_eq!(why("ssim:skimage", &tiny, Some(&tiny)), "is 40x5: its window needs at least 11x11 pixels");
    assert_eq!(why("ssim:skimage-uniform", &tiny, Some(&tiny)), "is 40x5: its window needs at least 7x7 pixels");
    let black = Rgb::new(8, 8);
    assert_eq!(
        why("nmse:variance", &noise(8, 8), Some(&black)),
        "the reference's variance is 0, by which it would be divided"
    );
}

#[test]
fn ragged_edges_are_noted() {
    let note = |width, height| evaluate("glcm_score", &Rgb::new(width, height), None).remove(0).note;
    assert_eq!(note(128, 64), None);
    assert_eq!(note(130, 64).as_deref(), Some("2 columns at the right edge left out"));
    assert_eq!(note(64, 65).as_deref(), Some("1 row at the lower edge left out"));
    assert_eq!(note(127, 66).as_deref(), Some("63 columns and 2 rows at the right and lower edges left out"));
    assert_eq!(note(63, 66), None);
}

#[test]
fn a_pooled_ratio_is_the_ratio_of_sums() {
    let metric = metrics::parse("compression_ratio").unwrap()[0];
    let item = |width, height, file_bytes: u32| PoolItem {
        width,
        height,
        value: 3.0 * f64::from(width) * f64::from(height) / f64::from(file_bytes),
    };
    let items = [item(4096, 4096, 7_777_777), item(100, 33, 4321), item(6028, 3391, 5_277_212)];
    let raw = 3.0 * f64::from(4096 * 4096 + 100 * 33 + 6028 * 3391);
    assert_eq!(metrics::pool(metric, &items), Some(raw / f64::from(7_777_777 + 4321 + 5_277_212)));
    assert_eq!(metrics::pool(metric, &[]), None);
    assert_eq!(metrics::pool(metrics::parse("ssim").unwrap()[0], &items), None);
}

#[test]
fn the_files_own_bytes_make_the_file_variant() {
    let rgb = noise(10, 20);
    let subject = Subject { rgb: &rgb, file_bytes: Some(100), reference: None };
    let scores = metrics::evaluate(&metrics::parse("compression_ratio:*").unwrap(), &subject);
    assert_eq!(scores[1].value, Ok(6.0));
    assert_eq!(scores[0].value, Ok(600.0 / jpeg::encode(&rgb, 95).unwrap().len() as f64));
}

#[test]
fn the_number_of_threads_changes_no_digit() {
    let rgb = draw(700, 450, |x, y, channel| (x * y / 50 + 40 * channel + (x ^ y) % 9) as u8);
    let reference = shift(&rgb);
    let on = |n_threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
        pool.install(|| evaluate("glcm_score,glcm_entropy,glcm_texture:*,ssim:*,psnr,nmse:*", &rgb, Some(&reference)))
    };
    assert_eq!(on(1), on(3));
}

#[test]
fn better_quality_never_makes_a_photograph_compress_better() {
    for path in support::photo_files().iter().step_by(3) {
        let rgb = jobctl::image::decode(&std::fs::read(path).unwrap(), 1 << 28).unwrap().crop(100, 100, 512, 512);
        let lengths: Vec<usize> =
            (5..=100).step_by(5).map(|quality| jpeg::encode(&rgb, quality).unwrap().len()).collect();
        assert!(lengths.is_sorted(), "{}: {lengths:?}", path.display());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn an_image_is_wholly_similar_to_itself(width in 11_u32..300, height in 11_u32..150, step in 1_u32..40) {
        let rgb = draw(width, height, |x, y, channel| (x * step + y * y / 3 + channel * 31) as u8);
        for score in evaluate("ssim:*", &rgb, Some(&rgb)) {
            prop_assert!((score.value.unwrap() - 1.0).abs() < 1e-12);
        }
        for score in evaluate("nmse:*", &rgb, Some(&rgb)) {
            prop_assert_eq!(score.value, Ok(0.0));
        }
    }

    #[test]
    fn ssim_and_psnr_do_not_care_which_is_the_reference(width in 11_u32..200, height in 11_u32..200) {
        let (a, b) = (noise(width, height), shift(&noise(width, height)));
        for list in ["ssim", "ssim:skimage", "ssim:skimage-uniform", "psnr"] {
            prop_assert!((value(list, &a, Some(&b)) - value(list, &b, Some(&a))).abs() < 1e-12);
        }
    }

    #[test]
    fn the_glcm_score_does_not_care_where_a_patch_lies(seed in 0_usize..1000) {
        let rgb = draw(256, 192, |x, y, channel| (x * x / 90 + y * (x / 64 + 2) + 11 * channel) as u8);
        // Twelve patches, moved by a step that has no divisor in common with twelve.
        let moved = draw(256, 192, |x, y, channel| {
            let place = ((y / 64 * 4 + x / 64) * [1, 5, 7, 11][seed % 4] + seed as u32) % 12;
            let (x, y) = (place % 4 * 64 + x % 64, place / 4 * 64 + y % 64);
            rgb.pixels[(3 * (y * 256 + x) + channel) as usize]
        });
        for list in ["glcm_score", "glcm_entropy", "glcm_texture:contrast"] {
            prop_assert!((value(list, &rgb, None) - value(list, &moved, None)).abs() < 1e-12);
        }
    }
}
