//! Two metrics against each other: a dot for each image, coloured by family.

use super::strip::thinning;
use super::{Axis, Svg};
use crate::report::view::{Relation, Report};

const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 50.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 22.0;
const BOTTOM: f64 = 42.0;

/// The relation as a scatter plot.
pub(in crate::report) fn chart(report: &Report, relation: &Relation) -> Svg {
    let mut svg = Svg::new(WIDTH as u32, HEIGHT as u32);
    let x = Axis::over(relation.points.iter().map(|it| it.x), LEFT..(WIDTH - RIGHT));
    let y = Axis::over(relation.points.iter().map(|it| it.y), (HEIGHT - BOTTOM)..TOP);
    for (value, label) in x.ticks(8) {
        svg.line("grid", (x.at(value), TOP), (x.at(value), HEIGHT - BOTTOM));
        svg.text("tick mid", (x.at(value), HEIGHT - BOTTOM + 16.0), &label);
    }
    for (value, label) in y.ticks(7) {
        svg.line("grid", (LEFT, y.at(value)), (WIDTH - RIGHT, y.at(value)));
        svg.text("tick end", (LEFT - 6.0, y.at(value) + 3.5), &label);
    }
    let n_families = report.sources.iter().map(|it| it.family + 1).max().unwrap_or(0);
    for family in 0..n_families {
        let of_family = relation.points.iter().filter(|it| report.sources[it.source].family == family);
        let some_of_family = of_family.step_by(thinning(report));
        svg.dots(&format!("big f{}", family % 8), some_of_family.map(|it| (x.at(it.x), y.at(it.y))));
    }
    if let Some(fit) = &relation.fit {
        let at = |x: f64| fit.intercept + fit.slope * x;
        let ends = relation
            .points
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), it| (low.min(it.x), high.max(it.x)));
        // Straight where both axes are; a logarithmic one bends it.
        let steps = (0..=32).map(|it| ends.0 + (ends.1 - ends.0) * f64::from(it) / 32.0);
        let inside = relation
            .points
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), it| (low.min(it.y), high.max(it.y)));
        let line: Vec<(f64, f64)> =
            steps.filter(|it| (inside.0..=inside.1).contains(&at(*it))).map(|it| (x.at(it), y.at(at(it)))).collect();
        svg.path("fit", &line);
    }
    svg.text("axis end", (WIDTH - RIGHT, HEIGHT - 6.0), &format!("{} →", report.metrics[relation.x].label));
    svg.text("axis start", (2.0, 12.0), &format!("↑ {}", report.metrics[relation.y].label));
    svg
}
