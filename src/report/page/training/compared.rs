//! Trained models compared: held-out losses with significance, and what they make beside what was held out.

use crate::report::format::{self, Digits};
use crate::report::page::correlation::p_value;
use crate::report::table::{Cell, Table, numbers, words};
use crate::report::view::{Report, Tuning};

/// Held-out losses of settings, two by two.
pub(super) fn losses(tuning: &Tuning) -> Option<Table> {
    if tuning.differences.is_empty() {
        return None;
    }
    let head = vec![
        words("Setting"),
        words("Against"),
        numbers("Seeds"),
        numbers("Pictures"),
        numbers("Held-out loss").hinting("↓", "lower is better"),
        numbers("of the other").hinting("↓", "lower is better"),
        numbers("Difference")
            .hinting("", "the first less the second; beneath, its 95 % interval over seeds and pictures"),
        numbers("p"),
        numbers("p, Holm").hinting("", "adjusted over all rows"),
    ];
    let mut table = Table::new("Held-out losses compared", head);
    let losses = Digits::of(tuning.differences.iter().flat_map(|it| [it.first_mean, it.second_mean]));
    for it in &tuning.differences {
        let (difference, p) = match &it.difference {
            Ok(found) => {
                let digits = Digits::of([found.mean, found.interval.low, found.interval.high]);
                let mean = Cell::number(digits.signed(found.mean), found.mean);
                (mean.noting(digits.interval(&found.interval)), p_value(found.p))
            }
            Err(why) => (Cell::absent("undefined").noting(why.to_string()), Cell::absent("–")),
        };
        table.rows.push(vec![
            Cell::words(&it.first),
            Cell::words(it.second.as_deref().unwrap_or("before training")),
            Cell::number(it.n_seeds.to_string(), it.n_seeds as f64),
            Cell::number(it.n_pictures.to_string(), it.n_pictures as f64),
            Cell::number(losses.number(it.first_mean), it.first_mean),
            Cell::number(losses.number(it.second_mean), it.second_mean),
            difference,
            p,
            it.p_holm.map_or_else(|| Cell::absent("–"), p_value),
        ]);
    }
    Some(table)
}

/// What the models make beside what was held out.
pub(super) fn samples(report: &Report) -> Option<Table> {
    let rows = &report.tuning.samples;
    if rows.is_empty() {
        return None;
    }
    let head = vec![
        words("Model"),
        words("Metric"),
        numbers("Images"),
        numbers("Mean"),
        words("Held out"),
        numbers("Held-out pictures"),
        numbers("Their mean"),
        numbers("Distance").hinting("", "the model's mean less that of what was held out: nearer 0 is more alike"),
    ];
    let mut table = Table::new("What the models make beside what was held out", head);
    for it in rows {
        let same = rows.iter().filter(|other| other.metric == it.metric);
        let digits = Digits::of(same.flat_map(|it| [it.mean, it.held_out_mean]));
        table.rows.push(vec![
            Cell::words(&it.model),
            Cell::words(&report.metrics[it.metric].label),
            Cell::number(format::thousands(it.n as u64), it.n as f64),
            Cell::number(digits.number(it.mean), it.mean),
            Cell::words(&it.held_out),
            Cell::number(format::thousands(it.n_held_out as u64), it.n_held_out as f64),
            Cell::number(digits.number(it.held_out_mean), it.held_out_mean),
            Cell::number(digits.signed(it.distance), it.distance.abs()),
        ]);
    }
    Some(table)
}
