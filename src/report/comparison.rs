//! Models compared two by two: paired by sample and seed, with Holm's adjustment over everything that is shown.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::view::{Column, Entrant, ImageRow, PairComparison, SourceRow};
use crate::stats::bootstrap::Bootstrap;
use crate::stats::family::holm;
use crate::stats::paired::compare;
use crate::store::findings::Making;

/// Beyond so many models each is compared with the first alone.
const MOST_MUTUAL: usize = 6;
/// So many values are drawn for one interval at most.
const MOST_DRAWN: usize = 8_000_000;
const LEAST_RESAMPLES: usize = 400;

/// The scores of an entrant by sample and seed.
type Scores<'a> = BTreeMap<(&'a str, Option<u64>), f64>;

/// Every two models by every main metric that both have.
pub(super) fn comparisons(
    entrants: &[Entrant],
    sources: &[SourceRow],
    images: &[ImageRow],
    metrics: &[Column],
    bootstrap: &Bootstrap,
) -> Vec<PairComparison> {
    let models: Vec<usize> = (0..entrants.len()).filter(|it| entrants[*it].model.is_some()).collect();
    let mut pairs = Vec::new();
    for (idx, first) in models.iter().enumerate() {
        if idx == 0 || models.len() <= MOST_MUTUAL {
            pairs.extend(models[idx + 1..].iter().map(|second| (*first, *second)));
        }
    }
    let main: Vec<usize> = (0..metrics.len()).filter(|it| metrics[*it].main).collect();
    let mut found: Vec<PairComparison> = main
        .into_par_iter()
        .flat_map_iter(|metric| {
            let scores: Vec<Scores> = entrants.iter().map(|it| scores(it, sources, images, metric)).collect();
            let compared = pairs.iter().filter_map(|&(first, second)| {
                compared(first, second, metric, (&scores[first], &scores[second]), bootstrap)
            });
            compared.collect::<Vec<_>>()
        })
        .collect();
    let p: Vec<f64> = found.iter().filter_map(|it| Some(it.comparison.wilcoxon.as_ref().ok()?.p)).collect();
    let mut adjusted = holm(&p).into_iter();
    for it in &mut found {
        it.p_holm = it.comparison.wilcoxon.is_ok().then(|| adjusted.next()).flatten();
    }
    found
}

fn scores<'a>(entrant: &Entrant, sources: &[SourceRow], images: &'a [ImageRow], metric: usize) -> Scores<'a> {
    let seed = |source: usize| match sources[source].making {
        Some(Making::Generated { seed, .. }) => Some(seed),
        _ => None,
    };
    let own = images.iter().filter(|it| entrant.sources.contains(&it.source));
    own.filter_map(|it| Some(((it.sample.as_str(), seed(it.source)), it.scores[metric]?))).collect()
}

fn compared(
    first: usize,
    second: usize,
    metric: usize,
    (a, b): (&Scores, &Scores),
    bootstrap: &Bootstrap,
) -> Option<PairComparison> {
    let by_seed = a.keys().any(|it| it.1.is_some() && b.contains_key(it));
    let mut by_sample: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    if by_seed {
        for (key, score) in a {
            if let Some(other) = b.get(key) {
                by_sample.entry(key.0).or_default().push(score - other);
            }
        }
    } else {
        let (a, b) = (means(a), means(b));
        for (sample, score) in a {
            if let Some(other) = b.get(sample) {
                by_sample.entry(sample).or_default().push(score - other);
            }
        }
    }
    let mut differences = Vec::new();
    let mut clusters = Vec::new();
    for of_sample in by_sample.into_values() {
        clusters.push((differences.len()..differences.len() + of_sample.len()).collect());
        differences.extend(of_sample);
    }
    if differences.is_empty() {
        return None;
    }
    let n_resamples = bootstrap.n_resamples.min((MOST_DRAWN / differences.len()).max(LEAST_RESAMPLES));
    let comparison = compare(&differences, &clusters, &Bootstrap { n_resamples, ..*bootstrap });
    Some(PairComparison { first, second, metric, by_seed, comparison, p_holm: None })
}

/// The mean over the seeds of each sample.
fn means<'a>(scores: &Scores<'a>) -> BTreeMap<&'a str, f64> {
    let mut sums: BTreeMap<&str, (f64, usize)> = BTreeMap::new();
    for ((sample, _), score) in scores {
        let (sum, n) = sums.entry(sample).or_default();
        (*sum, *n) = (*sum + score, *n + 1);
    }
    sums.into_iter().map(|(sample, (sum, n))| (sample, sum / n as f64)).collect()
}
