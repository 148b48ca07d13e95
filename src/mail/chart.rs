//! Charts of a mail: drawn as SVG, turned into PNG with a font of our own, since a bare machine has none.

use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};

use anyhow::Context;
use plotters::coord::ranged1d::Ranged;
use plotters::coord::types::RangedCoordf64;
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree, fontdb::Database};

use crate::report::history::words::Column;
use crate::stats::Interval;

/// Width of a chart in the mail, in pixels.
pub const WIDTH: u32 = 600;
/// Screens of phones and laptops show two pixels for one.
const SCALE: f32 = 2.0;
/// Colours that people with any colour vision tell apart (Okabe and Ito 2008).
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9", "#333333"];
/// The most lines of a chart: more cannot be told apart.
pub const MOST_LINES: usize = COLOURS.len();

const LEFT: f64 = 64.0;
const TOP: f64 = 34.0;
const PLOT_HEIGHT: f64 = 170.0;
const LEGEND_ROW: f64 = 19.0;

/// One value of a line and its interval.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// The mean.
    pub value: f64,
    /// Its interval.
    pub interval: Option<Interval>,
}

/// Some values over the nights.
#[derive(Clone, Debug)]
pub struct Line {
    /// What the legend says.
    pub name: String,
    /// One for each night; none where there is none.
    pub points: Vec<Option<Point>>,
}

/// Means over nights.
#[derive(Clone, Debug)]
pub struct OverNights {
    /// What is shown.
    pub title: String,
    /// The nights, the oldest first.
    pub nights: Vec<String>,
    /// At most [`MOST_LINES`].
    pub lines: Vec<Line>,
}

/// Tonight's means, one below the other.
#[derive(Clone, Debug)]
pub struct Tonight {
    /// What is shown.
    pub title: String,
    /// Name and mean.
    pub rows: Vec<(String, Point)>,
}

impl OverNights {
    /// The chart as SVG.
    pub fn svg(&self) -> String {
        let n_rows = self.lines.len().div_ceil(2);
        let legend = TOP + PLOT_HEIGHT + 34.0;
        let height = legend + LEGEND_ROW * n_rows as f64;
        let mut svg = start(height, &self.title);
        let values = self.lines.iter().flat_map(|it| it.points.iter().flatten());
        let y = Scale::over(values, TOP + PLOT_HEIGHT, TOP);
        let right = f64::from(WIDTH) - 18.0;
        for (value, label) in y.ticks(5) {
            let _ = write!(svg, r##"<path d="M{LEFT} {0:.1}H{right}" stroke="#e2e5e9"/>"##, y.at(value));
            text(&mut svg, LEFT - 8.0, y.at(value) + 4.0, "end", "#57606a", 11, &label);
        }
        let n = self.nights.len();
        let x = |night: usize| {
            let inner = right - LEFT - 24.0;
            LEFT + 12.0 + if n > 1 { inner * night as f64 / (n - 1) as f64 } else { inner / 2.0 }
        };
        for idx in shown(n) {
            text(&mut svg, x(idx), TOP + PLOT_HEIGHT + 18.0, "middle", "#57606a", 11, &self.nights[idx]);
        }
        for (idx, line) in self.lines.iter().enumerate().take(MOST_LINES) {
            let colour = COLOURS[idx];
            // Lines that lie on each other stay visible.
            let shift = (idx as f64 - (self.lines.len() as f64 - 1.0) / 2.0) * 2.0;
            let mut path = String::new();
            let mut is_down = false;
            for (night, point) in line.points.iter().enumerate() {
                let Some(point) = point else {
                    is_down = false;
                    continue;
                };
                let (at, height) = (x(night) + shift, y.at(point.value));
                let _ = write!(path, "{}{at:.1} {height:.1}", if is_down { 'L' } else { 'M' });
                is_down = true;
                if let Some(it) = point.interval {
                    let (low, high) = (y.at(it.low), y.at(it.high));
                    let _ = write!(
                        svg,
                        r#"<path d="M{at:.1} {low:.1}V{high:.1}" stroke="{colour}" stroke-opacity=".45" stroke-width="2"/>"#
                    );
                }
                svg += &mark(idx, at, height, colour);
            }
            let _ = write!(
                svg,
                r#"<path d="{path}" fill="none" stroke="{colour}" stroke-width="2" stroke-linejoin="round"/>"#
            );
            let (column, row) = (idx % 2, idx / 2);
            let (left, top) = (LEFT + 260.0 * column as f64, legend + LEGEND_ROW * row as f64);
            svg += &mark(idx, left, top, colour);
            text(&mut svg, left + 12.0, top + 4.0, "start", "#1f2328", 12, &shortened(&line.name, 36));
        }
        svg + "</svg>"
    }
}

impl Tonight {
    /// The chart as SVG.
    pub fn svg(&self) -> String {
        const ROW: f64 = 24.0;
        let height = TOP + ROW * self.rows.len() as f64 + 28.0;
        let left = 220.0;
        let mut svg = start(height, &self.title);
        let x = Scale::over(self.rows.iter().map(|it| &it.1), left, f64::from(WIDTH) - 24.0);
        for (value, label) in x.ticks(5) {
            let _ = write!(svg, r##"<path d="M{:.1} {TOP}V{:.1}" stroke="#e2e5e9"/>"##, x.at(value), height - 24.0);
            text(&mut svg, x.at(value), height - 8.0, "middle", "#57606a", 11, &label);
        }
        for (idx, (name, point)) in self.rows.iter().enumerate() {
            let y = TOP + ROW * (idx as f64 + 0.5);
            text(&mut svg, left - 14.0, y + 4.0, "end", "#1f2328", 12, &shortened(name, 30));
            if let Some(it) = point.interval {
                let (low, high) = (x.at(it.low), x.at(it.high));
                let _ = write!(svg, r#"<path d="M{low:.1} {y}H{high:.1}" stroke="{}" stroke-width="2"/>"#, COLOURS[0]);
            }
            svg += &mark(0, x.at(point.value), y, COLOURS[0]);
        }
        svg + "</svg>"
    }
}

/// An SVG's beginning: white ground and a title.
fn start(height: f64, title: &str) -> String {
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0}" viewBox="0 0 {WIDTH} {height:.0}" font-family="DejaVu Sans"><rect width="100%" height="100%" fill="#ffffff"/>"##
    );
    let _ = write!(
        svg,
        r##"<text x="16" y="21" font-size="13" font-weight="bold" fill="#1f2328">{}</text>"##,
        escaped(&shortened(title, 70))
    );
    svg
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, colour: &str, size: u32, text: &str) {
    let _ = write!(
        svg,
        r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" fill="{colour}" font-size="{size}">{}</text>"#,
        escaped(text)
    );
}

/// A mark of another shape for each line, for those who do not see its colour.
fn mark(idx: usize, x: f64, y: f64, colour: &str) -> String {
    let path = match idx % 4 {
        0 => return format!(r#"<circle cx="{x:.1}" cy="{y:.1}" r="4" fill="{colour}"/>"#),
        1 => format!("M{:.1} {:.1}h7v7h-7z", x - 3.5, y - 3.5),
        2 => format!("M{x:.1} {:.1}l4.6 8h-9.2z", y - 5.0),
        _ => format!("M{x:.1} {:.1}l5 5l-5 5l-5 -5z", y - 5.0),
    };
    format!(r#"<path d="{path}" fill="{colour}"/>"#)
}

/// Which of `n` nights are named below the chart: the last, and a few before it at equal steps.
fn shown(n: usize) -> Vec<usize> {
    if n <= 6 {
        return (0..n).collect();
    }
    let step = (n - 1).div_ceil(5);
    (0..n).rev().step_by(step).collect()
}

/// A text of at most `n` characters.
fn shortened(text: &str, n: usize) -> String {
    if text.chars().count() <= n { text.to_owned() } else { text.chars().take(n - 1).chain(['…']).collect() }
}

/// As XML has it, without the characters that it may not have.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for it in text.chars() {
        match it {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            it if it.is_control() || matches!(it, '\u{fffe}' | '\u{ffff}') => out.push(' '),
            it => out.push(it),
        }
    }
    out
}

/// From values to pixels.
struct Scale {
    coord: RangedCoordf64,
    low: f64,
    high: f64,
    pixels: (f64, f64),
}

impl Scale {
    fn over<'a>(points: impl Iterator<Item = &'a Point>, from: f64, to: f64) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for point in points {
            let ends = point.interval.map_or([point.value; 2], |it| [it.low, it.high]);
            for it in ends.into_iter().chain([point.value]).filter(|it| it.is_finite()) {
                (low, high) = (low.min(it), high.max(it));
            }
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        let room = if high > low { (high - low) * 0.08 } else { low.abs().max(1.0) * 0.05 };
        (low, high) = (low - room, high + room);
        Self { coord: (low..high).into(), low, high, pixels: (from, to) }
    }

    fn at(&self, value: f64) -> f64 {
        let share = (value - self.low) / (self.high - self.low);
        self.pixels.0 + share * (self.pixels.1 - self.pixels.0)
    }

    fn ticks(&self, n: usize) -> Vec<(f64, String)> {
        let points = self.coord.key_points(n);
        let column = Column::of_step(&points);
        points.into_iter().map(|it| (it, column.number(it))).collect()
    }
}

/// A picture of the chart, twice as wide as it is shown.
///
/// # Errors
/// The SVG is none.
pub fn png(svg: &str) -> anyhow::Result<Vec<u8>> {
    static FONTS: OnceLock<Arc<Database>> = OnceLock::new();
    let fonts = FONTS.get_or_init(|| {
        let mut fonts = Database::new();
        fonts.load_font_data(include_bytes!("../../templates/fonts/DejaVuSans.ttf").to_vec());
        fonts.load_font_data(include_bytes!("../../templates/fonts/DejaVuSans-Bold.ttf").to_vec());
        Arc::new(fonts)
    });
    let options = Options { fontdb: fonts.clone(), font_family: "DejaVu Sans".to_owned(), ..Options::default() };
    let tree = Tree::from_str(svg, &options).context("read the chart")?;
    let size = tree.size().to_int_size().scale_by(SCALE).context("the chart has no size")?;
    let mut pixels = Pixmap::new(size.width(), size.height()).context("the chart is too large")?;
    resvg::render(&tree, Transform::from_scale(SCALE, SCALE), &mut pixels.as_mut());
    // The ground is opaque: no pixel is translucent.
    let rgb: Vec<u8> = pixels.data().chunks_exact(4).flat_map(|it| [it[0], it[1], it[2]]).collect();
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, size.width(), size.height());
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::High);
    let mut writer = encoder.write_header().context("encode the chart")?;
    writer.write_image_data(&rgb).context("encode the chart")?;
    writer.finish().context("encode the chart")?;
    Ok(bytes)
}
