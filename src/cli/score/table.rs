//! Scores as a table for people, with a progress bar while they wait.

use std::io;

use comfy_table::Cell;
use indicatif::{ProgressBar, ProgressStyle};

use super::inputs::Input;
use super::work::Work;
use super::{Lines, Outcome, Totals};
use crate::cli::lines::{right, table};
use crate::metrics::Metric;

/// Scores everything, then prints the table; faults go to standard error.
pub fn print(work: &Work, inputs: &[Input], sets: &[String]) -> io::Result<Outcome> {
    // Hidden by itself when standard error is no terminal.
    let bar = ProgressBar::new(inputs.len() as u64);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} images, {eta} left").expect("the template is valid");
    bar.set_style(style);
    let mut totals = Totals::new(work.wanted, sets);
    let mut of_images = table(&["image", "metric", "value", ""]);
    let mut faults = Vec::new();
    work.each(inputs, |done| {
        bar.inc(1);
        totals.add(&done);
        for (i, score) in done.scores.iter().enumerate() {
            let (value, why) = match &score.value {
                Ok(value) => (number(*value, score.metric), ""),
                Err(why) => ("undefined".to_owned(), why.as_str()),
            };
            let remark = score.note.as_deref().unwrap_or(why);
            let path = if i == 0 { done.path.as_str() } else { "" };
            of_images.add_row([Cell::new(path), Cell::new(name(score.metric)), right(value), Cell::new(remark)]);
        }
        faults.extend(done.errors.iter().map(|error| format!("error: {}: {error}", done.path)));
        Ok(())
    })?;
    bar.finish_and_clear();
    let mut of_sets = table(&["set", "metric", "value", "images"]);
    for total in totals.iter() {
        let value = total.value.map_or_else(|| "undefined".to_owned(), |it| number(it, total.metric));
        of_sets.add_row([
            Cell::new(total.set),
            Cell::new(name(total.metric)),
            right(value),
            right(total.n.to_string()),
        ]);
    }
    for fault in faults {
        eprintln!("{fault}");
    }
    let mut out = Lines::new();
    for table in [of_images, of_sets].iter().filter(|it| !it.is_empty()) {
        out.text(&table.to_string())?;
    }
    Ok(totals.outcome())
}

fn name(metric: &Metric) -> String {
    format!("{}:{}", metric.name, metric.variant)
}

fn number(value: f64, metric: &Metric) -> String {
    format!("{value:.6} {}", metric.unit).trim_end().to_owned()
}
