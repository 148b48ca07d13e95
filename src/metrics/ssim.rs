//! SSIM: structural similarity to a reference, mean over pixels and channels, in three readings.

mod map;

use super::{Better, Group, How, Metric, Needs, Score, Subject};
use crate::image::Rgb;
use map::{Means, Window};

const TORCHMETRICS: Metric = Metric {
    name: "ssim",
    variant: "torchmetrics",
    version: 1,
    needs: Needs::Reference,
    better: Better::Higher,
    unit: "",
    about: "Gaussian window (σ 1.5, 11×11), edges mirrored, mean over all pixels: torchmetrics' definition.",
    pooled: false,
};

const SKIMAGE: Metric = Metric {
    variant: "skimage",
    about: "Gaussian window (σ 1.5, 11×11), population covariance, mean without 5 pixels at each edge: scikit-image's.",
    ..TORCHMETRICS
};

const UNIFORM: Metric = Metric {
    variant: "skimage-uniform",
    about: "Uniform 7×7 window, sample covariance, mean without 3 pixels at each edge: scikit-image's default.",
    ..TORCHMETRICS
};

pub(super) const GROUP: Group =
    Group { rows: &[TORCHMETRICS, SKIMAGE, UNIFORM], score: How::Alone(score), pool: |_| None };

fn score(wanted: &[&'static Metric], subject: &Subject) -> Vec<Score> {
    // Both Gaussian readings come out of one map.
    let (mut gaussian, mut uniform) = (None, None);
    wanted
        .iter()
        .map(|&metric| {
            let value = subject.pair().and_then(|(rgb, reference)| {
                if metric.variant == UNIFORM.variant {
                    let means = *uniform.get_or_insert_with(|| map::means(rgb, reference, &Window::uniform()));
                    means.inner.ok_or_else(|| too_small(rgb, 7))
                } else {
                    let Means { all, inner } =
                        *gaussian.get_or_insert_with(|| map::means(rgb, reference, &Window::gaussian()));
                    let (mean, side) = if metric.variant == SKIMAGE.variant { (inner, 11) } else { (all, 6) };
                    mean.ok_or_else(|| too_small(rgb, side))
                }
            });
            Score { metric, value, note: None }
        })
        .collect()
}

fn too_small(rgb: &Rgb, side: u32) -> String {
    format!("is {}x{}: its window needs at least {side}x{side} pixels", rgb.width, rgb.height)
}
