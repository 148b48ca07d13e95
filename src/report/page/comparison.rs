//! Models compared two by two, in pairs and set against set: mean differences with intervals, tests, effects.

use super::correlation::p_value;
use crate::report::format::{self, Digits};
use crate::report::table::{Cell, Table, numbers, words};
use crate::report::view::Report;

/// The comparisons, those of one metric together; none where fewer than two models have scores.
pub(super) fn table(report: &Report) -> Option<Table> {
    if report.comparisons.is_empty() {
        return None;
    }
    let head = vec![
        words("Metric"),
        words("First"),
        words("Second"),
        numbers("Pairs"),
        numbers("Mean difference").hinting("", "first less second"),
        numbers("p").hinting("", "Wilcoxon's signed ranks"),
        numbers("p, Holm").hinting("", "adjusted over all rows"),
        numbers("p, permuted").hinting("", "paired permutation of the mean"),
        numbers("Effect").hinting("dz", "Cohen's d of the differences; beneath, the rank-biserial correlation"),
        numbers("Visible from")
            .hinting("", "the smallest mean difference that so many pairs show with a chance of 80 % at level 0.05"),
    ];
    let mut table = Table::new("Models compared pair by pair", head);
    for it in &report.comparisons {
        let found = &it.comparison;
        let digits =
            Digits::of(found.mean.iter().copied().chain(found.interval.iter().flat_map(|it| [it.low, it.high])));
        let column = &report.metrics[it.metric];
        let label = format!("{} {}", column.label, format::arrow(column.better));
        let undefined = |why: &crate::stats::Undefined| Cell::absent("undefined").noting(why.to_string());
        let mean = match &found.mean {
            Ok(mean) => Cell::number(digits.number(*mean), *mean)
                .noting(found.interval.map_or_else(|| "no interval".to_owned(), |it| digits.interval(&it))),
            Err(why) => undefined(why),
        };
        let effect = match (&found.cohens_dz, &found.rank_biserial) {
            (Ok(dz), Ok(r)) => Cell::number(Digits::two().number(*dz), *dz).noting(Digits::two().number(*r)),
            (Err(why), _) | (_, Err(why)) => undefined(why),
        };
        let visible = match &found.smallest_detectable {
            Ok(value) => Cell::number(digits.number(*value), *value),
            Err(why) => undefined(why),
        };
        let n = Cell::number(format::thousands(found.n as u64), found.n as f64);
        table.rows.push(vec![
            Cell::words(label),
            Cell::words(&report.entrants[it.first].name),
            Cell::words(&report.entrants[it.second].name),
            if it.by_seed { n.noting("seed by seed") } else { n },
            mean,
            found.wilcoxon.as_ref().map_or_else(undefined, |it| p_value(it.p)),
            it.p_holm.map_or_else(|| Cell::absent("–"), p_value),
            found.permutation.as_ref().map_or_else(undefined, |it| p_value(it.p)),
            effect,
            visible,
        ]);
    }
    Some(table)
}

/// Those that have no sample in common; none where there are no such.
pub(super) fn unpaired(report: &Report) -> Option<Table> {
    if report.unpaired.is_empty() {
        return None;
    }
    let head = vec![
        words("Metric"),
        words("First"),
        words("Second"),
        numbers("Samples"),
        numbers("Mean of the first"),
        numbers("Mean of the second"),
        numbers("Difference").hinting("", "first less second"),
        numbers("p").hinting("", "bootstrap: how often the sign turns"),
        numbers("p, Holm").hinting("", "adjusted over all rows"),
    ];
    let mut table = Table::new("Models that have no sample in common, set against set", head);
    for it in &report.unpaired {
        let ends = it.interval.iter().flat_map(|it| [it.low, it.high]);
        let digits = Digits::of(it.means.into_iter().chain([it.difference]).chain(ends));
        let column = &report.metrics[it.metric];
        let number = |value: f64| Cell::number(digits.number(value), value);
        let p = |it: Option<f64>| it.map_or_else(|| Cell::absent("–"), p_value);
        table.rows.push(vec![
            Cell::words(format!("{} {}", column.label, format::arrow(column.better))),
            Cell::words(&report.entrants[it.first].name),
            Cell::words(&report.entrants[it.second].name),
            Cell::number(it.n.map(|it| format::thousands(it as u64)).join(" and "), it.n[0] as f64),
            number(it.means[0]),
            number(it.means[1]),
            number(it.difference)
                .noting(it.interval.map_or_else(|| "no interval".to_owned(), |it| digits.interval(&it))),
            p(it.p),
            p(it.p_holm),
        ]);
    }
    Some(table)
}
