//! Means over nights: a line for each source, with its intervals.

use super::{Axis, Svg};
use crate::report::history::{Past, Series};
use crate::stats::Interval;

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 210.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 26.0;

/// A mean and its interval.
type Point = (f64, Option<Interval>);

/// One metric over the nights, the oldest first. `lines` are tonight's series and their colours.
pub(in crate::report) fn chart(nights: &[Past], lines: &[(&Series, usize)]) -> Svg {
    let mut svg = Svg::new(WIDTH as u32, HEIGHT as u32);
    let point = |night: &Past, of: &Series| {
        // Another definition's numbers are not on the same scale.
        let found = night.series.iter().find(|it| it.key() == of.key() && it.metric == of.metric)?;
        Some((found.mean?, found.interval))
    };
    let points: Vec<Vec<Option<Point>>> =
        lines.iter().map(|it| nights.iter().map(|night| point(night, it.0)).collect()).collect();
    let ends = points.iter().flatten().flatten().flat_map(|(mean, interval)| {
        let interval = interval.map_or([*mean; 2], |it| [it.low, it.high]);
        [*mean, interval[0], interval[1]]
    });
    let y = Axis::over(ends, (HEIGHT - BOTTOM)..TOP);
    for (value, label) in y.ticks(5) {
        let at = y.at(value);
        svg.line("grid", (LEFT, at), (WIDTH - RIGHT, at));
        svg.text("tick end", (LEFT - 6.0, at + 3.5), &label);
    }
    let n = nights.len();
    let x = |night: usize| LEFT + (WIDTH - LEFT - RIGHT) * (night as f64 + 0.5) / n as f64;
    for (idx, night) in nights.iter().enumerate().rev().step_by(n.div_ceil(6).max(1)) {
        svg.text("tick mid", (x(idx), HEIGHT - 8.0), night.at.get(5..10).unwrap_or_default());
    }
    for (line, points) in points.iter().enumerate() {
        let class = lines[line].1 % 8;
        // Lines that lie on each other stay visible.
        let shift = (line as f64 - (lines.len() as f64 - 1.0) / 2.0) * 1.5;
        for (idx, (_, interval)) in points.iter().enumerate().filter_map(|(idx, it)| Some((idx, (*it)?))) {
            if let Some(it) = interval {
                let at = x(idx) + shift;
                svg.line(&format!("reach f{class}"), (at, y.at(it.low)), (at, y.at(it.high)));
            }
        }
        // A night without the series breaks its line.
        for run in points.iter().enumerate().collect::<Vec<_>>().split(|it| it.1.is_none()) {
            let run: Vec<(f64, f64)> =
                run.iter().filter_map(|(idx, it)| Some((x(*idx) + shift, y.at((**it)?.0)))).collect();
            svg.path(&format!("trend f{class}"), &run);
            svg.dots(&format!("small f{class}"), run);
        }
    }
    svg
}
