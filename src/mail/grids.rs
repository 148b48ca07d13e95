//! The tables of a mail: numbers as they are written, what is most important first.

use std::collections::BTreeMap;

use crate::report::history::words::{self, Column};
use crate::report::history::{Change, Found, Verdict, Versus};

/// A table.
pub(super) struct Grid {
    pub(super) title: String,
    pub(super) head: Vec<String>,
    pub(super) rows: Vec<Vec<Cell>>,
    pub(super) n_more: usize,
    pub(super) note: String,
}

impl Grid {
    /// Whether a column may be left out where there is little room: how sure something is, not what it is.
    pub(super) fn is_minor(&self, column: &usize) -> bool {
        ["interval", "p"].contains(&self.head[*column].as_str())
    }
}

pub(super) struct Cell {
    pub(super) text: String,
    pub(super) tone: &'static str,
}

fn cell(text: impl Into<String>) -> Cell {
    Cell { text: text.into(), tone: "" }
}

/// What became of each series since the last good night.
pub(super) fn changes(found: &Found, names: &BTreeMap<String, String>, limit: usize) -> Option<Grid> {
    let rows: Vec<&Change> = found.changes.iter().filter(|it| it.before.is_some()).collect();
    let row = |it: &&Change| {
        let column = Column::of(it.before.into_iter().chain(it.after));
        let number = |it: Option<f64>| it.map_or_else(|| "–".to_owned(), |it| column.number(it));
        let (change, interval, p) = match &it.difference {
            Some(difference) => {
                let column = Column::of([difference.value]);
                let interval = difference.interval.map_or_else(
                    || "–".to_owned(),
                    |it| format!("{} to {}", column.signed(it.low), column.signed(it.high)),
                );
                (
                    column.signed(difference.value),
                    interval,
                    difference.p_holm.map_or_else(|| "–".to_owned(), probability),
                )
            }
            None => ("–".to_owned(), "–".to_owned(), "–".to_owned()),
        };
        let (word, tone) = match it.verdict {
            _ if it.is_regression => ("regression", "worse"),
            Verdict::Worse => ("worse", "worse"),
            Verdict::Better => ("better", "better"),
            Verdict::Changed => ("changed", ""),
            Verdict::Same => ("same", ""),
            Verdict::Unclear => ("unclear", ""),
            Verdict::Redefined => ("redefined", ""),
            Verdict::New => ("new", ""),
            Verdict::Gone => ("gone", "worse"),
        };
        let label = format!("{}: {} {}", names[&it.series.source], it.series.label, words::arrow(it.series.better));
        let mut row = vec![cell(label.trim_end()), cell(number(it.before)), cell(number(it.after))];
        row.extend([Cell { text: change, tone }, cell(interval), cell(p), Cell { text: word.to_owned(), tone }]);
        row
    };
    (!rows.is_empty()).then(|| Grid {
        title: "Since the last good night".to_owned(),
        head: ["", "before", "now", "change", "interval", "p", ""].map(str::to_owned).to_vec(),
        n_more: rows.len().saturating_sub(limit),
        rows: rows.iter().take(limit).map(row).collect(),
        note: "↑ higher is better, ↓ lower is better; p after Holm's correction over the table.".to_owned(),
    })
}

fn probability(p: f64) -> String {
    words::probability(p).trim_start_matches(['p', '=', '\u{a0}']).to_owned()
}

/// Sources down, metrics across; as many metrics as fit side by side in a table each.
pub(super) fn means(found: &Found, names: &BTreeMap<String, String>, limit: usize) -> Option<Grid> {
    const MOST_COLUMNS: usize = 5;
    let mut labels: Vec<(&str, &str)> = Vec::new();
    let mut sources: Vec<&str> = Vec::new();
    for it in &found.series {
        let label = (it.label.as_str(), words::arrow(it.better));
        if !labels.contains(&label) {
            labels.push(label);
        }
        if !sources.contains(&it.source.as_str()) {
            sources.push(&it.source);
        }
    }
    let n_left_out = labels.len().saturating_sub(MOST_COLUMNS);
    labels.truncate(MOST_COLUMNS);
    let find = |source: &str, label: &str| found.series.iter().find(|it| it.source == source && it.label == label);
    let columns: Vec<Column> = labels
        .iter()
        .map(|label| Column::of(found.series.iter().filter(|it| it.label == label.0).filter_map(|it| it.mean)))
        .collect();
    let row = |source: &&str| {
        let mut row = vec![cell(names[*source].clone())];
        row.extend(labels.iter().zip(&columns).map(|(label, column)| {
            let mean = find(source, label.0).and_then(|it| it.mean);
            cell(mean.map_or_else(|| "–".to_owned(), |it| column.number(it)))
        }));
        row
    };
    let mut head = vec![String::new()];
    head.extend(labels.iter().map(|it| format!("{} {}", it.0, it.1).trim_end().to_owned()));
    (!sources.is_empty()).then(|| Grid {
        title: "Tonight".to_owned(),
        head,
        n_more: sources.len().saturating_sub(limit),
        rows: sources.iter().take(limit).map(row).collect(),
        note: match n_left_out {
            0 => String::new(),
            n => format!("{} in the full report alone.", words::count(n, "metric")),
        },
    })
}

/// Each source against the baseline.
pub(super) fn baseline(found: &Found, names: &BTreeMap<String, String>, limit: usize) -> Option<Grid> {
    let first = found.versus.first()?;
    let row = |it: &Versus| {
        let column = Column::of([it.difference.value]);
        let interval = it.difference.interval;
        let interval = interval
            .map_or_else(|| "–".to_owned(), |it| format!("{} to {}", column.signed(it.low), column.signed(it.high)));
        let (word, tone) = match it.verdict {
            Verdict::Better => ("better", "better"),
            Verdict::Worse => ("worse", "worse"),
            Verdict::Same => ("no clear difference", ""),
            _ => ("unclear", ""),
        };
        let name = names.get(&it.source).map_or(it.source.as_str(), String::as_str);
        vec![
            cell(format!("{name}: {} {}", it.label, words::arrow(it.better)).trim_end()),
            Cell { text: column.signed(it.difference.value), tone },
            cell(interval),
            cell(it.difference.p_holm.map_or_else(|| "–".to_owned(), probability)),
            Cell { text: word.to_owned(), tone },
        ]
    };
    let name = names.get(&first.baseline).map_or(first.baseline.as_str(), String::as_str);
    Some(Grid {
        title: format!("Against {name}"),
        head: ["", "difference", "interval", "p", ""].map(str::to_owned).to_vec(),
        n_more: found.versus.len().saturating_sub(limit),
        rows: found.versus.iter().take(limit).map(row).collect(),
        note: "Paired by sample; p after Holm's correction over the table.".to_owned(),
    })
}
