//! Scores of whole sets, and what chance may have had to do with them: a set's pictures are drawn again, and the set is scored
//! anew from what is stored of each.

use std::collections::{BTreeMap, HashSet};

use rayon::prelude::*;

use super::analysis::columns;
use super::view::{Column, ImageRow, SetCell, SetColumn};
use crate::job::task::MetricId;
use crate::metrics::{self, Metric, PoolItem};
use crate::stats::Interval;
use crate::stats::bootstrap::{Bootstrap, MIN_UNITS};
use crate::stats::describe::mean;
use crate::store::findings::Findings;

/// How far a set score may be from what its pictures' scores come to: what rounding makes of one.
const ROUNDING: f64 = 1e-9;

/// The set scores of all sources, with intervals where a set's score follows from the stored scores of its pictures.
pub(super) fn set_scores(
    findings: &Findings,
    images: &[ImageRow],
    metrics: &[Column],
    bootstrap: &Bootstrap,
) -> Vec<SetColumn> {
    let drawn = Sets { images, metrics, bootstrap };
    columns(findings.set_scores.iter().map(|it| &it.metric))
        .into_iter()
        .map(|column| SetColumn {
            cells: (0..findings.sources.len())
                .into_par_iter()
                .map(|source| {
                    let score = findings.set_scores.iter().find(|it| it.source == source && it.metric == column.id)?;
                    let value = score.value.filter(|it| it.is_finite());
                    let cell = SetCell { value, why: score.why.clone(), n: score.n, interval: None, no_interval: None };
                    Some(drawn.with_interval(cell, &column.id, &[(source, score.n)]))
                })
                .collect(),
            id: column.id,
            label: column.label,
            unit: column.unit,
            better: column.better,
        })
        .collect()
}

/// What sets are drawn from.
pub(super) struct Sets<'a> {
    pub(super) images: &'a [ImageRow],
    pub(super) metrics: &'a [Column],
    pub(super) bootstrap: &'a Bootstrap,
}

impl Sets<'_> {
    /// The mean of the set scores of sources that differ in their seed alone; none where one of them has no score.
    pub(super) fn of_seeds(&self, column: &SetColumn, sources: &[usize]) -> Option<SetCell> {
        let cells: Vec<&SetCell> = sources.iter().filter_map(|it| column.cells[*it].as_ref()).collect();
        if let [only] = cells.as_slice()
            && sources.len() == 1
        {
            return Some((*only).clone());
        }
        let [first, ..] = cells.as_slice() else { return None };
        let values: Vec<f64> = cells.iter().filter_map(|it| it.value).collect();
        let why = cells.iter().find_map(|it| it.why.clone());
        // A mean over some of the seeds would be compared with means over all.
        let value = (values.len() == sources.len()).then(|| mean(&values).ok()).flatten();
        let why = if value.is_some() { None } else { why };
        let cell = SetCell { why, value, n: first.n, interval: None, no_interval: None };
        let counts = sources.iter().zip(&cells).map(|(source, it)| (*source, it.n)).collect::<Vec<_>>();
        Some(self.with_interval(cell, &column.id, if value.is_some() { &counts } else { &[] }))
    }

    /// A cell with the interval of its value, the mean over `sources`, of which each was scored over so many pictures.
    fn with_interval(&self, cell: SetCell, id: &MetricId, sources: &[(usize, u64)]) -> SetCell {
        let Some(value) = cell.value else { return cell };
        match self.interval(value, id, sources) {
            Ok(interval) => SetCell { interval: Some(interval), ..cell },
            Err(why) => SetCell { no_interval: Some(why.to_owned()), ..cell },
        }
    }

    /// Samples are drawn with all their pictures: those of several seeds are not independent.
    fn interval(&self, value: f64, id: &MetricId, sources: &[(usize, u64)]) -> Result<Interval, &'static str> {
        let metric =
            metrics::find(id).filter(|it| it.pooled).ok_or("it is no function of its pictures' stored scores")?;
        let column = self.metrics.iter().position(|it| it.id == *id).ok_or("its pictures' scores are not stored")?;
        // Of each sample, its pictures: one at most of each source.
        let mut samples: BTreeMap<&str, Vec<Option<PoolItem>>> = BTreeMap::new();
        for (place, (source, n)) in sources.iter().enumerate() {
            let mut seen = HashSet::new();
            for it in self.images.iter().filter(|it| it.source == *source) {
                // A picture that a set has twice was counted once.
                if let (Some((width, height)), Some(value)) = (it.size, it.scores[column])
                    && seen.insert(it.key)
                {
                    let of_sample = samples.entry(&it.sample).or_insert_with(|| vec![None; sources.len()]);
                    of_sample[place] = Some(PoolItem { width, height, value });
                }
            }
            if seen.len() as u64 != *n {
                return Err("other pictures have scores now than when it was computed");
            }
        }
        let samples: Vec<Vec<Option<PoolItem>>> = samples.into_values().collect();
        let all: Vec<usize> = (0..samples.len()).collect();
        let again = pooled(metric, &samples, &all).ok_or("it is no function of its pictures' stored scores")?;
        if (again - value).abs() > ROUNDING * value.abs() {
            return Err("its pictures have other scores now than when it was computed");
        }
        if samples.len() < MIN_UNITS {
            return Err("too few pictures");
        }
        let drawn = self.bootstrap.percentile(samples.len(), |drawn| pooled(metric, &samples, drawn));
        drawn.ok_or("most drawn sets have no score")
    }
}

/// The mean over sources of each one's score over the drawn samples; none where one of them has none.
fn pooled(metric: &Metric, samples: &[Vec<Option<PoolItem>>], drawn: &[usize]) -> Option<f64> {
    let n_sources = samples.first()?.len();
    let of_source = |place: usize| {
        let items: Vec<PoolItem> = drawn.iter().filter_map(|it| samples[*it][place]).collect();
        metrics::pool(metric, &items)
    };
    let sum: f64 = (0..n_sources).map(of_source).sum::<Option<f64>>()?;
    Some(sum / n_sources as f64)
}
