//! How many pictures have which height or width: bars side by side, a colour for each set.

use super::{Axis, Svg};

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 200.0;
const LEFT: f64 = 44.0;
const RIGHT: f64 = 8.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 38.0;
const MOST_LABELS: usize = 10;

/// One set's bars: the class of its colour and its counts, the first of which is of 0 to `bin` pixels.
pub(in crate::report) struct Bars<'a> {
    pub(in crate::report) class: String,
    pub(in crate::report) counts: &'a [usize],
}

/// The sets' shares in each bin: sets of unlike size are compared by their shape.
pub(in crate::report) fn chart(sets: &[Bars<'_>], bin: u32, label: &str) -> Svg {
    let mut svg = Svg::new(WIDTH as u32, HEIGHT as u32);
    let first = sets.iter().filter_map(|it| it.counts.iter().position(|n| *n > 0)).min().unwrap_or(0);
    let end = sets.iter().map(|it| it.counts.len()).max().unwrap_or(0).max(first + 1);
    let share = |it: &Bars, at: usize| {
        let all: usize = it.counts.iter().sum();
        100.0 * it.counts.get(at).copied().unwrap_or(0) as f64 / all.max(1) as f64
    };
    let shares = sets.iter().flat_map(|it| (first..end).map(|at| share(it, at)));
    let y = Axis::from_zero(shares, (HEIGHT - BOTTOM)..TOP);
    for (value, label) in y.ticks(4) {
        svg.line("grid", (LEFT, y.at(value)), (WIDTH - RIGHT, y.at(value)));
        svg.text("tick end", (LEFT - 6.0, y.at(value) + 3.5), &format!("{label} %"));
    }
    let step = (WIDTH - LEFT - RIGHT) / (end - first) as f64;
    let every = (end - first).div_ceil(MOST_LABELS);
    for (place, at) in (first..end).enumerate() {
        let left = LEFT + step * place as f64;
        if place % every == 0 {
            svg.text("tick start", (left, HEIGHT - BOTTOM + 15.0), &(at as u32 * bin).to_string());
        }
        let width = step * 0.86 / sets.len() as f64;
        for (idx, set) in sets.iter().enumerate().filter(|(_, it)| share(it, at) > 0.0) {
            let from = left + step * 0.07 + width * idx as f64;
            svg.rect(&format!("bar {}", set.class), (from, y.at(0.0)), (from + width, y.at(share(set, at))));
        }
    }
    svg.text("axis end", (WIDTH - RIGHT, HEIGHT - 4.0), label);
    svg
}
