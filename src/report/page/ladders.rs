//! Ladders of damage: the verdicts as a table, then metric by metric a row of small charts.

use super::figures::{Badge, Figure};
use crate::report::format::{self, Digits};
use crate::report::plot;
use crate::report::table::{Cell, Table, numbers, words};
use crate::report::view::{Ladder, LadderResult, Report, Verdict};

/// Longer tables of single samples are in `report.json`.
const MAX_LINES: usize = 100;

/// One metric's charts.
pub(in crate::report) struct Block {
    pub(in crate::report) title: String,
    pub(in crate::report) hint: String,
    pub(in crate::report) figures: Vec<Figure>,
}

/// Metrics down, ladders across: the main metrics, or the other variants.
pub(super) fn verdicts(report: &Report, main: bool) -> Option<Table> {
    if report.ladders.is_empty() || report.metrics.iter().all(|it| it.main != main) {
        return None;
    }
    let mut head = vec![words("Metric")];
    head.extend(report.ladders.iter().map(|it| words(&it.name)));
    let mut table = Table { class: "verdicts", ..Table::new("Does each metric order each ladder rightly", head) };
    for (metric, column) in report.metrics.iter().enumerate().filter(|(_, it)| it.main == main) {
        let mut row = vec![Cell::words(&column.label).sorting(format!("{metric:06}"))];
        row.extend(report.ladders.iter().map(|it| verdict_cell(&it.results[metric])));
        table.rows.push(row);
    }
    Some(table)
}

/// Charts of the main metrics, then of the other variants.
pub(super) fn blocks(report: &Report) -> (Vec<Block>, Vec<Block>) {
    let (mut main, mut others) = (Vec::new(), Vec::new());
    for (metric, column) in report.metrics.iter().enumerate() {
        let ladders: Vec<&Ladder> =
            report.ladders.iter().filter(|it| it.results[metric].means.iter().any(Result::is_ok)).collect();
        if ladders.is_empty() {
            continue;
        }
        let y = plot::ladder::shared_axis(report, metric);
        let block = Block {
            title: column.label.clone(),
            hint: format!("{} {}", format::arrow(column.better), format::arrow_words(column.better)),
            figures: ladders.into_iter().map(|it| figure(report, it, metric, &y)).collect(),
        };
        if column.main { main.push(block) } else { others.push(block) }
    }
    (main, others)
}

fn figure(report: &Report, ladder: &Ladder, metric: usize, y: &plot::Axis) -> Figure {
    let result = &ladder.results[metric];
    let (class, _, text) = words_of(result.verdict);
    let label = &report.metrics[metric].label;
    Figure {
        title: ladder.name.clone(),
        subtitle: evidence(result),
        badge: Some(Badge { class, text }),
        svg: plot::ladder::chart(ladder, result, y),
        alt: format!("{label} by level of {}: {text}, {}.", ladder.name, evidence(result)),
        table: lines(ladder, result, label),
    }
}

fn lines(ladder: &Ladder, result: &LadderResult, label: &str) -> Table {
    let mut head = vec![words("Sample")];
    let parameter = format::parameter(&ladder.parameter);
    head.extend(ladder.rungs.iter().map(|it| match it.level {
        Some(level) => numbers(format!("{parameter} {level}")),
        None => numbers("none"),
    }));
    head.push(numbers("Agreement"));
    let mut table = Table::new(format!("{label} on {}", ladder.name), head);
    let digits = Digits::of(result.lines.iter().flat_map(|it| it.values.iter().copied().flatten()));
    let number = |it: Option<f64>| it.map_or_else(|| Cell::absent("–"), |it| Cell::number(digits.number(it), it));
    let agreement =
        |it: Option<f64>| it.map_or_else(|| Cell::absent("–"), |it| Cell::number(Digits::two().number(it), it));

    let mut mean = vec![Cell::words("mean over samples").sorting("").classed("total")];
    mean.extend(result.means.iter().map(|it| number(it.ok())));
    mean.push(agreement(result.agreement.ok()));
    table.rows.push(mean);
    for line in result.lines.iter().take(MAX_LINES) {
        let mut row = vec![Cell::words(&line.sample)];
        row.extend(line.values.iter().map(|it| number(*it)));
        row.push(agreement(line.agreement.ok()));
        table.rows.push(row);
    }
    table
}

fn verdict_cell(result: &LadderResult) -> Cell {
    let (class, sign, text) = words_of(result.verdict);
    let cell = Cell::words(format!("{sign} {text}")).noting(evidence(result)).classed(class);
    match result.agreement {
        Ok(it) => cell.sorting(it.to_string()),
        Err(_) => cell.sorting(""),
    }
}

fn words_of(verdict: Verdict) -> (&'static str, &'static str, &'static str) {
    match verdict {
        Verdict::Right => ("right", "✓", "orders rightly"),
        Verdict::Wrong => ("wrong", "✗", "WRONG ORDER"),
        Verdict::Unclear => ("unclear", "?", "unclear"),
        Verdict::Undefined => ("absent", "–", "undefined"),
    }
}

/// `0.98 [0.95, 1.00], n 8`, or why there is no number.
fn evidence(result: &LadderResult) -> String {
    let digits = Digits::two();
    match (result.agreement, result.interval) {
        (Ok(agreement), Some(interval)) => {
            format!("{} {}, n {}", digits.number(agreement), digits.interval(&interval), result.n)
        }
        (Ok(agreement), None) => {
            format!("{}, {}: too few for an interval", digits.number(agreement), format::count(result.n, "sample"))
        }
        (Err(why), _) => why.to_string(),
    }
}
