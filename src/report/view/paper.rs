//! The paper's tables and figures: ours in its form, the published numbers beside, and what is missing.

use serde::Serialize;

use crate::metrics::Better;
use crate::stats::Interval;

/// One table of the paper.
#[derive(Clone, Debug, Serialize)]
pub struct PaperTable {
    /// Its number in the paper.
    pub number: u8,
    /// What it is about.
    pub title: String,
    /// What ours are computed over, as a sentence.
    pub note: String,
    /// Its metrics.
    pub columns: Vec<PaperColumn>,
    /// Its methods, then those of ours that it does not have.
    pub rows: Vec<PaperRow>,
}

/// A metric of a table.
#[derive(Clone, Debug, Serialize)]
pub struct PaperColumn {
    /// Its name.
    pub metric: String,
    /// What people call it.
    pub label: String,
    /// Which way is better.
    pub better: Option<Better>,
}

/// A method of a table: ours, the published numbers, or both.
#[derive(Clone, Debug, Serialize)]
pub struct PaperRow {
    /// The paper's name of it, or ours.
    pub method: String,
    /// The name under which it stands in this report, and which pictures it is over.
    pub ours: Option<(String, String)>,
    /// One of ours for each column.
    pub values: Vec<Option<PaperValue>>,
    /// One published for each column.
    pub published: Vec<Option<f64>>,
    /// Who published them; none for the paper itself.
    pub origin: Option<String>,
}

/// A number of ours.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct PaperValue {
    /// The number.
    pub value: f64,
    /// Its interval; none for counts, and for scores of whole sets that do not follow from those of their pictures.
    pub interval: Option<Interval>,
    /// Whether it is of the set as a whole rather than a mean.
    pub of_set: bool,
}

/// What making the pictures of one entrant took on one device: the paper's Table 5 at 4096×4096.
#[derive(Clone, Debug, Serialize)]
pub struct EffortRow {
    /// Index into [`super::Report::entrants`].
    pub entrant: usize,
    /// The GPU, or what the machine is; none where nothing was measured.
    pub device: Option<String>,
    /// How many pictures were measured there.
    pub n: usize,
    /// Seconds of a step of denoising: the median over pictures of each one's median. Guidance's two velocities are one step.
    pub step_s: Option<f64>,
    /// The most memory in use while a picture was denoised, in GiB.
    pub denoise_gib: Option<f64>,
    /// The same while one was decoded.
    pub decode_gib: Option<f64>,
    /// How many pictures could not be made because memory ran out, on whatever device: said in the entrant's first row.
    pub n_out_of_memory: usize,
}

impl EffortRow {
    /// The most memory in use, in GiB.
    pub fn most_gib(&self) -> Option<f64> {
        self.denoise_gib.into_iter().chain(self.decode_gib).reduce(f64::max)
    }
}

/// How large the pictures of a data set are: the paper's Table 9 and Figure 13.
#[derive(Clone, Debug, Serialize)]
pub struct Sizes {
    /// Width of the histogram's bins in pixels.
    pub bin: u32,
    /// One for each set.
    pub rows: Vec<SizeRow>,
}

/// One set's sizes in pixels.
#[derive(Clone, Debug, Serialize)]
pub struct SizeRow {
    /// Index into [`super::Report::sources`].
    pub source: usize,
    /// How many pictures.
    pub n: usize,
    /// Median height, median width, mean height, mean width.
    pub centre: [f64; 4],
    /// How many pictures have a height in each bin, the first from 0.
    pub heights: Vec<usize>,
    /// The same of the width.
    pub widths: Vec<usize>,
}
