//! Models that have no sample in common: the means of their whole sets, and how far apart these are.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::comparison::{Scores, means, pairs, scores};
use super::view::{Column, Entrant, ImageRow, SourceRow, Unpaired};
use crate::stats::bootstrap::{Bootstrap, MIN_UNITS};
use crate::stats::dependent::bootstrap_difference;
use crate::stats::describe::mean;
use crate::stats::family::holm;

/// So many values are drawn for one interval at most.
const MOST_DRAWN: usize = 8_000_000;
const LEAST_RESAMPLES: usize = 400;

/// Every two models by every main metric that both have, where nothing pairs their pictures: a sample counts once, with the mean of
/// its seeds, and each set is drawn for itself.
pub(super) fn unpaired(
    entrants: &[Entrant],
    sources: &[SourceRow],
    images: &[ImageRow],
    metrics: &[Column],
    bootstrap: &Bootstrap,
) -> Vec<Unpaired> {
    let pairs = pairs(entrants);
    let main: Vec<usize> = (0..metrics.len()).filter(|it| metrics[*it].main).collect();
    let mut found: Vec<Unpaired> = main
        .into_par_iter()
        .flat_map_iter(|metric| {
            let scores: Vec<Scores> = entrants.iter().map(|it| scores(it, sources, images, metric)).collect();
            let sets: Vec<BTreeMap<&str, f64>> = scores.iter().map(means).collect();
            let of_metric = pairs.iter().filter_map(|&(first, second)| {
                let (a, b) = (&sets[first], &sets[second]);
                let is_paired = a.keys().any(|it| b.contains_key(it));
                if is_paired || a.is_empty() || b.is_empty() {
                    return None;
                }
                let (a, b): (Vec<f64>, Vec<f64>) = (a.values().copied().collect(), b.values().copied().collect());
                compared(&a, &b, bootstrap).map(|it| Unpaired { first, second, metric, ..it })
            });
            of_metric.collect::<Vec<_>>()
        })
        .collect();
    let p: Vec<f64> = found.iter().filter_map(|it| it.p).collect();
    let mut adjusted = holm(&p).into_iter();
    for it in &mut found {
        it.p_holm = it.p.and_then(|_| adjusted.next());
    }
    found
}

fn compared(a: &[f64], b: &[f64], bootstrap: &Bootstrap) -> Option<Unpaired> {
    let means = [mean(a).ok()?, mean(b).ok()?];
    let n_most = (MOST_DRAWN / (a.len() + b.len())).max(LEAST_RESAMPLES);
    let bootstrap = Bootstrap { n_resamples: bootstrap.n_resamples.min(n_most), ..*bootstrap };
    let drawn = (a.len().min(b.len()) >= MIN_UNITS).then(|| {
        let of = |units: &[usize], value: &dyn Fn(usize) -> f64| {
            units.iter().map(|it| value(*it)).sum::<f64>() / units.len() as f64
        };
        let differences = bootstrap.replicates(&[a.len(), b.len()], |drawn| {
            let (first, second) = drawn.split_at(a.len());
            Some(of(first, &|it| a[it]) - of(second, &|it| b[it - a.len()]))
        });
        bootstrap_difference(&bootstrap, differences)
    });
    let (interval, p) = drawn.flatten().unzip();
    Some(Unpaired {
        first: 0,
        second: 0,
        metric: 0,
        n: [a.len(), b.len()],
        means,
        difference: means[0] - means[1],
        interval,
        p,
        p_holm: None,
    })
}
