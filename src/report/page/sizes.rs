//! How large the pictures of data sets are, as two histograms.

use super::figures::Figure;
use crate::report::plot::histogram::{self, Bars};
use crate::report::table::{Cell, Table, numbers, words};
use crate::report::view::{Report, Sizes};

/// Height, then width: the paper's Figure 13. None where no set's pictures are taken as they are.
pub(super) fn histograms(report: &Report) -> Vec<Figure> {
    let Some(sizes) = &report.sizes else { return Vec::new() };
    vec![figure(report, sizes, "Height"), figure(report, sizes, "Width")]
}

/// Class and name of each set's colour.
pub(super) fn legend(report: &Report) -> Vec<(String, &str)> {
    let rows = report.sizes.iter().flat_map(|it| &it.rows).map(|it| &report.sources[it.source]);
    rows.map(|it| (format!("f{}", it.family % 8), it.name.as_str())).collect()
}

fn figure(report: &Report, sizes: &Sizes, side: &str) -> Figure {
    let counts = |row: usize| {
        let row = &sizes.rows[row];
        if side == "Height" { &row.heights } else { &row.widths }
    };
    let rows = 0..sizes.rows.len();
    let source = |row: usize| &report.sources[sizes.rows[row].source];
    let bars: Vec<Bars> =
        rows.clone().map(|it| Bars { class: format!("f{}", source(it).family % 8), counts: counts(it) }).collect();
    let mut head = vec![words("Pixels")];
    head.extend(rows.clone().map(|it| numbers(&source(it).name)));
    let mut table = Table::new(format!("Pictures by {}", side.to_lowercase()), head);
    let n_bins = rows.clone().map(|it| counts(it).len()).max().unwrap_or(0);
    for bin in 0..n_bins {
        let of_bin: Vec<usize> = rows.clone().map(|it| counts(it).get(bin).copied().unwrap_or(0)).collect();
        if of_bin.iter().all(|it| *it == 0) {
            continue;
        }
        let from = bin as u32 * sizes.bin;
        let mut row = vec![Cell::number(format!("{from} to {}", from + sizes.bin - 1), f64::from(from))];
        row.extend(of_bin.into_iter().map(|it| Cell::number(it.to_string(), it as f64)));
        table.rows.push(row);
    }
    Figure {
        title: side.to_owned(),
        subtitle: format!("share of the pictures, in bins of {} pixels", sizes.bin),
        badge: None,
        svg: histogram::chart(&bars, sizes.bin, "pixels →"),
        alt: format!("Histogram of the pictures' {}. The table beneath has the counts.", side.to_lowercase()),
        table,
    }
}
