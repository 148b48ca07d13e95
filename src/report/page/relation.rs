//! GLCM Score against compression ratio: the scatter plot, its legend and its correlations.

use super::figures::Figure;
use crate::report::format::{self, Digits};
use crate::report::plot;
use crate::report::table::{Cell, Table, numbers, words};
use crate::report::view::{Correlation, Fit, How, RelationRow, Report};

/// Points in the table under the chart; all of them are in `report.json`.
const MAX_POINTS: usize = 300;

/// The section's parts.
pub(in crate::report) struct Part {
    pub(in crate::report) title: String,
    pub(in crate::report) figure: Figure,
    /// Class and name of each colour.
    pub(in crate::report) legend: Vec<(String, String)>,
    pub(in crate::report) correlations: Table,
    /// What the line through the points says, as a sentence.
    pub(in crate::report) fit: String,
    /// How the intervals were made, as a sentence.
    pub(in crate::report) how: String,
}

pub(super) fn part(report: &Report) -> Option<Part> {
    let relation = report.relation.as_ref()?;
    let (x, y) = (&report.metrics[relation.x], &report.metrics[relation.y]);
    let digits = |metric: fn(&crate::report::view::Point) -> f64| Digits::of(relation.points.iter().map(metric));
    let (x_digits, y_digits) = (digits(|it| it.x), digits(|it| it.y));
    let head = vec![words("Source"), words("Sample"), numbers(&x.label), numbers(&y.label)];
    let mut points = Table::new(format!("{} and {} of each image", y.label, x.label), head);
    for it in relation.points.iter().take(MAX_POINTS) {
        points.rows.push(vec![
            Cell::words(&report.sources[it.source].name),
            Cell::words(&it.sample),
            Cell::number(x_digits.number(it.x), it.x),
            Cell::number(y_digits.number(it.y), it.y),
        ]);
    }

    let head = vec![
        words("Images"),
        numbers("n"),
        numbers("Samples"),
        numbers("Pearson r"),
        numbers("Spearman ρ"),
        numbers("Kendall τ-b"),
    ];
    let mut correlations = Table::new(format!("Correlations of {} and {}", y.label, x.label), head);
    for (idx, row) in relation.rows.iter().enumerate() {
        let name = Cell::words(&row.over).sorting(format!("{idx:06}"));
        let class = row.family.map_or_else(|| "total".to_owned(), |it| format!("family f{}", it % 8));
        correlations.rows.push(vec![
            name.classed(class),
            Cell::number(format::thousands(row.n as u64), row.n as f64),
            Cell::number(format::thousands(row.n_samples as u64), row.n_samples as f64),
            coefficient(&row.pearson),
            coefficient(&row.spearman),
            coefficient(&row.kendall),
        ]);
    }
    let legend =
        relation.rows.iter().filter_map(|it| Some((format!("f{}", it.family? % 8), it.over.clone()))).collect();
    Some(Part {
        title: format!("{} against {}", y.label, format::lower_first(&x.label)),
        figure: Figure {
            title: String::new(),
            subtitle: String::new(),
            badge: None,
            svg: plot::scatter::chart(report, relation),
            alt: format!("{} against {}, one dot for each image. The tables have the numbers.", y.label, x.label),
            table: points,
        },
        legend,
        correlations,
        fit: relation.fit.as_ref().map_or_else(String::new, |it| fit(it, y_digits)),
        how: how(&relation.rows),
    })
}

fn coefficient(it: &Correlation) -> Cell {
    let digits = Digits::two();
    match it.value {
        Ok(value) => Cell::number(digits.number(value), value)
            .noting(it.interval.map(|it| digits.interval(&it)).unwrap_or_default()),
        Err(why) => Cell::absent("undefined").noting(why.to_string()),
    }
}

fn fit(it: &Fit, digits: Digits) -> String {
    let interval = it.interval.map(|it| format!(" {}", digits.interval(&it))).unwrap_or_default();
    format!(
        "Dashed: the line of least squares, y = {} + ({}) x; the slope's interval is{}.",
        digits.number(it.intercept),
        digits.number(it.slope),
        if interval.is_empty() { " not defined".to_owned() } else { interval },
    )
}

fn how(rows: &[RelationRow]) -> String {
    let is_used = |how| rows.iter().any(|it| it.pearson.how == how);
    let pearson = match (is_used(How::Fisher), is_used(How::Clustered)) {
        (true, true) => {
            "Pearson's by Fisher's z where each image is of another sample, else, as Spearman's and Kendall's, "
        }
        (true, false) => "Pearson's by Fisher's z, Spearman's and Kendall's ",
        _ => "All ",
    };
    format!("Intervals: {pearson}by percentile bootstrap over samples, whose images are drawn together.")
}
