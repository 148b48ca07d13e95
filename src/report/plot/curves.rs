//! Curves over steps: a line for each model.

use super::{Axis, Svg};

const WIDTH: f64 = 344.0;
const HEIGHT: f64 = 200.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 26.0;

/// Lines with their classes, each a list of steps and values.
pub(in crate::report) fn chart(lines: &[(String, &[(u64, f64)])]) -> Svg {
    let mut svg = Svg::new(WIDTH as u32, HEIGHT as u32);
    let points = || lines.iter().flat_map(|it| it.1);
    // Steps are counted, never on a logarithmic axis.
    let steps = points().map(|it| it.0 as f64).chain([0.0]);
    let x = Axis::over(steps, LEFT..(WIDTH - RIGHT));
    let y = Axis::over(points().map(|it| it.1), (HEIGHT - BOTTOM)..TOP);
    for (value, label) in x.ticks(6).into_iter().filter(|it| it.0 >= 0.0) {
        svg.line("grid", (x.at(value), TOP), (x.at(value), HEIGHT - BOTTOM));
        svg.text("tick mid", (x.at(value), HEIGHT - 10.0), &label);
    }
    for (value, label) in y.ticks(6) {
        svg.line("grid", (LEFT, y.at(value)), (WIDTH - RIGHT, y.at(value)));
        svg.text("tick end", (LEFT - 6.0, y.at(value) + 3.5), &label);
    }
    for (class, line) in lines {
        let points: Vec<(f64, f64)> = line.iter().map(|it| (x.at(it.0 as f64), y.at(it.1))).collect();
        svg.path(&format!("curve {class}"), &points);
    }
    svg
}
