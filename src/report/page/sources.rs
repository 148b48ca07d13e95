//! The table of sources: means with intervals, metric by metric, and set scores beside.

use crate::report::format::{self, Digits};
use crate::report::table::{self, Cell, Head, Table, numbers, words};
use crate::report::view::{self, Column, Report};

/// The main metrics with the set scores, or the other variants.
pub(super) fn table(report: &Report, main: bool) -> Table {
    let metrics: Vec<(usize, &Column)> = report.metrics.iter().enumerate().filter(|(_, it)| it.main == main).collect();
    let mut head = vec![words("Source"), numbers("n")];
    head.extend(metrics.iter().map(|(_, it)| metric_head(&it.label, &it.unit, it.better)));
    if main {
        head.extend(report.set_scores.iter().map(|it| metric_head(&format!("{}, pooled", it.label), &it.unit, it.better)));
    }
    let caption = if main { "Mean scores of each source with their intervals" } else { "Mean scores of other variants" };
    let mut table = Table { class: "sources", ..Table::new(caption, head) };

    let digits: Vec<Digits> = metrics.iter().map(|(metric, _)| digits(report, *metric)).collect();
    let has_colours = report.sources.len() > 1;
    for (source_idx, source) in report.sources.iter().enumerate() {
        let name = Cell::words(&source.name).sorting(format!("{source_idx:06}"));
        let name = if let Some(model) = &source.model { name.noting(format!("stands for {model}")) } else { name };
        let name = if has_colours { name.classed(format!("family f{}", source.family % 8)) } else { name };
        let mut row = vec![name, Cell::number(format::thousands(source.n_images as u64), source.n_images as f64)];
        row.extend(metrics.iter().zip(&digits).map(|((metric, _), digits)| score(&source.cells[*metric], source.n_images, *digits)));
        if main {
            row.extend(report.set_scores.iter().map(|it| set_score(&it.cells, source_idx, source.n_images)));
        }
        table.rows.push(row);
    }
    table
}

/// What the cells leave open: which values are not defined, and why.
pub(super) fn notes(report: &Report) -> Vec<String> {
    report
        .metrics
        .iter()
        .enumerate()
        .filter_map(|(metric, column)| {
            let mut parts: Vec<String> = Vec::new();
            let mut whys: Vec<&str> = report.gaps.iter().filter(|it| it.metric == metric).map(|it| &*it.why).collect();
            whys.sort_unstable();
            whys.dedup();
            for why in whys {
                let gaps = report.gaps.iter().filter(|it| it.metric == metric && it.why == why);
                let (n, names) = gaps.fold((0, Vec::new()), |(n, mut names), it| {
                    names.push(report.sources[it.source].name.as_str());
                    (n + it.samples.len(), names)
                });
                let of = match names.len() {
                    1..=3 => format!(" of {}", format::list(&names)),
                    n => format!(" of {n} sources"),
                };
                parts.push(format!("{}{of} ({why})", format::count(n, "image")));
            }
            let label = &column.label;
            (!parts.is_empty()).then(|| format!("{label} has no value for {}.", format::list(&parts)))
        })
        .collect()
}

fn metric_head(label: &str, unit: &str, better: Option<crate::metrics::Better>) -> Head {
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
        note = format!("{note} n {}", cell.n).trim_start().to_owned();
    }
    Cell::number(digits.number(mean), mean).noting(note)
}

fn set_score(cells: &[Option<view::SetCell>], source: usize, n_images: usize) -> table::Cell {
    let digits = Digits::of(cells.iter().flatten().filter_map(|it| it.value));
    let Some(cell) = &cells[source] else { return Cell::absent("–") };
    let Some(value) = cell.value else {
        return Cell::absent("undefined").noting(cell.why.clone().unwrap_or_default());
    };
    let note = if cell.n == n_images as u64 { String::new() } else { format!("n {}", cell.n) };
    Cell::number(digits.number(value), value).noting(note)
}
