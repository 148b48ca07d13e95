//! Charts with what stands around them: a title, words for those who do not see them, and their numbers as a table.

use crate::report::format::{self, Digits};
use crate::report::plot::{self, Svg};
use crate::report::table::{Cell, Table, numbers, words};
use crate::report::view::Report;

/// A chart and its table.
pub(in crate::report) struct Figure {
    pub(in crate::report) title: String,
    /// Under the title: what the reader is to know of it.
    pub(in crate::report) subtitle: String,
    pub(in crate::report) badge: Option<Badge>,
    pub(in crate::report) svg: Svg,
    /// The chart in words.
    pub(in crate::report) alt: String,
    pub(in crate::report) table: Table,
}

/// A judgement beside a title.
pub(in crate::report) struct Badge {
    pub(in crate::report) class: &'static str,
    pub(in crate::report) text: &'static str,
}

/// The distributions of the main metrics' scores, then of the other variants.
pub(super) fn strips(report: &Report) -> (Vec<Figure>, Vec<Figure>) {
    let (mut main, mut others) = (Vec::new(), Vec::new());
    for (metric, column) in report.metrics.iter().enumerate() {
        if report.sources.iter().all(|it| it.cells[metric].values.is_empty()) {
            continue;
        }
        let unit = if column.unit.is_empty() { String::new() } else { format!(", {}", column.unit) };
        let figure = Figure {
            title: column.label.clone(),
            subtitle: format!("{} {}{unit}", format::arrow(column.better), format::arrow_words(column.better)),
            badge: None,
            svg: plot::strip::chart(report, metric),
            alt: format!(
                "{}: one dot for each image, source by source. The table beneath has the numbers.",
                column.label
            ),
            table: quartiles(report, metric),
        };
        if column.main { main.push(figure) } else { others.push(figure) }
    }
    (main, others)
}

/// What the strips leave out.
pub(super) fn strip_note(report: &Report) -> String {
    match plot::strip::thinning(report) {
        1 => String::new(),
        n => format!("Of every {n} images one dot is drawn; boxes and means are over all of them."),
    }
}

fn quartiles(report: &Report, metric: usize) -> Table {
    let head = ["Source", "n", "Mean", "SD", "Lower quartile", "Median", "Upper quartile"];
    let head = head.into_iter().enumerate().map(|(idx, it)| if idx == 0 { words(it) } else { numbers(it) }).collect();
    let mut table = Table::new(format!("{} by source", report.metrics[metric].label), head);
    let digits = Digits::of(report.sources.iter().flat_map(|it| it.cells[metric].values.iter().copied()));
    for source in &report.sources {
        let cell = &source.cells[metric];
        let number = |it: Option<f64>| it.map_or_else(|| Cell::absent("–"), |it| Cell::number(digits.number(it), it));
        let mut row = vec![
            Cell::words(&source.name),
            Cell::number(format::thousands(cell.n as u64), cell.n as f64),
            number(cell.mean.ok()),
            number(cell.sd.ok()),
        ];
        row.extend((0..3).map(|it| number(cell.quartiles.map(|quartiles| quartiles[it]))));
        table.rows.push(row);
    }
    table
}
