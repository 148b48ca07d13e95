//! Charts as SVG: plotters finds scales and ticks, classes leave all colours to the page's style sheet.

pub(super) mod curves;
pub(super) mod forest;
pub(super) mod histogram;
pub(super) mod ladder;
pub(super) mod nights;
pub(super) mod opinion;
pub(super) mod scatter;
pub(super) mod strip;

use std::fmt::Write as _;
use std::ops::Range;

use askama::filters::{Html, escape};
use plotters::coord::ranged1d::Ranged;
use plotters::coord::types::RangedCoordf64;

use super::format::Digits;

/// Marks are placed to a tenth of a pixel.
const SUBPIXELS: f64 = 10.0;

/// A chart under construction: its size in pixels and what is drawn so far.
#[derive(Clone, Debug)]
pub(super) struct Svg {
    /// Width in pixels at which its text has the right size.
    pub(super) width: u32,
    /// Height in pixels.
    pub(super) height: u32,
    /// The elements, well-formed and escaped.
    pub(super) body: String,
}

impl Svg {
    pub(super) fn new(width: u32, height: u32) -> Self {
        Self { width, height, body: String::new() }
    }

    /// A straight line.
    pub(super) fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        self.path(class, &[from, to]);
    }

    /// A line through `points`; a single one is a dot where the class has round ends.
    pub(super) fn path(&mut self, class: &str, points: &[(f64, f64)]) {
        let mut data = String::new();
        for (idx, (x, y)) in points.iter().enumerate() {
            let _ = write!(data, "{}{} {}", if idx == 0 { 'M' } else { 'L' }, tenth(*x), tenth(*y));
        }
        if points.len() == 1 {
            data.push_str("h0");
        }
        if !points.is_empty() {
            let _ = write!(self.body, r#"<path class="{class}" d="{data}"/>"#);
        }
    }

    /// Dots in one element: their size is the class's stroke width.
    pub(super) fn dots(&mut self, class: &str, points: impl IntoIterator<Item = (f64, f64)>) {
        let mut data = String::new();
        for (x, y) in points {
            let _ = write!(data, "M{} {}h0", tenth(x), tenth(y));
        }
        if !data.is_empty() {
            let _ = write!(self.body, r#"<path class="dots {class}" d="{data}"/>"#);
        }
    }

    /// A rectangle.
    pub(super) fn rect(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let _ = write!(
            self.body,
            r#"<rect class="{class}" x="{}" y="{}" width="{}" height="{}"/>"#,
            tenth(from.0.min(to.0)),
            tenth(from.1.min(to.1)),
            tenth((to.0 - from.0).abs()),
            tenth((to.1 - from.1).abs()),
        );
    }

    /// Text whose `class` says how it is aligned.
    pub(super) fn text(&mut self, class: &str, at: (f64, f64), text: &str) {
        let text = escape(text, Html).map(|it| it.to_string()).unwrap_or_default();
        let _ = write!(self.body, r#"<text class="{class}" x="{}" y="{}">{text}</text>"#, tenth(at.0), tenth(at.1));
    }
}

fn tenth(pixels: f64) -> f64 {
    (pixels * 10.0).round() / 10.0
}

/// Maps values to pixels along one side of a chart.
#[derive(Clone)]
pub(super) struct Axis {
    coord: RangedCoordf64,
    pixels: Range<f64>,
    log: bool,
}

impl Axis {
    /// An axis over `values` with a little room at both ends.
    /// Positive values over more than three decades get a logarithmic one.
    pub(super) fn over(values: impl IntoIterator<Item = f64>, pixels: Range<f64>) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for it in values.into_iter().filter(|it| it.is_finite()) {
            (low, high) = (low.min(it), high.max(it));
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        let log = low > 0.0 && high / low > 1_000.0;
        if log {
            (low, high) = (low.log10(), high.log10());
        }
        let room = if high > low { (high - low) * 0.06 } else { low.abs().max(1.0) * 0.05 };
        Self { coord: ((low - room)..(high + room)).into(), pixels, log }
    }

    /// An axis from 0 to a little above the largest of `values`.
    pub(super) fn from_zero(values: impl IntoIterator<Item = f64>, pixels: Range<f64>) -> Self {
        let high = values.into_iter().filter(|it| it.is_finite()).fold(0.0, f64::max);
        let high = if high > 0.0 { high * 1.06 } else { 1.0 };
        Self { coord: (0.0..high).into(), pixels, log: false }
    }

    /// Where `value` lies, in pixels.
    pub(super) fn at(&self, value: f64) -> f64 {
        let limits = ((self.pixels.start * SUBPIXELS) as i32, (self.pixels.end * SUBPIXELS) as i32);
        f64::from(self.coord.map(&if self.log { value.log10() } else { value }, limits)) / SUBPIXELS
    }

    /// At most `n` round values and how they are written.
    pub(super) fn ticks(&self, n: usize) -> Vec<(f64, String)> {
        let points = self.coord.key_points(n);
        if self.log {
            let whole = points.into_iter().filter(|it| (it - it.round()).abs() < 1e-9);
            return whole.map(|it| (10_f64.powf(it), power_of_ten(it.round() as i32))).collect();
        }
        let step = points.windows(2).map(|it| it[1] - it[0]).fold(f64::INFINITY, f64::min);
        let digits = Digits::of_step(step);
        points.into_iter().map(|it| (it, digits.number(it))).collect()
    }
}

/// A name that fits beside a mark.
fn shortened(name: &str, most: usize) -> String {
    if name.chars().count() <= most {
        return name.to_owned();
    }
    name.chars().take(most - 1).chain(['…']).collect()
}

fn power_of_ten(exponent: i32) -> String {
    match exponent {
        0..=4 => format!("{}", 10_u32.pow(exponent.unsigned_abs())),
        -3..=-1 => format!("{:.*}", exponent.unsigned_abs() as usize, 10_f64.powi(exponent)),
        _ => format!("1e{exponent}").replace('-', "\u{2212}"),
    }
}
