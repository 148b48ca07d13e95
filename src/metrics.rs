//! The metrics as a table: what each is called, what it needs, which way is better, and how it is computed.
//!
//! A new metric is a file below this one, whose `GROUP` holds its rows and the function that computes them,
//! and that group's name in `GROUPS`. One that looks through a network says which, and how it is loaded.

mod aesthetics;
pub mod compression;
pub mod glcm;
mod names;
pub mod network;
pub mod pixel;
pub mod shift;
pub mod ssim;

use crate::image::Rgb;
use crate::job::task::MetricId;

pub use names::{UnknownMetric, find, parse};
pub use network::{Network, Scorer};

/// What a metric is computed from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Needs {
    /// The image's pixels alone.
    Pixels,
    /// The file's own bytes.
    File,
    /// The image and a reference of the same size.
    Reference,
}

/// Which way a score is better.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// Higher is better.
    Higher,
    /// Lower is better.
    Lower,
}

/// One row of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Metric {
    /// The name in sweeps, tables and reports.
    pub name: &'static str,
    /// The variant of this row; a metric's first row is its default.
    pub variant: &'static str,
    /// Rises when the definition changes.
    pub version: u32,
    /// What it is computed from.
    pub needs: Needs,
    /// Which way is better.
    pub better: Better,
    /// Its unit, or nothing.
    pub unit: &'static str,
    /// What it measures, and whose definition it is, in one sentence.
    pub about: &'static str,
    /// Whether a set has a score of its own beside the mean, which [`pool`] computes.
    pub pooled: bool,
}

impl Metric {
    /// Its name in tasks and tables.
    pub fn id(&self) -> MetricId {
        MetricId { metric: self.name.to_owned(), variant: self.variant.to_owned(), version: self.version }
    }
}

/// Rows that are computed together because they share work.
struct Group {
    rows: &'static [Metric],
    score: How,
    /// The score of a set, for rows that are pooled.
    pool: fn(items: &[PoolItem]) -> Option<f64>,
}

/// How scores are computed.
enum How {
    /// Of the pixels: one score for each of `wanted`, which are rows of this group.
    Alone(fn(wanted: &[&'static Metric], subject: &Subject) -> Vec<Score>),
    /// By a network, which must be loaded.
    Through(&'static Network),
}

const GROUPS: [Group; 6] =
    [glcm::GROUP, compression::GROUP, pixel::GROUP, ssim::GROUP, shift::GROUP, aesthetics::GROUP];

const N_METRICS: usize = {
    let mut n = 0;
    let mut group = 0;
    while group < GROUPS.len() {
        n += GROUPS[group].rows.len();
        group += 1;
    }
    n
};

static ROWS: [Metric; N_METRICS] = {
    let mut rows = [GROUPS[0].rows[0]; N_METRICS];
    let (mut n, mut group) = (0, 0);
    while group < GROUPS.len() {
        let mut row = 0;
        while row < GROUPS[group].rows.len() {
            rows[n] = GROUPS[group].rows[row];
            n += 1;
            row += 1;
        }
        group += 1;
    }
    rows
};

/// Every metric there is, the variants of one beside each other, its default first.
pub static TABLE: &[Metric] = &ROWS;

/// What is scored.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// The decoded picture.
    pub rgb: &'a Rgb,
    /// The length of the file that it is in; none for a picture that is in no file.
    pub file_bytes: Option<usize>,
    /// What full-reference metrics compare it with.
    pub reference: Option<&'a Rgb>,
}

impl<'a> Subject<'a> {
    /// The picture and its reference, or why they cannot be compared.
    fn pair(&self) -> Result<(&'a Rgb, &'a Rgb), String> {
        let (rgb, reference) = (self.rgb, self.reference.ok_or("there is no reference to compare it with")?);
        if (rgb.width, rgb.height) == (reference.width, reference.height) {
            Ok((rgb, reference))
        } else {
            let size = |it: &Rgb| format!("{}x{}", it.width, it.height);
            Err(format!("is {}, its reference {}", size(rgb), size(reference)))
        }
    }
}

/// One metric of one picture.
#[derive(Clone, PartialEq, Debug)]
pub struct Score {
    /// Which metric.
    pub metric: &'static Metric,
    /// Its value, finite; or why it is undefined, for people to read.
    pub value: Result<f64, String>,
    /// What a reader of the value ought to know, such as pixels that it leaves out.
    pub note: Option<String>,
}

impl Score {
    fn without_network(metric: &'static Metric) -> Self {
        Self { metric, value: Err("its network is not loaded".to_owned()), note: None }
    }
}

/// The network that a metric looks through, if it does.
pub fn network(metric: &Metric) -> Option<&'static Network> {
    match GROUPS.iter().find(|it| it.rows.contains(metric))?.score {
        How::Alone(_) => None,
        How::Through(network) => Some(network),
    }
}

/// Scores of `subject`, in the order of `wanted`. Work that several of them share is done once.
///
/// Runs on the current rayon pool; values do not depend on its size. Those that look through a network have no value here:
/// a [`Scorer`] gives it.
pub fn evaluate(wanted: &[&'static Metric], subject: &Subject) -> Vec<Score> {
    let mut scores: Vec<Option<Score>> = vec![None; wanted.len()];
    for group in &GROUPS {
        let (places, rows): (Vec<_>, Vec<_>) =
            wanted.iter().copied().enumerate().filter(|(_, it)| group.rows.contains(it)).unzip();
        if !rows.is_empty() {
            let found = match group.score {
                How::Alone(score) => score(&rows, subject),
                How::Through(_) => rows.iter().map(|it| Score::without_network(it)).collect(),
            };
            for (place, score) in places.into_iter().zip(found) {
                scores[place] = Some(score);
            }
        }
    }
    scores.into_iter().map(|it| it.expect("every metric is a row of one group, which scores all its rows")).collect()
}

/// One picture of a set, and its score.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct PoolItem {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// The picture's score.
    pub value: f64,
}

/// The score of a set from its pictures' scores; none for metrics that are not pooled and for empty sets.
pub fn pool(metric: &Metric, items: &[PoolItem]) -> Option<f64> {
    let group = GROUPS.iter().find(|it| it.rows.contains(metric))?;
    if metric.pooled && !items.is_empty() { (group.pool)(items) } else { None }
}
