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
    /// Its interval; none for scores of whole sets.
    pub interval: Option<Interval>,
    /// Whether it is of the set as a whole rather than a mean.
    pub of_set: bool,
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
