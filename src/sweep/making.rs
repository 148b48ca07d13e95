//! The blocks that make pictures: what a model generates of prompts, and what an autoencoder reconstructs.

use std::ops::Range;

use super::resources::Wants;
use super::{Axis, Expand};
use crate::job::task::making::{FileFormat, Latent, Partition, Precision};

/// Pictures that a model makes of prompts: one source for each point of the axes, one picture a prompt.
#[derive(Clone, Debug)]
pub struct Generate {
    /// The block's name.
    pub name: String,
    /// Packages: paths relative to the sweep file, or names on the Hugging Face hub.
    pub model: Axis<String>,
    /// What is made.
    pub prompts: Prompts,
    /// Only so many of the prompts, from the first on.
    pub limit: Option<usize>,
    /// Width and height in pixels.
    pub size: Axis<(u32, u32)>,
    /// Seeds of the noise: every prompt of a source starts from the same noise.
    pub seed: Axis<u64>,
    /// Steps of the schedule.
    pub steps: Axis<u32>,
    /// Classifier-free guidance; 1 or less means none.
    pub guidance: Axis<f64>,
    /// The negative prompt.
    pub negative: Axis<String>,
    /// How many tokens T5 takes.
    pub t5_tokens: Axis<u32>,
    /// What the models compute in.
    pub dtype: Axis<Precision>,
    /// How the strided end of the decoder is computed.
    pub partition: Axis<Partition>,
    /// How pictures are written.
    pub format: Axis<FileFormat>,
    /// How several axes are combined.
    pub expand: Expand,
    /// What its jobs ask of a slot.
    pub wants: Wants,
    /// Where the values stand in the file that can only be judged when the packages are known.
    pub places: Places,
}

/// Where prompts come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Prompts {
    /// A file as written, relative to the sweep file: `.jsonl` with texts `text` and perhaps `file_name`, else one
    /// prompt a line.
    File(String),
    /// The sweep itself.
    Inline(Vec<String>),
    /// What a machine writes of pictures: index into [`Sweep::caption`](super::Sweep::caption).
    Caption(usize),
}

/// Places in the text of a sweep, as bytes of it.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Of `prompts`, or of `of`.
    pub subject: Range<usize>,
    /// Of each model.
    pub model: Vec<Range<usize>>,
    /// Of each size.
    pub size: Vec<Range<usize>>,
    /// Of each partition.
    pub partition: Vec<Range<usize>>,
}

/// One point of a `[[generate]]` block.
#[derive(Clone, PartialEq, Debug)]
pub struct GeneratePoint {
    /// Index into the block's models.
    pub model: usize,
    /// Index into the block's sizes.
    pub size: usize,
    /// Steps of the schedule.
    pub steps: u32,
    /// Classifier-free guidance.
    pub guidance: f64,
    /// The negative prompt.
    pub negative: String,
    /// How many tokens T5 takes.
    pub t5_tokens: u32,
    /// What the models compute in.
    pub dtype: Precision,
    /// How the strided end of the decoder is computed.
    pub partition: Partition,
    /// How pictures are written.
    pub format: FileFormat,
    /// Seed of the noise.
    pub seed: u64,
    /// The values of what varies, as ` key=value` each.
    pub label: String,
}

impl Generate {
    /// The points, the model slowest, the seed fastest.
    pub fn points(&self) -> Vec<GeneratePoint> {
        let axes = [
            shape(&self.model),
            shape(&self.size),
            shape(&self.steps),
            shape(&self.guidance),
            shape(&self.negative),
            shape(&self.t5_tokens),
            shape(&self.dtype),
            shape(&self.partition),
            shape(&self.format),
            shape(&self.seed),
        ];
        combine(&axes, self.expand)
            .into_iter()
            .map(|at| {
                let (width, height) = self.size.values[at[1]];
                let mut label = String::new();
                tell(&mut label, "model", &self.model, at[0], Clone::clone);
                tell(&mut label, "size", &self.size, at[1], |_| format!("{width}x{height}"));
                tell(&mut label, "steps", &self.steps, at[2], ToString::to_string);
                tell(&mut label, "guidance", &self.guidance, at[3], ToString::to_string);
                tell(&mut label, "negative", &self.negative, at[4], |it| format!("`{it}`"));
                tell(&mut label, "t5_tokens", &self.t5_tokens, at[5], ToString::to_string);
                tell(&mut label, "dtype", &self.dtype, at[6], |it| it.word().to_owned());
                tell(&mut label, "partition", &self.partition, at[7], |it| it.word().to_owned());
                tell(&mut label, "format", &self.format, at[8], |it| it.word().to_owned());
                tell(&mut label, "seed", &self.seed, at[9], ToString::to_string);
                GeneratePoint {
                    model: at[0],
                    size: at[1],
                    steps: self.steps.values[at[2]],
                    guidance: self.guidance.values[at[3]],
                    negative: self.negative.values[at[4]].clone(),
                    t5_tokens: self.t5_tokens.values[at[5]],
                    dtype: self.dtype.values[at[6]],
                    partition: self.partition.values[at[7]],
                    format: self.format.values[at[8]],
                    seed: self.seed.values[at[9]],
                    label,
                }
            })
            .collect()
    }

    /// How many points there are.
    pub fn n_points(&self) -> u64 {
        let lengths = [
            self.model.values.len(),
            self.size.values.len(),
            self.steps.values.len(),
            self.guidance.values.len(),
            self.negative.values.len(),
            self.t5_tokens.values.len(),
            self.dtype.values.len(),
            self.partition.values.len(),
            self.format.values.len(),
            self.seed.values.len(),
        ];
        n_combined(&lengths, self.expand)
    }
}

/// Pictures taken to an autoencoder's latent and back: one source for each point of the axes.
#[derive(Clone, Debug)]
pub struct Reconstruct {
    /// The block's name.
    pub name: String,
    /// The originals: index into [`Sweep::images`](super::Sweep::images).
    pub of: usize,
    /// Packages: paths relative to the sweep file, or names on the Hugging Face hub.
    pub model: Axis<String>,
    /// Which latent stands for a picture.
    pub latent: Axis<Latent>,
    /// How the strided end of the decoder is computed.
    pub partition: Axis<Partition>,
    /// What the autoencoder computes in.
    pub dtype: Axis<Precision>,
    /// How several axes are combined.
    pub expand: Expand,
    /// What its jobs ask of a slot.
    pub wants: Wants,
    /// Where values stand in the file.
    pub places: Places,
}

/// One point of a `[[reconstruct]]` block.
#[derive(Clone, PartialEq, Debug)]
pub struct ReconstructPoint {
    /// Index into the block's models.
    pub model: usize,
    /// Which latent stands for a picture.
    pub latent: Latent,
    /// How the strided end of the decoder is computed.
    pub partition: Partition,
    /// What the autoencoder computes in.
    pub dtype: Precision,
    /// The values of what varies, as ` key=value` each.
    pub label: String,
}

impl Reconstruct {
    /// The points, the model slowest.
    pub fn points(&self) -> Vec<ReconstructPoint> {
        let axes = [shape(&self.model), shape(&self.latent), shape(&self.partition), shape(&self.dtype)];
        combine(&axes, self.expand)
            .into_iter()
            .map(|at| {
                let mut label = String::new();
                tell(&mut label, "model", &self.model, at[0], Clone::clone);
                tell(&mut label, "latent", &self.latent, at[1], |it| latent_word(*it));
                tell(&mut label, "partition", &self.partition, at[2], |it| it.word().to_owned());
                tell(&mut label, "dtype", &self.dtype, at[3], |it| it.word().to_owned());
                ReconstructPoint {
                    model: at[0],
                    latent: self.latent.values[at[1]],
                    partition: self.partition.values[at[2]],
                    dtype: self.dtype.values[at[3]],
                    label,
                }
            })
            .collect()
    }

    /// How many points there are.
    pub fn n_points(&self) -> u64 {
        let lengths =
            [self.model.values.len(), self.latent.values.len(), self.partition.values.len(), self.dtype.values.len()];
        n_combined(&lengths, self.expand)
    }
}

/// `mean`, or `sample` with its seed.
pub fn latent_word(latent: Latent) -> String {
    match latent {
        Latent::Mean => "mean".to_owned(),
        Latent::Sample { seed } => format!("sample:{seed}"),
    }
}

/// How many values an axis has, and whether the file has a list.
fn shape<T>(axis: &Axis<T>) -> (usize, bool) {
    (axis.values.len(), axis.varies)
}

/// Appends ` key=value` where the axis varies.
fn tell<T>(label: &mut String, key: &str, axis: &Axis<T>, idx: usize, show: impl Fn(&T) -> String) {
    if axis.varies {
        label.push_str(&format!(" {key}={}", show(&axis.values[idx])));
    }
}

/// How many points axes of these lengths have.
fn n_combined(lengths: &[usize], expand: Expand) -> u64 {
    match expand {
        Expand::Grid => lengths.iter().fold(1, |product, it| product.saturating_mul(*it as u64)),
        Expand::Zip => lengths.iter().max().map_or(0, |it| *it as u64),
    }
}

/// The index of each axis's value at every point, the last axis fastest. In a zip a scalar goes with every point;
/// lists have the same length.
pub(super) fn combine(axes: &[(usize, bool)], expand: Expand) -> Vec<Vec<usize>> {
    match expand {
        Expand::Grid => axes.iter().fold(vec![Vec::new()], |points, (n, _)| {
            let longer = |point: &Vec<usize>| {
                let point = point.clone();
                (0..*n).map(move |idx| point.iter().copied().chain([idx]).collect::<Vec<usize>>()).collect::<Vec<_>>()
            };
            points.iter().flat_map(longer).collect()
        }),
        Expand::Zip => {
            let n = axes.iter().map(|it| it.0).max().unwrap_or(0);
            (0..n).map(|idx| axes.iter().map(|(_, varies)| if *varies { idx } else { 0 }).collect()).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Expand, combine};

    #[test]
    fn a_grid_has_all_points_and_a_zip_the_pairs() {
        let axes = [(2, true), (1, false), (2, true)];
        assert_eq!(combine(&axes, Expand::Grid), [[0, 0, 0], [0, 0, 1], [1, 0, 0], [1, 0, 1]]);
        assert_eq!(combine(&axes, Expand::Zip), [[0, 0, 0], [1, 0, 1]]);
    }
}
