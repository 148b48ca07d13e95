//! Opinions against one metric, with the fitted curve; and win rates as bars.

use super::{Axis, Svg};
use crate::report::view::{OpinionRow, Preference};

const WIDTH: f64 = 340.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 44.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 38.0;
/// More dots than these are a cloud.
const MOST_DOTS: usize = 1_500;
const BAR: f64 = 18.0;
const GAP: f64 = 12.0;

/// One dot a picture.
pub(in crate::report) fn scatter(row: &OpinionRow, x_label: &str, y_label: &str) -> Svg {
    let mut svg = Svg::new(WIDTH as u32, HEIGHT as u32);
    let x = Axis::over(row.points.iter().map(|it| it.0), LEFT..(WIDTH - RIGHT));
    let y = Axis::over(row.points.iter().map(|it| it.1), (HEIGHT - BOTTOM)..TOP);
    for (value, label) in x.ticks(6) {
        svg.line("grid", (x.at(value), TOP), (x.at(value), HEIGHT - BOTTOM));
        svg.text("tick mid", (x.at(value), HEIGHT - BOTTOM + 15.0), &label);
    }
    for (value, label) in y.ticks(6) {
        svg.line("grid", (LEFT, y.at(value)), (WIDTH - RIGHT, y.at(value)));
        svg.text("tick end", (LEFT - 6.0, y.at(value) + 3.5), &label);
    }
    let every = row.points.len().div_ceil(MOST_DOTS).max(1);
    svg.dots("small f0", row.points.iter().step_by(every).map(|it| (x.at(it.0), y.at(it.1))));
    if let Some(fit) = row.fit {
        let (low, high) =
            row.points.iter().fold((f64::MAX, f64::MIN), |(low, high), it| (low.min(it.0), high.max(it.0)));
        let at = |step: i32| low + (high - low) * f64::from(step) / 60.0;
        let (least, most) =
            row.points.iter().fold((f64::MAX, f64::MIN), |(low, high), it| (low.min(it.1), high.max(it.1)));
        // A curve that leaves the data's range would leave the chart.
        let curve: Vec<(f64, f64)> =
            (0..=60).map(|it| (x.at(at(it)), y.at(fit.at(at(it)).clamp(least, most)))).collect();
        svg.path("average", &curve);
    }
    svg.text("axis end", (WIDTH - RIGHT, HEIGHT - 5.0), &format!("{x_label} →"));
    svg.text("axis start", (2.0, 12.0), &format!("↑ {y_label}"));
    svg
}

/// One bar a row, from wins of the first on the left to wins of the second on the right, ties between them.
pub(in crate::report) fn bars(rows: &[&Preference]) -> Svg {
    const LABEL: f64 = 190.0;
    const ALL: f64 = 560.0;
    let height = rows.len() as f64 * (BAR + GAP + 14.0) + 8.0;
    let mut svg = Svg::new(ALL as u32, height.ceil() as u32);
    for (idx, row) in rows.iter().enumerate() {
        let top = idx as f64 * (BAR + GAP + 14.0) + 14.0;
        let n = row.tally.n().max(1) as f64;
        let (wins, ties) = (row.tally.wins as f64 / n, row.tally.ties as f64 / n);
        let at = |share: f64| LABEL + share * (ALL - LABEL);
        svg.text(
            "name end",
            (LABEL - 8.0, top + BAR - 5.0),
            &format!("{} · {}", short(&row.aspect), short(&row.by.name)),
        );
        svg.text("tick start", (LABEL, top - 3.0), &format!("{} {:.0} %", short(&row.first), wins * 100.0));
        svg.text("tick end", (ALL, top - 3.0), &format!("{} {:.0} %", short(&row.second), (1.0 - wins - ties) * 100.0));
        for (class, from, to) in [("bar f0", 0.0, wins), ("box", wins, wins + ties), ("bar f1", wins + ties, 1.0)] {
            if to > from {
                svg.rect(class, (at(from), top), (at(to), top + BAR));
            }
        }
        if let Some(interval) = row.interval {
            svg.line("whisker", (at(interval.low), top + BAR + 4.0), (at(interval.high), top + BAR + 4.0));
            if let Ok(rate) = row.win_rate {
                svg.line("average", (at(rate), top - 1.0), (at(rate), top + BAR + 7.0));
            }
        }
    }
    svg
}

fn short(text: &str) -> String {
    if text.chars().count() <= 24 { text.to_owned() } else { text.chars().take(23).chain(['…']).collect() }
}
