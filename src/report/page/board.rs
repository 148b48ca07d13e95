//! The leaderboard: models by metric with intervals and tiers, and each metric as a chart.

use super::figures::Figure;
use crate::report::format::{self, Digits};
use crate::report::plot;
use crate::report::table::{Cell, Table, numbers, words};
use crate::report::view::{Entrant, Report, SetCell, Standing};

/// The section's parts.
pub(in crate::report) struct Board {
    pub(in crate::report) table: Table,
    pub(in crate::report) figures: Vec<Figure>,
    /// Charts of the other variants.
    pub(in crate::report) others: Vec<Figure>,
}

/// The board; none where no source has a model.
pub(super) fn board(report: &Report) -> Option<Board> {
    if report.entrants.is_empty() {
        return None;
    }
    let mut board = Board { table: table(report), figures: Vec::new(), others: Vec::new() };
    if report.entrants.len() > 1 {
        for (metric, column) in report.metrics.iter().enumerate() {
            let has_means = report.entrants.iter().any(|it| it.standings[metric].mean.is_ok());
            if has_means {
                let figures = if column.main { &mut board.figures } else { &mut board.others };
                figures.push(figure(report, metric));
            }
        }
    }
    Some(board)
}

fn table(report: &Report) -> Table {
    let has_means = |metric: usize| report.entrants.iter().any(|it| it.standings[metric].mean.is_ok());
    let shown: Vec<usize> = (0..report.metrics.len()).filter(|&it| report.metrics[it].main && has_means(it)).collect();
    let sets: Vec<usize> =
        (0..report.set_scores.len()).filter(|&it| report.entrants.iter().any(|of| of.set[it].is_some())).collect();
    let mut head = vec![
        words("Model"),
        numbers("Mean rank").hinting("↓", "mean of the ranks by the metrics of this table, pooled scores aside"),
    ];
    for &metric in &shown {
        let column = &report.metrics[metric];
        head.push(super::sources::metric_head(&column.label, &column.unit, column.better));
    }
    for column in sets.iter().map(|&it| &report.set_scores[it]) {
        let label = if report.metrics.iter().any(|it| it.id == column.id) {
            format!("{}, pooled", column.label)
        } else {
            column.label.clone()
        };
        head.push(super::sources::metric_head(&label, &column.unit, column.better));
    }
    head.extend([numbers("Size"), numbers("Images")]);
    let mut table = Table { class: "board", ..Table::new("Models with their mean scores, intervals and tiers", head) };
    for (idx, entrant) in report.entrants.iter().enumerate() {
        let name = Cell::words(&entrant.name).sorting(format!("{idx:06}"));
        let name = name.noting(stands_for(entrant)).classed(format!("family f{}", entrant.family % 8));
        let pixels = entrant.size.map_or(0.0, |(width, height)| f64::from(width) * f64::from(height));
        let size = match entrant.size {
            Some(_) => Cell::number(format::size(entrant.size), pixels),
            None => Cell::absent("several"),
        };
        let n = Cell::number(format::thousands(entrant.n_images as u64), entrant.n_images as f64);
        let seeds = format!("{} seeds", entrant.sources.len());
        let rank = match entrant.mean_rank {
            Some(rank) => Cell::number(Digits::two().number(rank), rank),
            None if entrant.model.is_none() => Cell::absent("not ranked"),
            None => Cell::absent("–"),
        };
        let mut row = vec![name, rank];
        row.extend(shown.iter().map(|&metric| standing(report, metric, &entrant.standings[metric])));
        row.extend(sets.iter().map(|&it| set(report, it, entrant.set[it].as_ref())));
        row.extend([size, if entrant.sources.len() > 1 { n.noting(seeds) } else { n }]);
        table.rows.push(row);
    }
    table
}

/// What of a model its name does not say.
fn stands_for(entrant: &Entrant) -> String {
    match &entrant.model {
        Some(model) if !entrant.name.contains(model.as_str()) => model.clone(),
        Some(_) => String::new(),
        None => "no model's".to_owned(),
    }
}

fn standing(report: &Report, metric: usize, it: &Standing) -> Cell {
    let Ok(mean) = it.mean else { return Cell::absent("–") };
    let digits = digits(report, metric);
    let interval = it.interval.map(|it| digits.interval(&it)).unwrap_or_default();
    let cell = Cell::number(digits.number(mean), mean);
    match it.tier {
        Some(tier) => cell.noting(format!("{interval}\ntier {tier}").trim_start().to_owned()).classed(if tier == 1 {
            "first"
        } else {
            ""
        }),
        None => cell.noting(interval),
    }
}

fn set(report: &Report, column: usize, it: Option<&SetCell>) -> Cell {
    let all = report.entrants.iter().filter_map(|it| it.set[column].as_ref()?.value);
    match it.and_then(|it| it.value) {
        Some(value) => {
            let digits = Digits::of(all);
            let interval = it.and_then(|it| it.interval).map(|it| digits.interval(&it));
            Cell::number(digits.number(value), value).noting(interval.unwrap_or_default())
        }
        None => Cell::absent(if it.is_some() { "undefined" } else { "–" }),
    }
}

fn digits(report: &Report, metric: usize) -> Digits {
    Digits::of(report.entrants.iter().filter_map(|it| it.standings[metric].mean.ok()))
}

fn figure(report: &Report, metric: usize) -> Figure {
    let column = &report.metrics[metric];
    let digits = digits(report, metric);
    let head = vec![words("Model"), numbers("n"), numbers("Mean"), numbers("From"), numbers("To"), numbers("Tier")];
    let mut table = Table::new(format!("{} by model", column.label), head);
    for entrant in &report.entrants {
        let it = &entrant.standings[metric];
        let number = |it: Option<f64>| it.map_or_else(|| Cell::absent("–"), |it| Cell::number(digits.number(it), it));
        table.rows.push(vec![
            Cell::words(&entrant.name),
            Cell::number(format::thousands(it.n as u64), it.n as f64),
            number(it.mean.ok()),
            number(it.interval.map(|it| it.low)),
            number(it.interval.map(|it| it.high)),
            it.tier.map_or_else(|| Cell::absent("–"), |it| Cell::number(it.to_string(), it as f64)),
        ]);
    }
    let unit = if column.unit.is_empty() { String::new() } else { format!(", {}", column.unit) };
    Figure {
        title: column.label.clone(),
        subtitle: format!("{} {}{unit}", format::arrow(column.better), format::arrow_words(column.better)),
        badge: None,
        svg: plot::forest::chart(report, metric),
        alt: format!("{}: mean and interval of each model. The table beneath has the numbers.", column.label),
        table,
    }
}
