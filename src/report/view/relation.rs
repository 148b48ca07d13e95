//! Two metrics against each other.

use serde::Serialize;

use crate::stats::{Interval, Undefined};

/// Two metrics against each other, image by image.
#[derive(Clone, Debug, Serialize)]
pub struct Relation {
    /// The horizontal one: index into [`super::Report::metrics`].
    pub x: usize,
    /// The vertical one.
    pub y: usize,
    /// The images that have both.
    pub points: Vec<Point>,
    /// The line through all points that has the least squares.
    pub fit: Option<Fit>,
    /// Over all images first, then family by family.
    pub rows: Vec<RelationRow>,
}

/// A straight line through points.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Fit {
    /// By how much y rises where x rises by 1.
    pub slope: f64,
    /// y where x is 0.
    pub intercept: f64,
    /// The slope's interval, percentile bootstrap over samples.
    pub interval: Option<Interval>,
}

/// One image with both scores.
#[derive(Clone, Debug, Serialize)]
pub struct Point {
    /// Index into [`super::Report::sources`].
    pub source: usize,
    /// The sample.
    pub sample: String,
    /// Its horizontal score.
    pub x: f64,
    /// Its vertical score.
    pub y: f64,
}

/// How two metrics go together over some images.
#[derive(Clone, Debug, Serialize)]
pub struct RelationRow {
    /// Over which.
    pub over: String,
    /// Which family's colour they have; none for all.
    pub family: Option<usize>,
    /// How many images.
    pub n: usize,
    /// From how many samples.
    pub n_samples: usize,
    /// Pearson's r.
    pub pearson: Correlation,
    /// Spearman's ρ.
    pub spearman: Correlation,
    /// Kendall's τ-b.
    pub kendall: Correlation,
}

/// A coefficient and its interval.
#[derive(Clone, Debug, Serialize)]
pub struct Correlation {
    /// The coefficient.
    pub value: Result<f64, Undefined>,
    /// Its interval.
    pub interval: Option<Interval>,
    /// How the interval was made.
    pub how: How,
}

/// How an interval was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// Fisher's transformation.
    Fisher,
    /// Percentile bootstrap over samples, all of whose images are drawn together.
    Clustered,
}
