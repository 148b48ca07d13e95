//! One metric's scores source by source: a dot for each image, a box from quartile to quartile, the mean with its interval.

use super::{Axis, Svg, shortened};
use crate::report::view::Report;

const WIDTH: f64 = 344.0;
const SIDE: f64 = 8.0;
const ROW: f64 = 36.0;
const BOTTOM: f64 = 24.0;
const MAX_NAME: usize = 52;
/// More dots than this in one chart would be a bar, and heavy.
const MAX_DOTS: usize = 3_000;

/// Of how many images one gets a dot.
pub(in crate::report) fn thinning(report: &Report) -> usize {
    report.images.len().div_ceil(MAX_DOTS).max(1)
}

/// The scores of all sources by `metric`.
pub(in crate::report) fn chart(report: &Report, metric: usize) -> Svg {
    let rows: Vec<_> = report.sources.iter().filter(|it| !it.cells[metric].values.is_empty()).collect();
    let height = ROW * rows.len() as f64 + BOTTOM;
    let mut svg = Svg::new(WIDTH as u32, height as u32);
    let values = rows.iter().flat_map(|it| it.cells[metric].values.iter().copied());
    let x = Axis::over(values, SIDE..(WIDTH - SIDE));

    for (value, label) in x.ticks(6) {
        svg.line("grid", (x.at(value), 0.0), (x.at(value), height - BOTTOM + 3.0));
        svg.text("tick mid", (x.at(value), height - 8.0), &label);
    }
    for (idx, source) in rows.into_iter().enumerate() {
        let cell = &source.cells[metric];
        let (top, y) = (ROW * idx as f64, ROW * idx as f64 + 22.0);
        svg.text("name", (SIDE - 6.0, top + 11.0), &shortened(&source.name, MAX_NAME));
        if let Some([low, middle, high]) = cell.quartiles.filter(|_| cell.n > 3) {
            svg.rect("box", (x.at(low), y - 5.0), (x.at(high), y + 5.0));
            svg.line("median", (x.at(middle), y - 5.0), (x.at(middle), y + 5.0));
        }
        svg.dots(
            &format!("small f{}", source.family % 8),
            cell.values.iter().step_by(thinning(report)).map(|it| (x.at(*it), y)),
        );
        if let Some(interval) = cell.interval {
            svg.line("whisker", (x.at(interval.low), y + 7.0), (x.at(interval.high), y + 7.0));
        }
        if let Ok(mean) = cell.mean {
            svg.line("average", (x.at(mean), y + 4.0), (x.at(mean), y + 10.0));
        }
    }
    svg
}
