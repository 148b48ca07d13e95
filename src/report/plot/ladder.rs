//! Score by level of damage: a thin line for each sample, a bold one for their mean.

use super::{Axis, Svg};
use crate::report::format;
use crate::report::view::{Ladder, LadderResult, Report, Verdict};

const WIDTH: f64 = 256.0;
const HEIGHT: f64 = 158.0;
const LEFT: f64 = 48.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 24.0;
/// More samples than this would hide each other; the mean is over all of them.
const MAX_THREADS: usize = 60;

/// The vertical axis that all ladders of one metric share: readers compare heights across them.
pub(in crate::report) fn shared_axis(report: &Report, metric: usize) -> Axis {
    let lines = report.ladders.iter().flat_map(|it| &it.results[metric].lines);
    Axis::over(lines.flat_map(|it| it.values.iter().copied().flatten()), (HEIGHT - BOTTOM)..TOP)
}

/// One metric on one ladder.
pub(in crate::report) fn chart(ladder: &Ladder, result: &LadderResult, y: &Axis) -> Svg {
    let mut svg = Svg::new(WIDTH as u32, HEIGHT as u32);
    let span = WIDTH - LEFT - RIGHT;
    let n_rungs = ladder.rungs.len();
    let x = |rung: usize| LEFT + span * (rung as f64 + 0.5) / n_rungs as f64;

    for (value, label) in y.ticks(5) {
        let at = y.at(value);
        svg.line("grid", (LEFT, at), (WIDTH - RIGHT, at));
        svg.text("tick end", (LEFT - 6.0, at + 3.5), &label);
    }
    svg.text("tick end", (LEFT - 6.0, HEIGHT - 7.0), format::parameter(&ladder.parameter));
    for (rung, it) in ladder.rungs.iter().enumerate() {
        svg.text("tick mid", (x(rung), HEIGHT - 7.0), &format::level(it.level));
    }

    for line in result.lines.iter().take(MAX_THREADS) {
        svg.path("thread", &points(line.values.iter().copied(), x, y));
    }
    let class = match result.verdict {
        Verdict::Right => "right",
        Verdict::Wrong => "wrong",
        Verdict::Unclear | Verdict::Undefined => "unclear",
    };
    let means = points(result.means.iter().map(|it| it.ok()), x, y);
    svg.path(&format!("mean {class}"), &means);
    svg.dots(&format!("mark {class}"), means);
    svg
}

fn points(values: impl Iterator<Item = Option<f64>>, x: impl Fn(usize) -> f64, y: &Axis) -> Vec<(f64, f64)> {
    values.enumerate().filter_map(|(rung, it)| Some((x(rung), y.at(it?)))).collect()
}
