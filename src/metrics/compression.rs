//! Compression Ratio: bytes of the raw pixels per byte of the JPEG file, after Diffusion-4K (arXiv 2503.18352).

use super::{Better, Group, How, Metric, Needs, PoolItem, Score, Subject};
use crate::image::{Rgb, jpeg};

const JPEG95: Metric = Metric {
    name: "compression_ratio",
    variant: "jpeg95",
    version: 1,
    needs: Needs::Pixels,
    better: Better::Lower,
    unit: "",
    about: "Raw bytes (3 a pixel) by the bytes of the pixels as a JPEG of quality 95, 4:2:0, encoded afresh.",
    pooled: true,
};

const FILE: Metric = Metric {
    variant: "file",
    needs: Needs::File,
    about: "Raw bytes (3 a pixel) by the bytes of the file as it is, as the authors' script has it.",
    ..JPEG95
};

pub(super) const GROUP: Group = Group { rows: &[JPEG95, FILE], score: How::Alone(score), pool };

fn score(wanted: &[&'static Metric], subject: &Subject) -> Vec<Score> {
    wanted
        .iter()
        .map(|&metric| {
            let n_bytes = match metric.needs {
                Needs::File => subject.file_bytes.filter(|it| *it > 0).ok_or("the picture is in no file".to_owned()),
                _ => jpeg::encode(subject.rgb, 95).map(|it| it.len()).map_err(|it| it.to_string()),
            };
            Score { metric, value: n_bytes.map(|it| raw_bytes(subject.rgb) / it as f64), note: None }
        })
        .collect()
}

/// Raw bytes of all pictures by the bytes of all files: large pictures weigh more than in the mean of ratios.
fn pool(items: &[PoolItem]) -> Option<f64> {
    let raw = |it: &PoolItem| 3 * u64::from(it.width) * u64::from(it.height);
    let raw_bytes: u64 = items.iter().map(raw).sum();
    // An item's file had a whole number of bytes, which rounding brings back.
    let file_bytes: f64 = items.iter().map(|it| (raw(it) as f64 / it.value).round()).sum();
    Some(raw_bytes as f64 / file_bytes).filter(|it| it.is_finite())
}

fn raw_bytes(rgb: &Rgb) -> f64 {
    3.0 * f64::from(rgb.width) * f64::from(rgb.height)
}
