//! The tables at the end: what failed, what was not computed, what the metrics are and which images they saw.

use std::collections::{BTreeMap, BTreeSet};

use crate::report::format;
use crate::report::table::{Cell, Table, numbers, words};
use crate::report::view::{Gap, Report};

/// Longer lists are cut, and the page says so; `report.json` has them whole.
const MAX_ROWS: usize = 500;

/// Jobs that ended without a result.
pub(super) fn failures(report: &Report) -> (Option<Table>, String) {
    let head = vec![
        words("Job"),
        words("Kind"),
        words("State"),
        words("Source"),
        words("Sample"),
        words("Error"),
        numbers("Attempts"),
    ];
    let mut table = Table { class: "wordy", ..Table::new("Jobs that ended without a result", head) };
    for it in report.failures.iter().take(MAX_ROWS) {
        let source = it.source.and_then(|it| report.sources.get(it)).map_or("–", |it| &it.name);
        table.rows.push(vec![
            Cell::number(it.job.to_string(), it.job.0 as f64),
            Cell::words(&it.kind),
            Cell::words(it.state.word()),
            Cell::words(source),
            Cell::words(it.sample.as_deref().unwrap_or("–")),
            Cell::words(&it.error).classed("error"),
            Cell::number(it.n_attempts.to_string(), f64::from(it.n_attempts)),
        ]);
    }
    (some(table), cut(report.failures.len()))
}

/// Scores that are not there.
pub(super) fn gaps(report: &Report) -> (Option<Table>, String) {
    by_reason("Scores that are undefined or were not computed", "Why", &report.gaps, report)
}

/// Scores of which there is something to be known.
pub(super) fn remarks(report: &Report) -> (Option<Table>, String) {
    by_reason("What to know of some scores", "What", &report.remarks, report)
}

fn by_reason(caption: &str, reason: &str, gaps: &[Gap], report: &Report) -> (Option<Table>, String) {
    let head = vec![words("Metric"), words(reason), words("Sources"), numbers("Images"), words("Samples")];
    let mut table = Table { class: "wordy", ..Table::new(caption, head) };
    let mut rows: BTreeMap<(usize, &str), Vec<&Gap>> = BTreeMap::new();
    for it in gaps {
        rows.entry((it.metric, &it.why)).or_default().push(it);
    }
    for ((metric, why), gaps) in rows.iter().take(MAX_ROWS) {
        let n_images: usize = gaps.iter().map(|it| it.samples.len()).sum();
        let sources = gaps.iter().map(|it| report.sources[it.source].name.as_str());
        let samples: BTreeSet<&str> = gaps.iter().flat_map(|it| &it.samples).map(String::as_str).collect();
        table.rows.push(vec![
            Cell::words(&report.metrics[*metric].label),
            Cell::words(*why),
            Cell::words(few(sources, gaps.len())),
            Cell::number(format::thousands(n_images as u64), n_images as f64),
            Cell::words(few(samples.iter().copied(), samples.len())),
        ]);
    }
    let note = cut(rows.len());
    (some(table), note)
}

/// The first of `n` names, and how many more there are.
fn few<'a>(names: impl Iterator<Item = &'a str>, n: usize) -> String {
    const SHOWN: usize = 4;
    let first = names.take(SHOWN).collect::<Vec<_>>().join(", ");
    if n > SHOWN { format!("{first} and {} more", n - SHOWN) } else { first }
}

/// What the metrics are.
pub(super) fn metrics(report: &Report) -> Table {
    let head = vec![
        words("Metric"),
        words("Variant"),
        numbers("Version"),
        words("Better"),
        words("Unit"),
        words("What it is"),
    ];
    let mut table = Table { class: "wordy", ..Table::new("Definitions of the metrics", head) };
    for it in &report.metrics {
        let better = it.better.map_or("not known", |_| format::arrow_words(it.better));
        table.rows.push(vec![
            Cell::words(&it.id.metric).classed("code"),
            Cell::words(&it.id.variant).classed("code"),
            Cell::number(it.id.version.to_string(), f64::from(it.id.version)),
            Cell::words(better.trim_end_matches(" is better")),
            Cell::words(if it.unit.is_empty() { "–" } else { &it.unit }),
            Cell::words(&it.about),
        ]);
    }
    table
}

fn some(table: Table) -> Option<Table> {
    (!table.rows.is_empty()).then_some(table)
}

fn cut(n: usize) -> String {
    if n <= MAX_ROWS {
        return String::new();
    }
    let (shown, all) = (format::thousands(MAX_ROWS as u64), format::thousands(n as u64));
    format!("The first {shown} of {all}; report.json has them all.")
}
