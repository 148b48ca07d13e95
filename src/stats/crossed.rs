//! The mean of differences that vary with two things drawn by chance, such as training seeds and held-out pictures.

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

use super::significance::two_sided_student;
use super::{Defined, Interval, Undefined};

/// What a table of differences says of their mean.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Crossed {
    /// Rows: seeds, say.
    pub n_rows: usize,
    /// Columns: pictures, say.
    pub n_columns: usize,
    /// The mean of all cells.
    pub mean: f64,
    /// Its standard error.
    pub error: f64,
    /// Degrees of freedom.
    pub degrees: f64,
    /// Where the mean over all possible rows and columns lies, with a chance of 0.95.
    pub interval: Interval,
    /// The two-sided p-value of its being 0.
    pub p: f64,
}

/// The mean of a table (every row as long) whose rows and whose columns each have something in common: cell = mean + row
/// + column + rest, all three normal. The cells are not independent, so their number is no measure of certainty.
///
/// The variance of the mean is (S_row + S_column − S_rest)/(R·C) by the mean squares of the two-way analysis of variance,
/// where a factor whose mean square is below that of the rest is left out; Satterthwaite's degrees of freedom (1946), no
/// fewer than those of the shorter side. For a positive estimate of both it is what REML gives. With one row or one column
/// it is Student's interval over the cells, and says nothing about other rows or columns.
///
/// # Errors
/// Fewer than two cells, a cell that is not finite, or cells that are all equal.
pub fn crossed(table: &[Vec<f64>]) -> Defined<Crossed> {
    let (n_rows, n_columns) = (table.len(), table.first().map_or(0, Vec::len));
    assert!(table.iter().all(|it| it.len() == n_columns), "every row of a table is as long");
    if n_rows * n_columns < 2 {
        return Err(Undefined::TooFew);
    }
    if table.iter().flatten().any(|it| !it.is_finite()) {
        return Err(Undefined::NotFinite);
    }
    let (r, c) = (n_rows as f64, n_columns as f64);
    let mean = table.iter().flatten().sum::<f64>() / (r * c);
    let rows: Vec<f64> = table.iter().map(|it| it.iter().sum::<f64>() / c).collect();
    let columns: Vec<f64> = (0..n_columns).map(|at| table.iter().map(|it| it[at]).sum::<f64>() / r).collect();
    let of = |means: &[f64]| means.iter().map(|it| (it - mean).powi(2)).sum::<f64>();
    let (of_rows, of_columns) = (c * of(&rows) / (r - 1.0), r * of(&columns) / (c - 1.0));
    let (variance, degrees) = if n_rows == 1 {
        (of_columns / c, c - 1.0)
    } else if n_columns == 1 {
        (of_rows / r, r - 1.0)
    } else {
        let rest = table.iter().zip(&rows).flat_map(|(cells, row)| {
            cells.iter().zip(&columns).map(move |(cell, column)| (cell - row - column + mean).powi(2))
        });
        let rest = rest.sum::<f64>() / ((r - 1.0) * (c - 1.0));
        let (has_rows, has_columns) = (of_rows > rest, of_columns > rest);
        // Each mean square, how often it counts, and its degrees of freedom.
        let n_rest = 1.0 - f64::from(has_rows) - f64::from(has_columns);
        let squares = [
            (of_rows, f64::from(has_rows), r - 1.0),
            (of_columns, f64::from(has_columns), c - 1.0),
            (rest, n_rest, (r - 1.0) * (c - 1.0)),
        ];
        let sum: f64 = squares.iter().map(|it| it.0 * it.1).sum();
        let degrees = sum.powi(2) / squares.iter().map(|it| (it.0 * it.1).powi(2) / it.2).sum::<f64>();
        (sum / (r * c), degrees.max(r.min(c) - 1.0))
    };
    // What is left of equal numbers is rounding.
    let error = variance.max(0.0).sqrt();
    let most = table.iter().flatten().fold(0.0_f64, |most, it| most.max(it.abs()));
    if error <= 1e-14 * most {
        return Err(Undefined::Constant);
    }
    let student = StudentsT::new(0.0, 1.0, degrees).expect("degrees of freedom are positive");
    let reach = error * student.inverse_cdf(0.975);
    Ok(Crossed {
        n_rows,
        n_columns,
        mean,
        error,
        degrees,
        interval: Interval { low: mean - reach, high: mean + reach },
        p: two_sided_student(mean / error, degrees),
    })
}
