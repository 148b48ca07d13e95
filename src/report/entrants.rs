//! Models against each other: seeds taken together, standings with intervals, and tiers of what cannot be told apart.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};

use rayon::prelude::*;

use super::analysis::sign_of_goodness;
use super::sets::Sets;
use super::view::{Column, Entrant, ImageRow, Lead, SetColumn, SourceRow, Standing};
use crate::stats::Interval;
use crate::stats::bootstrap::{Bootstrap, LANES};
use crate::stats::correlation::ranks;
use crate::stats::describe::mean;
use crate::store::findings::Making;

/// The entrants in the order of their mean rank, those of no model last; none where no source has a model.
pub(super) fn entrants(sources: &[SourceRow], set_scores: &[SetColumn], sets: &Sets) -> (Vec<Entrant>, Vec<Lead>) {
    let Sets { images, metrics, bootstrap } = *sets;
    let mut entrants = grouped(sources, images);
    if entrants.iter().all(|it| it.model.is_none()) {
        return (Vec::new(), Vec::new());
    }
    let mut of_entrant = vec![Vec::new(); sources.len()];
    for (entrant, it) in entrants.iter().enumerate() {
        it.sources.iter().for_each(|source| of_entrant[*source].push(entrant));
    }
    let columns: Vec<(Vec<Standing>, Option<Lead>)> = (0..metrics.len())
        .into_par_iter()
        .map(|metric| {
            let values = by_sample(metric, images, &of_entrant, entrants.len());
            standings(metric, &values, &entrants, sources, &metrics[metric], bootstrap)
        })
        .collect();
    let mut leads = Vec::new();
    for (metric, (of_metric, lead)) in columns.into_iter().enumerate() {
        for (entrant, standing) in entrants.iter_mut().zip(of_metric) {
            entrant.standings.push(standing);
        }
        leads.extend(lead.filter(|_| metrics[metric].main));
    }
    entrants.par_iter_mut().for_each(|it| {
        it.set = set_scores.iter().map(|column| sets.of_seeds(column, &it.sources)).collect();
    });
    rank(&mut entrants, metrics);
    let mut order: Vec<usize> = (0..entrants.len()).collect();
    let key = |it: &Entrant| (it.model.is_none(), it.mean_rank.unwrap_or(f64::INFINITY));
    order.sort_by(|&a, &b| {
        let (a, b) = (key(&entrants[a]), key(&entrants[b]));
        a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
    });
    let mut place = vec![0; order.len()];
    order.iter().enumerate().for_each(|(new, old)| place[*old] = new);
    for it in &mut leads {
        (it.first, it.second) = (place[it.first], place[it.second]);
    }
    (order.into_iter().map(|it| entrants[it].clone()).collect(), leads)
}

/// Sources that differ in the seed alone are one; rungs and reconstructions are none.
fn grouped(sources: &[SourceRow], images: &[ImageRow]) -> Vec<Entrant> {
    // Of each source: nothing known, one size, or several. Pictures that are yet to be made have none.
    let mut sizes: Vec<Option<Option<(u32, u32)>>> = vec![None; sources.len()];
    for it in images.iter().filter(|it| it.size.is_some()) {
        let size = &mut sizes[it.source];
        *size = Some(size.map_or(it.size, |of_others| of_others.filter(|_| of_others == it.size)));
    }
    let mut entrants: Vec<Entrant> = Vec::new();
    let is_made = |it: &SourceRow| matches!(it.making, Some(Making::Reconstructed { .. }));
    for (idx, source) in sources.iter().enumerate().filter(|(_, it)| it.rung.is_none() && !is_made(it)) {
        let name = less_the_seed(&source.name, source.making.as_ref());
        let size = sizes[idx].flatten();
        match entrants.iter_mut().find(|it| it.name == name && it.model == source.model) {
            Some(it) => {
                it.size = it.size.filter(|_| it.size == size);
                it.sources.push(idx);
                it.n_images += source.n_images;
            }
            None => entrants.push(Entrant {
                name: name.to_owned(),
                model: source.model.clone(),
                size,
                sources: vec![idx],
                family: source.family,
                n_images: source.n_images,
                standings: Vec::new(),
                set: Vec::new(),
                mean_rank: None,
            }),
        }
    }
    entrants
}

/// A source's name without ` seed=N`, which ends it where seeds are an axis.
pub(super) fn less_the_seed<'a>(name: &'a str, making: Option<&Making>) -> &'a str {
    let Some(Making::Generated { seed, .. }) = making else { return name };
    name.strip_suffix(&format!(" seed={seed}")).unwrap_or(name)
}

/// Of each entrant: the mean score of each sample.
fn by_sample<'a>(
    metric: usize,
    images: &'a [ImageRow],
    of_entrant: &[Vec<usize>],
    n_entrants: usize,
) -> Vec<BTreeMap<&'a str, f64>> {
    let mut sums: Vec<HashMap<&str, (f64, usize)>> = vec![HashMap::new(); n_entrants];
    for image in images {
        let Some(value) = image.scores[metric] else { continue };
        for &entrant in &of_entrant[image.source] {
            let sum = sums[entrant].entry(&image.sample).or_default();
            *sum = (sum.0 + value, sum.1 + 1);
        }
    }
    let means = |sums: HashMap<&'a str, (f64, usize)>| {
        sums.into_iter().map(|(sample, (sum, n))| (sample, sum / n as f64)).collect()
    };
    sums.into_iter().map(means).collect()
}

fn standings(
    metric: usize,
    values: &[BTreeMap<&str, f64>],
    entrants: &[Entrant],
    sources: &[SourceRow],
    column: &Column,
    bootstrap: &Bootstrap,
) -> (Vec<Standing>, Option<Lead>) {
    let all: Vec<Vec<f64>> = values.iter().map(|it| it.values().copied().collect()).collect();
    // What the table of sources says of the same images is said here too.
    let alike = |idx: usize| match entrants[idx].sources.as_slice() {
        [source] => Some(&sources[*source].cells[metric]).filter(|it| it.n == all[idx].len()),
        _ => None,
    };
    let drawn: Vec<&[f64]> = (0..all.len()).filter(|it| alike(*it).is_none()).map(|it| all[it].as_slice()).collect();
    let mut intervals = bootstrap.bca_of_means(&drawn).into_iter();
    let mut standings: Vec<Standing> = (0..all.len())
        .map(|idx| match alike(idx) {
            Some(cell) => Standing { n: cell.n, mean: cell.mean, interval: cell.interval, tier: None },
            None => {
                let interval = intervals.next().flatten();
                Standing { n: all[idx].len(), mean: mean(&all[idx]), interval, tier: None }
            }
        })
        .collect();
    let Some(sign) = column.better.map(sign_of_goodness) else { return (standings, None) };
    let goodness = |it: &Standing| it.mean.map_or(f64::NEG_INFINITY, |it| sign * it);
    let mut order: Vec<usize> =
        (0..entrants.len()).filter(|&it| entrants[it].model.is_some() && standings[it].mean.is_ok()).collect();
    order.sort_by(|&a, &b| goodness(&standings[b]).partial_cmp(&goodness(&standings[a])).unwrap_or(Ordering::Equal));

    // Bonferroni: whoever leads a tier is compared with at most all the others.
    let level = 1.0 - (1.0 - bootstrap.level) / (order.len().max(2) - 1) as f64;
    let bootstrap = Bootstrap { level, ..*bootstrap };
    let mut lead = None;
    let (mut tier, mut rest) = (1, order.as_slice());
    while let Some((&head, others)) = rest.split_first() {
        standings[head].tier = Some(tier);
        let mut n_alike = 0;
        // Those that are compared with one head share their draws.
        'of_head: for some in others.chunks(LANES) {
            let differences: Vec<Vec<f64>> = some.iter().map(|it| differences(&values[head], &values[*it])).collect();
            let columns: Vec<&[f64]> = differences.iter().map(Vec::as_slice).collect();
            let intervals = bootstrap.percentile_of_means(&columns);
            lead.get_or_insert_with(|| (mean(columns[0]).ok(), intervals[0], columns[0].len()));
            for ((&it, interval), differences) in some.iter().zip(intervals).zip(&differences) {
                let in_pairs = (!differences.is_empty()).then_some(interval);
                if is_beyond_chance(in_pairs, &standings[head], &standings[it], sign) {
                    break 'of_head;
                }
                standings[it].tier = Some(tier);
                n_alike += 1;
            }
        }
        (tier, rest) = (tier + 1, &others[n_alike..]);
    }
    let n_tied = order.iter().filter(|it| standings[**it].tier == Some(1)).count();
    let lead = match (order.as_slice(), lead) {
        (&[first, second, ..], Some((difference, interval, n))) => {
            Some(Lead { metric, first, second, difference, interval, n, n_tied })
        }
        _ => None,
    };
    (standings, lead)
}

/// Over the samples that both have, in the order of their names.
fn differences(a: &BTreeMap<&str, f64>, b: &BTreeMap<&str, f64>) -> Vec<f64> {
    a.iter().filter_map(|(sample, a)| Some(a - b.get(sample)?)).collect()
}

/// Whether `a` is better than `b` by more than chance: in pairs where they have samples in common, by the interval of
/// the differences, else by intervals that do not touch.
fn is_beyond_chance(in_pairs: Option<Option<Interval>>, a: &Standing, b: &Standing, sign: f64) -> bool {
    if let Some(of_difference) = in_pairs {
        return of_difference.is_some_and(|it| if sign > 0.0 { it.low > 0.0 } else { it.high < 0.0 });
    }
    let apart = |a: &Interval, b: &Interval| if sign > 0.0 { a.low > b.high } else { a.high < b.low };
    a.interval.zip(b.interval).is_some_and(|(a, b)| apart(&a, &b))
}

/// Mean ranks by the main metrics, over those who have them all.
fn rank(entrants: &mut [Entrant], metrics: &[Column]) {
    let ranked: Vec<usize> = (0..entrants.len()).filter(|&it| entrants[it].model.is_some()).collect();
    let mut sums = vec![(0.0, 0_usize); ranked.len()];
    let mut n_metrics = 0;
    for (metric, column) in metrics.iter().enumerate().filter(|(_, it)| it.main) {
        let Some(sign) = column.better.map(sign_of_goodness) else { continue };
        let badness: Vec<Option<f64>> =
            ranked.iter().map(|&it| Some(-sign * entrants[it].standings[metric].mean.ok()?)).collect();
        if badness.iter().all(Option::is_none) {
            continue;
        }
        n_metrics += 1;
        let with: Vec<f64> = badness.iter().copied().flatten().collect();
        let mut places = ranks(&with).into_iter();
        for (sum, _) in sums.iter_mut().zip(&badness).filter(|(_, it)| it.is_some()) {
            *sum = (sum.0 + places.next().unwrap_or_default(), sum.1 + 1);
        }
    }
    for (&idx, (sum, n)) in ranked.iter().zip(sums) {
        // Who lacks a metric is not ranked over the others: the mean would be of another contest.
        entrants[idx].mean_rank = (n > 0 && n == n_metrics).then(|| sum / n as f64);
    }
}
