//! One metric's means model by model: a dot with its interval, filled for the first tier, the best on top.

use super::{Axis, Svg, shortened};
use crate::report::analysis::sign_of_goodness;
use crate::report::view::{Entrant, Report};

const WIDTH: f64 = 344.0;
const SIDE: f64 = 8.0;
const ROW: f64 = 30.0;
const BOTTOM: f64 = 24.0;
const MAX_NAME: usize = 48;

/// The entrants' means by `metric`.
pub(in crate::report) fn chart(report: &Report, metric: usize) -> Svg {
    let mut rows: Vec<&Entrant> = report.entrants.iter().filter(|it| it.standings[metric].mean.is_ok()).collect();
    let sign = report.metrics[metric].better.map_or(1.0, sign_of_goodness);
    let goodness = |it: &Entrant| it.standings[metric].mean.map_or(f64::NEG_INFINITY, |it| sign * it);
    rows.sort_by(|a, b| (a.model.is_none()).cmp(&b.model.is_none()).then(goodness(b).total_cmp(&goodness(a))));
    let ends = |it: &&Entrant| {
        let standing = &it.standings[metric];
        let interval = standing.interval.map(|it| [it.low, it.high]).unwrap_or([f64::NAN; 2]);
        [interval[0], standing.mean.unwrap_or(f64::NAN), interval[1]]
    };
    let x = Axis::over(rows.iter().flat_map(ends), SIDE..(WIDTH - SIDE));
    let height = ROW * rows.len() as f64 + BOTTOM;
    let mut svg = Svg::new(WIDTH as u32, height as u32);
    for (value, label) in x.ticks(6) {
        svg.line("grid", (x.at(value), 0.0), (x.at(value), height - BOTTOM + 3.0));
        svg.text("tick mid", (x.at(value), height - 8.0), &label);
    }
    for (idx, entrant) in rows.iter().enumerate() {
        let standing = &entrant.standings[metric];
        let (top, y) = (ROW * idx as f64, ROW * idx as f64 + 20.0);
        svg.text("name", (SIDE - 6.0, top + 11.0), &shortened(&entrant.name, MAX_NAME));
        let family = format!("f{}", entrant.family % 8);
        if let Some(interval) = standing.interval {
            svg.line(&format!("span {family}"), (x.at(interval.low), y), (x.at(interval.high), y));
        }
        if let Ok(mean) = standing.mean {
            svg.dots(&format!("knob {family}"), [(x.at(mean), y)]);
            if standing.tier.is_none_or(|it| it > 1) {
                svg.dots("hollow", [(x.at(mean), y)]);
            }
        }
    }
    svg
}
