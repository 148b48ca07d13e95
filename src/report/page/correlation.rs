//! Metrics against opinions: the paper's Table 1, with intervals, and a scatter plot of the best metrics.

use super::figures::Figure;
use crate::report::format::{self, Digits};
use crate::report::plot;
use crate::report::table::{Cell, Table, numbers, words};
use crate::report::view::{Basis, OpinionRow, OpinionTable, Report};
use crate::stats::study::Estimate;

/// So many scatter plots under a table.
const MOST_PLOTS: usize = 3;
/// So many points in the table under a plot; all of them are in `report.json`.
const MOST_POINTS: usize = 300;

/// One judge's opinions of one aspect.
pub(in crate::report) struct Part {
    pub(in crate::report) title: String,
    pub(in crate::report) hint: String,
    pub(in crate::report) table: Table,
    pub(in crate::report) figures: Vec<Figure>,
    pub(in crate::report) note: String,
}

pub(super) fn parts(report: &Report) -> Vec<Part> {
    let Some(opinions) = &report.opinions else { return Vec::new() };
    opinions.correlations.iter().filter(|it| !it.rows.is_empty()).map(|it| part(report, it)).collect()
}

fn part(report: &Report, opinions: &OpinionTable) -> Part {
    let has_choices = opinions.basis == Basis::Choices;
    let mut head = vec![
        words("Metric"),
        numbers("n"),
        numbers("SRCC"),
        numbers("PLCC"),
        numbers("PLCC, fitted").hinting("", "after the logistic fit"),
        numbers("KRCC"),
        numbers("p against the first").hinting("", "of equal SRCC, Holm's adjustment"),
    ];
    if has_choices {
        head.push(numbers("Agrees").hinting("", "share of decisive choices that the metric makes too"));
    }
    let what = if has_choices { "the share of choices won" } else { "the mean rating" };
    let of = if opinions.patches { " of patches" } else { "" };
    let title = format!("{}{of}, by {}", opinions.aspect, opinions.by.name);
    let mut table = Table::new(format!("Correlation of metrics with {what}: {title}"), head);
    for (place, row) in opinions.rows.iter().enumerate() {
        let column = &report.metrics[row.metric];
        let name = if row.turned { format!("−{}", format::lower_first(&column.label)) } else { column.label.clone() };
        let it = &row.coefficients;
        let mut cells = vec![
            Cell::words(name).sorting(format!("{place:06}")),
            Cell::number(format::thousands(row.n as u64), row.n as f64),
            estimate(&it.srcc),
            estimate(&it.plcc),
            estimate(&it.plcc_fit),
            estimate(&it.krcc),
            row.p_first.map_or_else(|| Cell::absent("–"), p_value),
        ];
        if has_choices {
            cells.push(
                row.two_way.as_ref().map_or_else(|| Cell::absent("–"), |it| share(it.accuracy, it.interval.ok())),
            );
        }
        table.rows.push(cells);
    }
    let clustered = opinions.rows.iter().any(|it| it.clustered);
    let note = if clustered {
        "What is of one sample is drawn together: all intervals and p-values are of a bootstrap over samples."
    } else {
        "Intervals: Pearson's by Fisher's z, the others by percentile bootstrap over pictures."
    };
    Part {
        hint: format!(
            "{what} of {}, {}",
            format::count(
                opinions.rows.iter().map(|it| it.n).max().unwrap_or(0),
                if opinions.patches { "patch" } else { "picture" }
            ),
            format::count(opinions.n_raters, "rater")
        ),
        figures: opinions.rows.iter().take(MOST_PLOTS).map(|it| figure(report, opinions, it)).collect(),
        table,
        title,
        note: note.to_owned(),
    }
}

/// A coefficient with its interval and p-value.
fn estimate(it: &Estimate) -> Cell {
    let digits = Digits::two();
    match it.value {
        Ok(value) => {
            let p = it.p.map_or_else(String::new, |p| format!("\np {}", p_text(p)));
            let interval = it.interval.map_or_else(|| "no interval".to_owned(), |it| digits.interval(&it));
            Cell::number(digits.number(value), value).noting(format!("{interval}{p}"))
        }
        Err(why) => Cell::absent("undefined").noting(why.to_string()),
    }
}

/// A share in per cent, with its interval.
pub(super) fn share(value: crate::stats::Defined, interval: Option<crate::stats::Interval>) -> Cell {
    match value {
        Ok(value) => {
            let note =
                interval.map_or_else(String::new, |it| format!("[{:.0} %, {:.0} %]", it.low * 100.0, it.high * 100.0));
            Cell::number(format!("{:.1} %", value * 100.0), value).noting(note)
        }
        Err(why) => Cell::absent("undefined").noting(why.to_string()),
    }
}

pub(super) fn p_value(p: f64) -> Cell {
    Cell::number(p_text(p), p)
}

pub(super) fn p_text(p: f64) -> String {
    if p < 0.001 { "< 0.001".to_owned() } else { format!("{p:.3}") }
}

fn figure(report: &Report, opinions: &OpinionTable, row: &OpinionRow) -> Figure {
    let column = &report.metrics[row.metric];
    let x_label = if row.turned { format!("−{}", format::lower_first(&column.label)) } else { column.label.clone() };
    let y_label = if opinions.basis == Basis::Choices { "share of choices won" } else { "mean rating" };
    let (x, y) = (Digits::of(row.points.iter().map(|it| it.0)), Digits::of(row.points.iter().map(|it| it.1)));
    let mut table = Table::new(format!("{y_label} and {x_label}"), vec![numbers(&x_label), numbers(y_label)]);
    for (score, opinion) in row.points.iter().take(MOST_POINTS) {
        table.rows.push(vec![Cell::number(x.number(*score), *score), Cell::number(y.number(*opinion), *opinion)]);
    }
    Figure {
        title: column.label.clone(),
        subtitle: if row.fit.is_some() { "with the logistic fit".to_owned() } else { String::new() },
        badge: None,
        svg: plot::opinion::scatter(row, &x_label, y_label),
        alt: format!("{y_label} against {x_label}, one dot for each picture. The table beneath has the numbers."),
        table,
    }
}
