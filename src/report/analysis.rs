//! From findings to the plain value: who was scored how, and what is missing.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rayon::prelude::*;

use super::comparison::comparisons;
use super::efforts::efforts;
use super::entrants::{entrants, less_the_seed};
use super::opinions::{Scene, opinions};
use super::sets::{Sets, set_scores};
use super::sizes::sizes;
use super::unpaired::unpaired;
use super::view::{Caption, Cell, Column, Gap, ImageRow, Report, Run, Sample, SourceRow};
use super::{conclusions, format, ladders, paper, relation, training};
use crate::job::task::MetricId;
use crate::metrics::{Better, TABLE};
use crate::stats::bootstrap::Bootstrap;
use crate::stats::correlation::spearman;
use crate::stats::describe::{mean, quantile, sd};
use crate::store::findings::{Findings, Making, Rung, Score};

/// Everything that a report says of `findings`. Equal findings give an equal value.
pub fn analyse(findings: &Findings) -> Report {
    let bootstrap = Bootstrap::default();
    let metrics = columns(findings.scores.iter().map(|it| &it.metric));
    let scores = Scores::of(findings, &metrics);
    let images = images(findings, &scores, metrics.len());
    let sources = sources(findings, &images, &scores, metrics.len(), &bootstrap);
    let set_scores = set_scores(findings, &images, &metrics, &bootstrap);
    let sets = Sets { images: &images, metrics: &metrics, bootstrap: &bootstrap };
    let (entrants, leads) = entrants(&sources, &set_scores, &sets);
    let comparisons = comparisons(&entrants, &sources, &images, &metrics, &bootstrap);
    let unpaired = unpaired(&entrants, &sources, &images, &metrics, &bootstrap);
    let opinions = opinions(&Scene::new(findings, &sources, &entrants, &images, &metrics), &bootstrap);
    let efforts = efforts(findings, &entrants, &sources);
    let mut report = Report {
        run: run(findings),
        conclusions: Vec::new(),
        set_scores,
        entrants,
        leads,
        comparisons,
        unpaired,
        opinions,
        asked: findings.asked.clone(),
        paper: Vec::new(),
        efforts,
        sizes: sizes(findings, &sources, &images),
        samples: samples(&images, &metrics),
        gaps: gaps(findings, &images, &scores, metrics.len()),
        remarks: remarks(&images, &scores, metrics.len()),
        failures: findings.failures.clone(),
        ladders: ladders::ladders(&sources, &images, &metrics, &bootstrap),
        relation: relation::relation(&sources, &images, &metrics, &bootstrap),
        metrics,
        sources,
        images,
        bootstrap,
        trainings: training::trainings(findings),
        tuning: Default::default(),
        nights: None,
    };
    report.tuning = training::tuning(findings, &report);
    report.paper = paper::tables(&report);
    report.conclusions = conclusions::conclusions(&report);
    report
}

/// 1 for a metric of which more is better, −1 for the others: what turns a score into goodness.
pub(super) fn sign_of_goodness(better: Better) -> f64 {
    match better {
        Better::Higher => 1.0,
        Better::Lower => -1.0,
    }
}

fn run(findings: &Findings) -> Run {
    Run {
        sweep: findings.sweep.clone(),
        name: findings.name.clone(),
        definition: findings.definition.clone(),
        enqueued_at: findings.enqueued_at.clone(),
        read_at: findings.read_at.clone(),
        program: findings.program.clone(),
        machines: findings.machines.clone(),
        busy_seconds: findings.busy_seconds,
        jobs: findings.jobs.clone(),
    }
}

/// The metrics among `ids`, in the order of the table; those that it does not know come last.
pub(super) fn columns<'a>(ids: impl Iterator<Item = &'a MetricId>) -> Vec<Column> {
    let mut ids: Vec<&MetricId> = ids.collect::<BTreeSet<_>>().into_iter().collect();
    let row_of = |id: &MetricId| TABLE.iter().position(|it| it.id() == *id);
    ids.sort_by_key(|id| row_of(id).unwrap_or(usize::MAX));

    let mut seen = BTreeSet::new();
    ids.into_iter()
        .map(|id| {
            let row = row_of(id).map(|it| &TABLE[it]);
            let default = TABLE.iter().find(|it| it.name == id.metric);
            let is_default = default.is_some_and(|it| it.variant == id.variant);
            Column {
                id: id.clone(),
                label: format::metric_label(id, is_default),
                unit: row.map_or("", |it| it.unit).to_owned(),
                better: row.map(|it| it.better),
                about: row.map_or("This version of the program does not know it.", |it| it.about).to_owned(),
                main: seen.insert(id.metric.as_str()),
            }
        })
        .collect()
}

/// Scores by image and by index of the metric.
struct Scores<'a>(HashMap<(usize, usize), &'a Score>);

impl<'a> Scores<'a> {
    fn of(findings: &'a Findings, metrics: &[Column]) -> Self {
        let place: HashMap<&MetricId, usize> = metrics.iter().enumerate().map(|(idx, it)| (&it.id, idx)).collect();
        Self(findings.scores.iter().map(|it| ((it.image, place[&it.metric]), it)).collect())
    }

    /// The score's row, if it was computed at all.
    fn row(&self, image: usize, metric: usize) -> Option<&'a Score> {
        self.0.get(&(image, metric)).copied()
    }

    /// Its value: a value that is not finite counts as none.
    fn value(&self, image: usize, metric: usize) -> Option<f64> {
        self.row(image, metric)?.value.filter(|it| it.is_finite())
    }
}

fn images(findings: &Findings, scores: &Scores, n_metrics: usize) -> Vec<ImageRow> {
    let mut n_seen: HashMap<(usize, &str), usize> = HashMap::new();
    let mut captions: HashMap<usize, Vec<Caption>> = HashMap::new();
    for it in &findings.captions {
        captions.entry(it.image).or_default().push(Caption { by: it.by.clone(), text: it.text.clone() });
    }
    findings
        .images
        .iter()
        .enumerate()
        .map(|(idx, it)| {
            let n = n_seen.entry((it.source, &it.sample)).or_default();
            *n += 1;
            let sample = if *n == 1 { it.sample.clone() } else { format!("{} ({n})", it.sample) };
            let mut captions = captions.remove(&idx).unwrap_or_default();
            // Of a model's pictures that were made elsewhere, what the files say was asked for.
            let is_elsewhere = it.prompt.is_none() && findings.sources[it.source].model.is_some();
            let at = captions.iter().position(|it| is_elsewhere && it.by.is_none());
            let prompt = at.map(|at| captions.remove(at).text).or_else(|| it.prompt.clone());
            ImageRow {
                source: it.source,
                sample,
                size: it.size,
                key: it.key,
                content: it.content,
                prompt,
                captions,
                scores: (0..n_metrics).map(|metric| scores.value(idx, metric)).collect(),
            }
        })
        .collect()
}

fn sources(
    findings: &Findings,
    images: &[ImageRow],
    scores: &Scores,
    n_metrics: usize,
    bootstrap: &Bootstrap,
) -> Vec<SourceRow> {
    let mut families: Vec<&str> = Vec::new();
    let mut rows = Vec::new();
    let mut of_sources: Vec<Vec<usize>> = vec![Vec::new(); findings.sources.len()];
    images.iter().enumerate().for_each(|(idx, it)| of_sources[it.source].push(idx));
    let mut cells: Vec<Vec<Cell>> = of_sources
        .par_iter()
        .map(|it| (0..n_metrics).map(|metric| cell(it, images, scores, metric)).collect())
        .collect();
    // All together: what has equally many values shares its draws.
    let values: Vec<&[f64]> = cells.iter().flatten().map(|it| it.values.as_slice()).collect();
    let intervals = bootstrap.bca_of_means(&values);
    cells.iter_mut().flatten().zip(intervals).for_each(|(cell, interval)| cell.interval = interval);
    for ((source, of_source), cells) in findings.sources.iter().zip(&of_sources).zip(cells) {
        let family_name = family_name(&source.name, source.rung.as_ref(), source.making.as_ref());
        let family = families.iter().position(|it| *it == family_name).unwrap_or_else(|| {
            families.push(family_name);
            families.len() - 1
        });
        rows.push(SourceRow {
            name: source.name.clone(),
            model: source.model.clone(),
            rung: source.rung.clone(),
            making: source.making.clone(),
            n_truncated: matches!(source.making, Some(Making::Generated { .. }))
                .then(|| of_source.iter().filter(|&&it| findings.images[it].n_cut.iter().any(|n| *n > 0)).count()),
            family,
            n_images: of_source.len(),
            cells,
        });
    }
    rows
}

/// What sources of one colour have in common: the ladder, or the name less the seed.
pub(super) fn family_name<'a>(name: &'a str, rung: Option<&'a Rung>, making: Option<&Making>) -> &'a str {
    rung.map_or_else(|| less_the_seed(name, making), |it| &it.ladder)
}

/// All but the interval.
fn cell(of_source: &[usize], images: &[ImageRow], scores: &Scores, metric: usize) -> Cell {
    let values: Vec<f64> = of_source.iter().filter_map(|&it| images[it].scores[metric]).collect();
    let n_rows = of_source.iter().filter(|&&it| scores.row(it, metric).is_some()).count();
    let quartile = |p| quantile(&values, p).ok();
    Cell {
        n: values.len(),
        n_undefined: n_rows - values.len(),
        n_missing: of_source.len() - n_rows,
        mean: mean(&values),
        interval: None,
        sd: sd(&values),
        quartiles: quartile(0.25).zip(quartile(0.5)).zip(quartile(0.75)).map(|((a, b), c)| [a, b, c]),
        values,
    }
}

/// Samples in the order of the gallery.
fn samples(images: &[ImageRow], metrics: &[Column]) -> Vec<Sample> {
    let mut by_name: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (idx, it) in images.iter().enumerate() {
        by_name.entry(&it.sample).or_default().push(idx);
    }
    let mut samples: Vec<Sample> = by_name
        .into_iter()
        .map(|(name, mut of_sample)| {
            of_sample.sort_by_key(|&it| images[it].source);
            Sample { name: name.to_owned(), disagreement: disagreement(&of_sample, images, metrics), images: of_sample }
        })
        .collect();
    let key = |it: &Sample| it.disagreement.unwrap_or(f64::NEG_INFINITY);
    samples.sort_by(|a, b| key(b).total_cmp(&key(a)).then(a.name.cmp(&b.name)));
    samples
}

/// How differently the main metrics order a sample's images: 1 − the mean of their rank correlations.
fn disagreement(of_sample: &[usize], images: &[ImageRow], metrics: &[Column]) -> Option<f64> {
    let goodness: Vec<Vec<Option<f64>>> = metrics
        .iter()
        .enumerate()
        .filter(|(_, it)| it.main)
        .filter_map(|(metric, it)| Some((metric, sign_of_goodness(it.better?))))
        .map(|(metric, sign)| of_sample.iter().map(|&it| Some(sign * images[it].scores[metric]?)).collect())
        .collect();
    let mut correlations = Vec::new();
    for (idx, a) in goodness.iter().enumerate() {
        for b in &goodness[..idx] {
            let (x, y): (Vec<f64>, Vec<f64>) = a.iter().zip(b).filter_map(|(a, b)| a.zip(*b)).unzip();
            if x.len() > 2 {
                correlations.extend(spearman(&x, &y));
            }
        }
    }
    Some(1.0 - mean(&correlations).ok()?)
}

fn gaps(findings: &Findings, images: &[ImageRow], scores: &Scores, n_metrics: usize) -> Vec<Gap> {
    let failed: BTreeSet<(usize, &str)> =
        findings.failures.iter().filter_map(|it| it.source.zip(it.sample.as_deref())).collect();
    by_reason(images, n_metrics, |idx, metric| {
        if images[idx].scores[metric].is_some() {
            return None;
        }
        let has_failed = || failed.contains(&(images[idx].source, findings.images[idx].sample.as_str()));
        Some(match scores.row(idx, metric) {
            Some(score) => score.why.as_deref().unwrap_or("undefined"),
            None if has_failed() => "its job failed",
            None => "not computed",
        })
    })
}

fn remarks(images: &[ImageRow], scores: &Scores, n_metrics: usize) -> Vec<Gap> {
    by_reason(images, n_metrics, |idx, metric| scores.row(idx, metric)?.note.as_deref())
}

/// One entry for all images of a source of which `reason` says the same by one metric.
fn by_reason<'a>(images: &[ImageRow], n_metrics: usize, reason: impl Fn(usize, usize) -> Option<&'a str>) -> Vec<Gap> {
    let mut by_reason: BTreeMap<(usize, usize, &str), Vec<String>> = BTreeMap::new();
    for (idx, image) in images.iter().enumerate() {
        for metric in 0..n_metrics {
            if let Some(why) = reason(idx, metric) {
                by_reason.entry((metric, image.source, why)).or_default().push(image.sample.clone());
            }
        }
    }
    let gap = |((metric, source, why), samples): ((usize, usize, &str), Vec<String>)| Gap {
        metric,
        source,
        why: why.to_owned(),
        samples,
    };
    by_reason.into_iter().map(gap).collect()
}
