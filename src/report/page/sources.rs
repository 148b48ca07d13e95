//! The table of sources: means with intervals, metric by metric, and set scores beside.

use std::collections::BTreeMap;

use crate::report::format::{self, Digits};
use crate::report::table::{self, Cell, Head, Table, numbers, words};
use crate::report::view::{self, Column, Report};

/// The main metrics with the set scores, or the other variants.
pub(super) fn table(report: &Report, main: bool) -> Table {
    let metrics: Vec<(usize, &Column)> = report.metrics.iter().enumerate().filter(|(_, it)| it.main == main).collect();
    let mut head = vec![words("Source"), numbers("n")];
    for (_, it) in &metrics {
        head.push(metric_head(&it.label, &it.unit, it.better));
        head.extend(
            set_scores(report, it).map(|it| metric_head(&format!("{}, pooled", it.label), &it.unit, it.better)),
        );
    }
    // Scores that only whole sources have.
    let lone = || report.set_scores.iter().filter(|it| main && report.metrics.iter().all(|metric| metric.id != it.id));
    head.extend(lone().map(|it| metric_head(&it.label, &it.unit, it.better)));
    let caption =
        if main { "Mean scores of each source with their intervals" } else { "Mean scores of other variants" };
    let mut table = Table { class: "sources", ..Table::new(caption, head) };

    let digits: Vec<Digits> = metrics.iter().map(|(metric, _)| digits(report, *metric)).collect();
    let has_colours = report.sources.len() > 1;
    for (source_idx, source) in report.sources.iter().enumerate() {
        let name = Cell::words(&source.name).sorting(format!("{source_idx:06}"));
        let name = if let Some(model) = &source.model { name.noting(format!("stands for {model}")) } else { name };
        let name = if has_colours { name.classed(format!("family f{}", source.family % 8)) } else { name };
        let mut row = vec![name, Cell::number(format::thousands(source.n_images as u64), source.n_images as f64)];
        for ((metric, column), digits) in metrics.iter().zip(&digits) {
            row.push(score(&source.cells[*metric], source.n_images, *digits));
            row.extend(set_scores(report, column).map(|it| set_score(&it.cells, source_idx, source.n_images)));
        }
        row.extend(lone().map(|it| set_score(&it.cells, source_idx, source.n_images)));
        table.rows.push(row);
    }
    table
}

/// The set scores that belong beside a metric.
fn set_scores<'a>(report: &'a Report, column: &'a Column) -> impl Iterator<Item = &'a view::SetColumn> {
    report.set_scores.iter().filter(|it| it.id == column.id)
}

/// What the cells leave open, one sentence for all that is missing for one reason.
pub(super) fn notes(report: &Report) -> Vec<String> {
    let mut by_images: BTreeMap<(&str, usize, &[String]), Vec<usize>> = BTreeMap::new();
    for it in &report.gaps {
        by_images.entry((&it.why, it.source, &it.samples)).or_default().push(it.metric);
    }
    let mut by_metrics: BTreeMap<(Vec<usize>, &str), Missing> = BTreeMap::new();
    for ((why, source, samples), metrics) in by_images {
        let missing = by_metrics.entry((metrics, why)).or_default();
        missing.sources.push(&report.sources[source].name);
        missing.n_images += samples.len();
    }
    let mut notes: Vec<String> =
        by_metrics.iter().map(|((metrics, why), missing)| missing.sentence(metrics, why, report)).collect();
    for column in &report.set_scores {
        let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (source, cell) in report.sources.iter().zip(&column.cells) {
            if let Some(why) = cell.as_ref().and_then(|it| it.no_interval.as_deref()) {
                by_reason.entry(why).or_default().push(&source.name);
            }
        }
        notes.extend(by_reason.into_iter().map(|(why, sources)| {
            format!("{} of the set has no interval for {}: {why}.", column.label, format::few(&sources))
        }));
    }
    notes
}

/// Images that lack the same scores for the same reason.
#[derive(Default)]
struct Missing<'a> {
    sources: Vec<&'a str>,
    n_images: usize,
}

impl Missing<'_> {
    fn sentence(&self, metrics: &[usize], why: &str, report: &Report) -> String {
        let labels: Vec<&str> = metrics.iter().map(|it| &*report.metrics[*it].label).collect();
        let who = match labels.as_slice() {
            labels if labels.len() == report.metrics.len() => "No metric has a value".to_owned(),
            [only] => format!("{only} has no value"),
            labels if labels.len() <= 4 => format!("{} have no value", format::list(labels)),
            labels => format!("{} metrics have no value", labels.len()),
        };
        let sources = match self.sources.len() {
            ..=3 => format::list(&self.sources),
            n => format!("{n} sources"),
        };
        format!("{who} for {} of {sources}: {why}.", format::count(self.n_images, "image"))
    }
}

pub(super) fn metric_head(label: &str, unit: &str, better: Option<crate::metrics::Better>) -> Head {
    let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
    numbers(label).hinting(format!("{}{unit}", format::arrow(better)), format::arrow_words(better))
}

fn digits(report: &Report, metric: usize) -> Digits {
    Digits::of(report.sources.iter().filter_map(|it| it.cells[metric].mean.ok()))
}

fn score(cell: &view::Cell, n_images: usize, digits: Digits) -> table::Cell {
    let Ok(mean) = cell.mean else {
        let text = match (cell.n_undefined, cell.n_missing) {
            (0, 0) => "–",
            (0, _) => "not computed",
            _ => "undefined",
        };
        return Cell::absent(text);
    };
    let mut note = cell.interval.map(|it| digits.interval(&it)).unwrap_or_default();
    if cell.n != n_images {
        note = format!("{note}\nn {}", cell.n).trim_start().to_owned();
    }
    Cell::number(digits.number(mean), mean).noting(note)
}

fn set_score(cells: &[Option<view::SetCell>], source: usize, n_images: usize) -> table::Cell {
    let digits = Digits::of(cells.iter().flatten().filter_map(|it| it.value));
    let Some(cell) = &cells[source] else { return Cell::absent("–") };
    let Some(value) = cell.value else {
        return Cell::absent("undefined").noting(cell.why.clone().unwrap_or_default());
    };
    let mut note = cell.interval.map(|it| digits.interval(&it)).unwrap_or_default();
    if cell.n != n_images as u64 {
        note = format!("{note}\nn {}", cell.n).trim_start().to_owned();
    }
    Cell::number(digits.number(value), value).noting(note)
}
