//! GLCM Score against compression ratio, image by image: the paper's Figure 2.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::analysis::family_name;
use super::view::{Column, Correlation, Fit, How, ImageRow, Point, Relation, RelationRow, SourceRow};
use crate::stats::Defined;
use crate::stats::bootstrap::{Bootstrap, MIN_UNITS};
use crate::stats::columns::Columns;
use crate::stats::correlation::{fisher_interval, kendall, pearson, spearman};

/// The most points that are drawn for one interval.
const MOST_DRAWN: usize = 4_000_000;
const LEAST_RESAMPLES: usize = 400;

/// The relation of the two metrics, where both have scores of at least three images.
pub(super) fn relation(
    sources: &[SourceRow],
    images: &[ImageRow],
    metrics: &[Column],
    bootstrap: &Bootstrap,
) -> Option<Relation> {
    let find = |name: &str| metrics.iter().position(|it| it.main && it.id.metric == name);
    let (x, y) = (find("compression_ratio")?, find("glcm_score")?);
    let points: Vec<Point> = images
        .iter()
        .filter_map(|it| {
            let (x, y) = it.scores[x].zip(it.scores[y])?;
            Some(Point { source: it.source, sample: it.sample.clone(), x, y })
        })
        .collect();
    if points.len() < 3 {
        return None;
    }

    // Those over all images first; each is drawn again and again, so all at the same time.
    let n_families = sources.iter().map(|it| it.family + 1).max().unwrap_or(0);
    let families = std::iter::once(None).chain((0..n_families).map(Some)).collect::<Vec<_>>();
    let of_family = |family: Option<usize>| {
        let of_family: Vec<&Point> =
            points.iter().filter(|it| family.is_none_or(|family| sources[it.source].family == family)).collect();
        let first = sources.iter().find(|it| Some(it.family) == family);
        let name = first.map_or("all images", |it| family_name(&it.name, it.rung.as_ref(), it.making.as_ref()));
        (!of_family.is_empty()).then(|| row(name, family, &of_family, bootstrap))
    };
    let rows: Vec<RelationRow> = families.into_par_iter().filter_map(of_family).collect();
    let fit = fit(&points, bootstrap);
    Some(Relation { x, y, points, fit, rows })
}

/// The line of least squares; none where x does not vary.
fn fit(points: &[Point], bootstrap: &Bootstrap) -> Option<Fit> {
    let line = |of: &mut dyn Iterator<Item = &Point>| -> Option<(f64, f64)> {
        let of: Vec<&Point> = of.collect();
        let n = of.len() as f64;
        let (x, y) = (of.iter().map(|it| it.x).sum::<f64>() / n, of.iter().map(|it| it.y).sum::<f64>() / n);
        let (products, squares) = of.iter().fold((0.0, 0.0), |(products, squares), it| {
            (products + (it.x - x) * (it.y - y), squares + (it.x - x) * (it.x - x))
        });
        (squares > 0.0).then(|| (products / squares, y - products / squares * x))
    };
    let (slope, intercept) = line(&mut points.iter())?;
    let clusters = clusters(points.iter());
    let interval =
        bootstrap.clustered(&clusters, |drawn| line(&mut drawn.iter().map(|it| &points[*it])).map(|it| it.0));
    Some(Fit { slope, intercept, interval })
}

/// Points of one sample are not independent: which belong together.
fn clusters<'a>(points: impl Iterator<Item = &'a Point>) -> Vec<Vec<usize>> {
    let mut by_sample: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (idx, it) in points.enumerate() {
        by_sample.entry(&it.sample).or_default().push(idx);
    }
    by_sample.into_values().collect()
}

fn row(over: &str, family: Option<usize>, points: &[&Point], bootstrap: &Bootstrap) -> RelationRow {
    let (x, y): (Vec<f64>, Vec<f64>) = points.iter().map(|it| (it.x, it.y)).unzip();
    let clusters = clusters(points.iter().copied());
    // The order of many points is known well enough from fewer draws.
    let n_resamples = bootstrap.n_resamples.min((MOST_DRAWN / points.len().max(1)).max(LEAST_RESAMPLES));
    let bootstrap = &Bootstrap { n_resamples, ..*bootstrap };
    let by_fisher = clusters.len() == points.len();
    // One drawing for all coefficients, of columns that are sorted once.
    let replicates: Vec<[Option<f64>; 3]> = match Columns::new(&x, &y) {
        Ok(columns) if clusters.len() >= MIN_UNITS => bootstrap.replicates(&[clusters.len()], |drawn| {
            let counts = columns.counts(drawn.iter().flat_map(|it| clusters[*it].iter().copied()));
            let pearson = if by_fisher { None } else { columns.pearson(&counts) };
            [pearson, columns.spearman(&counts), columns.kendall(&counts)]
        }),
        _ => Vec::new(),
    };
    let resampled = |which: usize, value: Defined| Correlation {
        value,
        interval: bootstrap.between_quantiles(replicates.iter().map(|it| it[which]).collect()),
        how: How::Clustered,
    };
    // Fisher's interval takes pairs for independent, which pictures of one photograph are not.
    let value = pearson(&x, &y);
    let pearson = if by_fisher {
        let interval = value.and_then(|it| fisher_interval(it, x.len(), bootstrap.level)).ok();
        Correlation { value, interval, how: How::Fisher }
    } else {
        resampled(0, value)
    };
    RelationRow {
        over: over.to_owned(),
        family,
        n: points.len(),
        n_samples: clusters.len(),
        pearson,
        spearman: resampled(1, spearman(&x, &y)),
        kendall: resampled(2, kendall(&x, &y)),
    }
}
