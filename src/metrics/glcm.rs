//! GLCM Score and what else follows from grey-level co-occurrence, after Diffusion-4K (arXiv 2503.18352).
//!
//! The picture's grey (as OpenCV computes it) in 64 levels is cut into whole 64×64 patches from the top left; in each
//! the pairs of levels at 16 offsets are counted. A metric is the mean over patches.

pub mod count;
pub mod entropy;
pub mod texture;

use rayon::prelude::*;

use super::{Better, Group, How, Metric, Needs, Score, Subject};
use crate::image::Rgb;
use count::{Counter, LEVELS, PATCH, Patch, Sink};
use entropy::{Entropy, EntropyTables};
use texture::Texture;

const SCORE: Metric = Metric {
    name: "glcm_score",
    variant: "authors",
    version: 1,
    needs: Needs::Pixels,
    better: Better::Higher,
    unit: "bits",
    about: "Entropy of the histogram of the values in 16 co-occurrence matrices, as the authors' script computes it.",
    pooled: false,
};

const ENTROPY: Metric = Metric {
    name: "glcm_entropy",
    variant: "bits",
    about: "Entropy -Σ p log2 p of a co-occurrence matrix of 64 levels, mean over 16 offsets.",
    ..SCORE
};

const TEXTURE: Metric = Metric {
    name: "glcm_texture",
    variant: "contrast",
    unit: "",
    about: "Mean squared difference of levels in a pair of pixels, after Haralick, mean over 16 offsets.",
    ..SCORE
};

pub(super) const GROUP: Group = Group {
    rows: &[
        SCORE,
        ENTROPY,
        Metric { variant: "normalised", unit: "", about: "glcm_entropy:bits by the 12 bits of pure noise.", ..ENTROPY },
        TEXTURE,
        Metric {
            variant: "dissimilarity",
            about: "Mean absolute difference of levels in a pair of pixels, mean over 16 offsets.",
            ..TEXTURE
        },
        Metric {
            variant: "homogeneity",
            better: Better::Lower,
            about: "Mean of 1 / (1 + d²), d the difference of levels in a pair of pixels, mean over 16 offsets.",
            ..TEXTURE
        },
        Metric {
            variant: "energy",
            better: Better::Lower,
            about: "Root of the sum of squares of a co-occurrence matrix, mean over 16 offsets.",
            ..TEXTURE
        },
        Metric {
            variant: "correlation",
            better: Better::Lower,
            about: "Correlation of the levels in a pair of pixels, 1 where one of them is constant, mean over 16 offsets.",
            ..TEXTURE
        },
        Metric {
            variant: "asm",
            better: Better::Lower,
            about: "Angular second moment: sum of squares of a co-occurrence matrix, mean over 16 offsets.",
            ..TEXTURE
        },
    ],
    score: How::Alone(score),
    pool: |_| None,
};

fn score(wanted: &[&'static Metric], subject: &Subject) -> Vec<Score> {
    let values = Values::of(
        subject.rgb,
        Want {
            entropy: wanted.iter().any(|it| it.name != TEXTURE.name),
            texture: wanted.iter().any(|it| it.name == TEXTURE.name),
        },
    );
    let note = values.as_ref().and(ragged(subject.rgb));
    wanted
        .iter()
        .map(|&metric| {
            let value = values.ok_or_else(|| {
                let Rgb { width, height, .. } = subject.rgb;
                format!("is {width}x{height}: smaller than the {PATCH}x{PATCH} pixels of one patch")
            });
            let value = value.map(|it| match (metric.name, metric.variant) {
                ("glcm_score", _) => it.score,
                ("glcm_entropy", "bits") => it.entropy,
                ("glcm_entropy", _) => it.entropy / 12.0,
                (_, "dissimilarity") => it.texture.dissimilarity,
                (_, "homogeneity") => it.texture.homogeneity,
                (_, "energy") => it.texture.energy,
                (_, "correlation") => it.texture.correlation,
                (_, "asm") => it.texture.asm,
                _ => it.texture.contrast,
            });
            Score { metric, value, note: note.clone() }
        })
        .collect()
}

/// Which edges of a picture lie in no whole patch, in words; none if all pixels count.
pub fn ragged(rgb: &Rgb) -> Option<String> {
    let patch = PATCH as u32;
    let strips: Vec<String> = [(rgb.width % patch, "column"), (rgb.height % patch, "row")]
        .into_iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, what)| format!("{n} {what}{}", if n == 1 { "" } else { "s" }))
        .collect();
    let edges = match (rgb.width.is_multiple_of(patch), rgb.height.is_multiple_of(patch)) {
        (false, false) => "right and lower edges",
        (false, true) => "right edge",
        _ => "lower edge",
    };
    if strips.is_empty() { None } else { Some(format!("{} at the {edges} left out", strips.join(" and "))) }
}

/// What is to be computed from the counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Want {
    /// The GLCM Score and the true entropy.
    pub entropy: bool,
    /// Haralick's texture features.
    pub texture: bool,
}

/// Means over a picture's patches.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Values {
    /// The GLCM Score in bits; 0 unless wanted.
    pub score: f64,
    /// The mean entropy of a matrix in bits; 0 unless wanted.
    pub entropy: f64,
    /// Texture features; 0 unless wanted.
    pub texture: Texture,
}

impl Values {
    /// Of all whole patches; none if there is no such patch. Rows of patches are shared among the rayon pool's threads.
    pub fn of(rgb: &Rgb, want: Want) -> Option<Self> {
        let (across, down) = (rgb.width as usize / PATCH, rgb.height as usize / PATCH);
        if across == 0 || down == 0 {
            return None;
        }
        let tables = EntropyTables::get();
        let rows: Vec<Vec<Self>> = (0..down)
            .into_par_iter()
            .map_init(
                || (Counter::default(), Entropy::new(tables), Vec::new()),
                |(counter, entropy, levels), row| {
                    quantise_rows(rgb, row * PATCH, levels);
                    (0..across)
                        .map(|column| {
                            let patch = cut(levels, rgb.width as usize, column * PATCH);
                            Self::of_patch(&patch, want, counter, entropy)
                        })
                        .collect()
                },
            )
            .collect();
        // Summed in the order of patches, so that the number of threads changes no digit.
        let n = (across * down) as f64;
        let sum = rows.into_iter().flatten().fold(Self::default(), |sum, it| sum.plus(&it));
        Some(Self { score: sum.score / n, entropy: sum.entropy / n, texture: sum.texture.scaled(1.0 / n) })
    }

    fn of_patch(patch: &Patch, want: Want, counter: &mut Counter, entropy: &mut Entropy) -> Self {
        let mut texture = texture::Sums::default();
        match want {
            Want { entropy: true, texture: false } => counter.count(patch, entropy),
            Want { entropy: false, texture: true } => counter.count(patch, &mut texture),
            _ => counter.count(patch, &mut (&mut *entropy, &mut texture)),
        }
        let (score, bits) = if want.entropy { entropy.take() } else { (0.0, 0.0) };
        let texture = if want.texture { texture.features() } else { Texture::default() };
        Self { score, entropy: bits, texture }
    }

    fn plus(&self, other: &Self) -> Self {
        Self {
            score: self.score + other.score,
            entropy: self.entropy + other.entropy,
            texture: self.texture.plus(&other.texture),
        }
    }
}

impl<A: Sink, B: Sink> Sink for (&mut A, &mut B) {
    #[inline(always)]
    fn cells(&mut self, i: u8, j: u8, counts: &[u16; 16]) {
        self.0.cells(i, j, counts);
        self.1.cells(i, j, counts);
    }
}

/// The grey of an RGB pixel, 0 to 255, with the 15-bit weights of OpenCV 4 and later.
pub fn grey([r, g, b]: [u8; 3]) -> u8 {
    let sum = 9798 * u32::from(r) + 19235 * u32::from(g) + 3735 * u32::from(b);
    ((sum + (1 << 14)) >> 15) as u8
}

/// Levels (a quarter of the grey) of the `PATCH` rows from `top` on, `PATCH * width` of them.
fn quantise_rows(rgb: &Rgb, top: usize, levels: &mut Vec<u8>) {
    let width = rgb.width as usize;
    levels.resize(PATCH * width, 0);
    quantise(&rgb.pixels[3 * top * width..3 * (top + PATCH) * width], levels);
}

#[multiversion::multiversion(targets = "simd")]
fn quantise(rgb: &[u8], levels: &mut [u8]) {
    for (level, pixel) in levels.iter_mut().zip(rgb.as_chunks().0) {
        *level = grey(*pixel) / (256 / LEVELS) as u8;
    }
}

/// The patch whose left edge is at `left`, from `PATCH` rows of levels.
fn cut(levels: &[u8], width: usize, left: usize) -> Patch {
    let mut patch = [[0; PATCH]; PATCH];
    for (row, line) in patch.iter_mut().zip(levels.chunks_exact(width)) {
        row.copy_from_slice(&line[left..left + PATCH]);
    }
    patch
}
