//! Models compared two by two: paired by sample and seed, with Holm's adjustment over everything that is shown.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::view::{Column, Entrant, ImageRow, PairComparison, SourceRow};
use crate::stats::bootstrap::Bootstrap;
use crate::stats::family::holm;
use crate::stats::paired::{Comparison, Pairs, compare_all};
use crate::store::findings::Making;

/// Beyond so many models each is compared with the first alone.
const MOST_MUTUAL: usize = 6;
/// So many values are drawn for one interval at most.
const MOST_DRAWN: usize = 8_000_000;
const LEAST_RESAMPLES: usize = 400;

/// The scores of an entrant by sample and seed.
pub(super) type Scores<'a> = BTreeMap<(&'a str, Option<u64>), f64>;

/// Every two models by every main metric that both have.
pub(super) fn comparisons(
    entrants: &[Entrant],
    sources: &[SourceRow],
    images: &[ImageRow],
    metrics: &[Column],
    bootstrap: &Bootstrap,
) -> Vec<PairComparison> {
    let pairs = pairs(entrants);
    let main: Vec<usize> = (0..metrics.len()).filter(|it| metrics[*it].main).collect();
    let paired: Vec<Paired> = main
        .into_par_iter()
        .flat_map_iter(|metric| {
            let scores: Vec<Scores> = entrants.iter().map(|it| scores(it, sources, images, metric)).collect();
            let of_metric = pairs.iter().filter_map(|&(first, second)| {
                let (by_seed, pairs) = paired(&scores[first], &scores[second])?;
                Some(Paired { first, second, metric, by_seed, pairs })
            });
            of_metric.collect::<Vec<_>>()
        })
        .collect();
    let compared = compared(&paired, bootstrap);
    let with = paired.into_iter().zip(compared).map(|(it, comparison)| {
        let Paired { first, second, metric, by_seed, .. } = it;
        PairComparison { first, second, metric, by_seed, comparison, p_holm: None }
    });
    let mut found: Vec<PairComparison> = with.collect();
    let p: Vec<f64> = found.iter().filter_map(|it| Some(it.comparison.wilcoxon.as_ref().ok()?.p)).collect();
    let mut adjusted = holm(&p).into_iter();
    for it in &mut found {
        it.p_holm = it.comparison.wilcoxon.is_ok().then(|| adjusted.next()).flatten();
    }
    found
}

/// Which models are compared: each with each, or where they are many the first with each.
pub(super) fn pairs(entrants: &[Entrant]) -> Vec<(usize, usize)> {
    let models: Vec<usize> = (0..entrants.len()).filter(|it| entrants[*it].model.is_some()).collect();
    let mut pairs = Vec::new();
    for (idx, first) in models.iter().enumerate() {
        if idx == 0 || models.len() <= MOST_MUTUAL {
            pairs.extend(models[idx + 1..].iter().map(|second| (*first, *second)));
        }
    }
    pairs
}

/// An entrant's scores by a metric.
pub(super) fn scores<'a>(
    entrant: &Entrant,
    sources: &[SourceRow],
    images: &'a [ImageRow],
    metric: usize,
) -> Scores<'a> {
    let seed = |source: usize| match sources[source].making {
        Some(Making::Generated { seed, .. }) => Some(seed),
        _ => None,
    };
    let own = images.iter().filter(|it| entrant.sources.contains(&it.source));
    own.filter_map(|it| Some(((it.sample.as_str(), seed(it.source)), it.scores[metric]?))).collect()
}

/// Two models by one metric.
struct Paired {
    first: usize,
    second: usize,
    metric: usize,
    by_seed: bool,
    pairs: Pairs,
}

/// Equally many pairs are compared together.
fn compared(paired: &[Paired], bootstrap: &Bootstrap) -> Vec<Comparison> {
    let mut by_resamples: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (idx, it) in paired.iter().enumerate() {
        let n_most = (MOST_DRAWN / it.pairs.differences.len()).max(LEAST_RESAMPLES);
        by_resamples.entry(bootstrap.n_resamples.min(n_most)).or_default().push(idx);
    }
    let mut found: Vec<Option<Comparison>> = vec![None; paired.len()];
    for (n_resamples, of_them) in by_resamples {
        let pairs: Vec<&Pairs> = of_them.iter().map(|it| &paired[*it].pairs).collect();
        let compared = compare_all(&pairs, &Bootstrap { n_resamples, ..*bootstrap });
        of_them.into_iter().zip(compared).for_each(|(idx, it)| found[idx] = Some(it));
    }
    found.into_iter().map(|it| it.expect("each was compared")).collect()
}

/// Whether they are paired seed by seed, and the differences; none where nothing pairs.
fn paired(a: &Scores, b: &Scores) -> Option<(bool, Pairs)> {
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
    let mut pairs = Pairs::default();
    for of_sample in by_sample.into_values() {
        let first = pairs.differences.len();
        pairs.clusters.push((first..first + of_sample.len()).collect());
        pairs.differences.extend(of_sample);
    }
    (!pairs.differences.is_empty()).then_some((by_seed, pairs))
}

/// The mean over the seeds of each sample.
pub(super) fn means<'a>(scores: &Scores<'a>) -> BTreeMap<&'a str, f64> {
    let mut sums: BTreeMap<&str, (f64, usize)> = BTreeMap::new();
    for ((sample, _), score) in scores {
        let (sum, n) = sums.entry(sample).or_default();
        (*sum, *n) = (*sum + score, *n + 1);
    }
    sums.into_iter().map(|(sample, (sum, n))| (sample, sum / n as f64)).collect()
}
