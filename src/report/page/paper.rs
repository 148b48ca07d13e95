//! The paper's tables: our numbers, and the published ones beside them in cells of their own.

use crate::report::format::{self, Digits};
use crate::report::table::{Cell, Table, numbers, words};
use crate::report::view::{PaperColumn, PaperTable, PaperValue, Report};

/// One table and what is said of it.
pub(in crate::report) struct Part {
    pub(in crate::report) number: u8,
    pub(in crate::report) title: String,
    pub(in crate::report) note: String,
    pub(in crate::report) table: Table,
}

pub(super) fn parts(report: &Report) -> Vec<Part> {
    let part =
        |it: &PaperTable| Part { number: it.number, title: it.title.clone(), note: it.note.clone(), table: table(it) };
    report.paper.iter().map(part).collect()
}

fn table(paper: &PaperTable) -> Table {
    let mut head = vec![words("Method"), words("Here")];
    for it in &paper.columns {
        head.push(numbers(&it.label).hinting(format::arrow(it.better), format::arrow_words(it.better)));
        head.push(numbers("published").hinting("", format!("{} as it was published", it.label)));
    }
    let caption = format!("Table {}: {}", paper.number, paper.title);
    let mut table = Table { class: "paper", ..Table::new(caption, head) };
    for (idx, row) in paper.rows.iter().enumerate() {
        let method = Cell::words(&row.method).sorting(format!("{idx:06}"));
        let method = match &row.origin {
            Some(origin) => method.noting(format!("published by {origin}")),
            None => method,
        };
        let here = match &row.ours {
            Some((name, detail)) => Cell::words(name).noting(detail),
            None => Cell::absent("not here"),
        };
        let mut cells = vec![method, here];
        for (at, column) in paper.columns.iter().enumerate() {
            cells.push(ours(paper, column, at, row.values[at]));
            cells.push(match row.published[at] {
                Some(value) => Cell::number(published(paper, value), value).classed("published"),
                None => Cell::absent("–").classed("absent published"),
            });
        }
        table.rows.push(cells);
    }
    table
}

fn ours(paper: &PaperTable, column: &PaperColumn, at: usize, value: Option<PaperValue>) -> Cell {
    let Some(it) = value else { return Cell::absent("–") };
    if paper.number == 9 || column.metric == "steps" {
        return Cell::number(it.value.to_string(), it.value);
    }
    let digits = match paper.number {
        // As coefficients are written everywhere, and as many as the paper has.
        1 => Digits::two(),
        _ => Digits::of(paper.rows.iter().filter_map(|row| Some(row.values[at]?.value))),
    };
    let cell = Cell::number(digits.number(it.value), it.value);
    // A ratio could as well be a mean; a distance of distributions is always of the set.
    let pooled = if it.of_set && column.metric == "compression_ratio" { "pooled" } else { "" };
    let interval = it.interval.map(|it| digits.interval(&it)).unwrap_or_default();
    cell.noting(format!("{pooled}\n{interval}").trim())
}

/// With the digits that the paper has.
fn published(paper: &PaperTable, value: f64) -> String {
    if paper.number == 9 || value >= 1_000.0 { value.to_string() } else { format!("{value:.2}") }
}
