//! The metrics as a table: what each is called, what it needs and which way is better.

use crate::job::task::MetricId;

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
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// Higher is better.
    Higher,
    /// Lower is better.
    Lower,
}

/// One row of the table.
#[derive(Debug)]
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
    /// Whether a set has a score of its own beside the mean (a pooled ratio, say).
    pub pooled: bool,
}

impl Metric {
    /// Its name in tasks and tables.
    pub fn id(&self) -> MetricId {
        MetricId { metric: self.name.to_owned(), variant: self.variant.to_owned(), version: self.version }
    }
}

/// Every metric there is.
pub const TABLE: &[Metric] = &[];
