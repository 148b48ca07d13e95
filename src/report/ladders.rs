//! Does a metric order known damage rightly: sample by sample, then over samples.

use std::collections::{BTreeSet, HashMap};

use super::analysis::sign_of_goodness;
use super::view::{Column, ImageRow, Ladder, LadderResult, Line, RungRow, SourceRow, Verdict};
use crate::stats::bootstrap::Bootstrap;
use crate::stats::correlation::spearman;
use crate::stats::describe::mean;
use crate::stats::{Defined, Undefined};

/// How near to ±1 a rank correlation must be to be called perfect: rounding aside, exactly.
const PERFECT: f64 = 1.0 - 1e-9;

/// The ladders that the sources form, in the order of the sweep.
pub(super) fn ladders(
    sources: &[SourceRow],
    images: &[ImageRow],
    metrics: &[Column],
    bootstrap: &Bootstrap,
) -> Vec<Ladder> {
    let place: HashMap<(usize, &str), usize> =
        images.iter().enumerate().map(|(idx, it)| ((it.source, it.sample.as_str()), idx)).collect();
    let mut names: Vec<&str> = Vec::new();
    for rung in sources.iter().filter_map(|it| it.rung.as_ref()) {
        if !names.contains(&rung.ladder.as_str()) {
            names.push(&rung.ladder);
        }
    }
    names.into_iter().map(|name| ladder(name, sources, images, &place, metrics, bootstrap)).collect()
}

fn ladder(
    name: &str,
    sources: &[SourceRow],
    images: &[ImageRow],
    place: &HashMap<(usize, &str), usize>,
    metrics: &[Column],
    bootstrap: &Bootstrap,
) -> Ladder {
    let mut steps: Vec<(usize, &crate::store::findings::Rung)> = sources
        .iter()
        .enumerate()
        .filter_map(|(idx, it)| Some((idx, it.rung.as_ref().filter(|it| it.ladder == name)?)))
        .collect();
    steps.sort_by(|a, b| a.1.severity.total_cmp(&b.1.severity));
    let (_, first) = steps[0];
    let undamaged = sources.iter().position(|it| it.name == first.of && it.rung.is_none());

    // No damage is less than the least: only the order counts.
    let severities: Vec<f64> =
        undamaged.iter().map(|_| first.severity - 1.0).chain(steps.iter().map(|it| it.1.severity)).collect();
    let rungs: Vec<RungRow> = undamaged
        .iter()
        .map(|&source| RungRow { source, level: None })
        .chain(steps.iter().map(|(source, rung)| RungRow { source: *source, level: Some(rung.level) }))
        .collect();
    let samples: BTreeSet<&str> = images
        .iter()
        .filter(|image| steps.iter().any(|it| it.0 == image.source))
        .map(|it| it.sample.as_str())
        .collect();

    let results = metrics
        .iter()
        .enumerate()
        .map(|(metric, column)| {
            let lines = samples
                .iter()
                .map(|sample| {
                    let values: Vec<Option<f64>> =
                        rungs.iter().map(|rung| images[*place.get(&(rung.source, *sample))?].scores[metric]).collect();
                    Line { sample: (*sample).to_owned(), agreement: agreement(&severities, &values, column), values }
                })
                .collect();
            result(lines, rungs.len(), bootstrap)
        })
        .collect();
    Ladder {
        name: name.to_owned(),
        of: first.of.clone(),
        kind: first.kind.clone(),
        parameter: first.parameter.clone(),
        rungs,
        results,
    }
}

/// The rank correlation of severity with badness, over the rungs that have a score.
fn agreement(severities: &[f64], values: &[Option<f64>], column: &Column) -> Defined {
    let sign = sign_of_goodness(column.better.ok_or(Undefined::TooFew)?);
    let (severity, badness): (Vec<f64>, Vec<f64>) =
        severities.iter().zip(values).filter_map(|(severity, it)| Some((*severity, -sign * (*it)?))).unzip();
    // Two points are always in perfect order, one way or the other.
    if severity.len() < 3 { Err(Undefined::TooFew) } else { spearman(&severity, &badness) }
}

fn result(lines: Vec<Line>, n_rungs: usize, bootstrap: &Bootstrap) -> LadderResult {
    let agreements: Vec<f64> = lines.iter().filter_map(|it| it.agreement.ok()).collect();
    let interval = bootstrap.percentile(agreements.len(), |drawn| {
        Some(drawn.iter().map(|&it| agreements[it]).sum::<f64>() / drawn.len() as f64)
    });
    let means =
        (0..n_rungs).map(|rung| mean(&lines.iter().filter_map(|it| it.values[rung]).collect::<Vec<_>>())).collect();
    LadderResult {
        means,
        agreement: match mean(&agreements) {
            Err(_) => Err(lines.iter().find_map(|it| it.agreement.err()).unwrap_or(Undefined::TooFew)),
            defined => defined,
        },
        interval,
        n: agreements.len(),
        n_perfect: agreements.iter().filter(|it| **it > PERFECT).count(),
        n_reversed: agreements.iter().filter(|it| **it < -PERFECT).count(),
        verdict: match interval {
            Some(it) if it.low > 0.0 => Verdict::Right,
            Some(it) if it.high < 0.0 => Verdict::Wrong,
            Some(_) => Verdict::Unclear,
            None => Verdict::Undefined,
        },
        lines,
    }
}
