//! The night against those before it: what changed beyond noise, what that may be due to, and the means over the nights.

use std::collections::BTreeMap;

use super::figures::Figure;
use crate::report::format::{self, Digits};
use crate::report::history::words::{self, Column};
use crate::report::history::{Change, Nights, Series, Verdict};
use crate::report::plot;
use crate::report::table::{Cell, Table, numbers, words as column};
use crate::report::view::Report;

/// The most lines of a chart.
const MOST_LINES: usize = 8;

/// The section's parts.
pub(in crate::report) struct Part {
    pub(in crate::report) lead: String,
    /// Class, sign, sentence, and what it may be due to.
    pub(in crate::report) said: Vec<(&'static str, &'static str, String, Vec<String>)>,
    pub(in crate::report) changes: Option<Table>,
    pub(in crate::report) figures: Vec<Figure>,
    /// Class and name of each colour.
    pub(in crate::report) legend: Vec<(String, String)>,
    pub(in crate::report) legend_note: String,
}

/// The section; none in the report of a single sweep.
pub(super) fn part(report: &Report) -> Option<Part> {
    let nights = report.nights.as_ref()?;
    let names = words::names(&nights.found);
    let sources: Vec<&str> = names.keys().map(String::as_str).take(MOST_LINES).collect();
    let left_out = names.len() - sources.len();
    Some(Part {
        lead: [vec![nights.found.basis()], nights.found.notes.clone()].concat().join(" "),
        said: said(nights, &names),
        changes: changes(nights, &names),
        figures: figures(nights, &names, &sources),
        legend: sources.iter().enumerate().map(|(idx, it)| (format!("f{}", idx % 8), names[*it].clone())).collect(),
        legend_note: match left_out {
            0 => String::new(),
            n => format!("{} not shown.", format::count(n, "source")),
        },
    })
}

fn said(nights: &Nights, names: &BTreeMap<String, String>) -> Vec<(&'static str, &'static str, String, Vec<String>)> {
    let found = &nights.found;
    let say = |change: &Change, class: &'static str, sign: &'static str| {
        let causes = change.causes.iter().filter_map(|it| found.causes.get(*it)).map(words::cause).collect();
        let text = format!("{}.", words::sentence(change, &names[&change.series.source], found.level));
        (class, sign, text, causes)
    };
    let mut said: Vec<_> = found.regressions().map(|it| say(it, "wrong", "✗")).collect();
    said.extend(found.broke.iter().map(|it| ("wrong", "✗", it.clone(), Vec::new())));
    said.extend(found.quiet(Verdict::Worse).map(|it| say(it, "unclear", "↓")));
    said.extend(found.quiet(Verdict::Better).map(|it| say(it, "right", "✓")));
    said.extend(found.quiet(Verdict::Changed).chain(found.quiet(Verdict::Redefined)).map(|it| say(it, "plain", "·")));
    said
}

fn changes(nights: &Nights, names: &BTreeMap<String, String>) -> Option<Table> {
    let rows: Vec<&Change> = nights.found.changes.iter().filter(|it| it.difference.is_some()).collect();
    if rows.is_empty() {
        return None;
    }
    let mut head = vec![column("Source"), column("Metric")];
    head.extend(["Before", "Now", "Change", "p"].map(numbers));
    head.push(column("Verdict"));
    let mut table = Table::new("Each series against the last good night", head);
    for it in rows {
        let digits = Column::of(it.before.into_iter().chain(it.after));
        let number = |it: Option<f64>| it.map_or_else(|| Cell::absent("–"), |it| Cell::number(digits.number(it), it));
        let Some(difference) = &it.difference else { continue };
        let (word, class) = match it.verdict {
            _ if it.is_regression => ("regression", "wrong"),
            Verdict::Worse => ("worse", "unclear"),
            Verdict::Better => ("better", "right"),
            Verdict::Changed => ("changed", ""),
            Verdict::Same => ("same", ""),
            _ => ("unclear", ""),
        };
        let own = Column::of([difference.value]);
        let interval = difference.interval.map(|it| format!("{} to {}", own.signed(it.low), own.signed(it.high)));
        table.rows.push(vec![
            Cell::words(&names[&it.series.source]),
            Cell::words(format!("{} {}", it.series.label, words::arrow(it.series.better)).trim_end()),
            number(it.before),
            number(it.after),
            Cell::number(own.signed(difference.value), difference.value).noting(interval.unwrap_or_default()),
            difference.p_holm.map_or_else(|| Cell::absent("–"), |p| Cell::number(words::probability(p), p)),
            Cell::words(word).classed(class),
        ]);
    }
    Some(table)
}

fn figures(nights: &Nights, names: &BTreeMap<String, String>, sources: &[&str]) -> Vec<Figure> {
    if nights.past.len() < 2 {
        return Vec::new();
    }
    let series = || nights.found.series.iter();
    let mut labels: Vec<&str> = Vec::new();
    for it in series().filter(|it| it.mean.is_some()) {
        if !labels.contains(&it.label.as_str()) {
            labels.push(&it.label);
        }
    }
    let figure = |label: &str| {
        let colour = |it: &Series| sources.iter().position(|source| *source == it.source);
        let lines: Vec<(&Series, usize)> =
            series().filter(|it| it.label == label).filter_map(|it| Some((it, colour(it)?))).collect();
        let better = lines.first().and_then(|it| it.0.better);
        let shown = lines.iter().filter_map(|it| it.0.mean);
        let digits = Digits::of(shown);
        let mut head = vec![column("Night")];
        head.extend(lines.iter().map(|it| numbers(&names[&it.0.source])));
        let mut table = Table::new(format!("{label} night by night"), head);
        for night in &nights.past {
            let mean = |of: &Series| night.series.iter().find(|it| it.key() == of.key())?.mean;
            let mut row = vec![Cell::words(night.at.get(..10).unwrap_or_default())];
            row.extend(
                lines
                    .iter()
                    .map(|it| mean(it.0).map_or_else(|| Cell::absent("–"), |it| Cell::number(digits.number(it), it))),
            );
            table.rows.push(row);
        }
        Figure {
            title: label.to_owned(),
            subtitle: format!("{} {}", format::arrow(better), format::arrow_words(better)),
            badge: None,
            svg: plot::nights::chart(&nights.past, &lines),
            alt: format!(
                "{label}: means and intervals over the nights, a line for each source. The table beneath has the numbers."
            ),
            table,
        }
    };
    labels.into_iter().map(figure).collect()
}
