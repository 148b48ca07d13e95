//! How numbers, times and names are written in a report.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

use crate::job::task::MetricId;
use crate::metrics::Better;
use crate::stats::Interval;

/// What people call a metric: `GLCM score`, and with its variant where that is not the default, `SSIM · skimage`.
pub(super) fn metric_label(id: &MetricId, is_default: bool) -> String {
    let label = metric_name(&id.metric);
    if is_default { label } else { format!("{label} · {}", id.variant.replace('_', " ")) }
}

/// What people call a metric, whatever its variant.
pub(super) fn metric_name(name: &str) -> String {
    let mut label = String::new();
    for (idx, word) in name.split('_').enumerate() {
        let word = match word {
            "glcm" | "psnr" | "ssim" | "nmse" | "fid" | "lpips" | "musiq" | "maniqa" | "clip" => word.to_uppercase(),
            _ if idx == 0 => capitalised(word),
            _ => word.to_owned(),
        };
        label += if idx == 0 { "" } else { " " };
        label += &word;
    }
    label
}

/// With a capital at its start.
pub(super) fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |it| it.to_uppercase().chain(chars).collect())
}

/// With a small letter at its start, as in the middle of a sentence; abbreviations keep theirs.
pub(super) fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), text.chars().nth(1)) {
        (Some(first), Some(second)) if !second.is_uppercase() => first.to_lowercase().chain(chars).collect(),
        _ => text.to_owned(),
    }
}

/// How many decimals the numbers of one column have, so that they align.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Digits {
    n_decimals: usize,
}

impl Digits {
    /// Four significant digits of the largest of `values`.
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let largest = values.into_iter().fold(0.0, |most: f64, it| most.max(it.abs()));
        let magnitude = if largest > 0.0 && largest.is_finite() { largest.log10().floor() } else { 0.0 };
        Self { n_decimals: (3.0 - magnitude).clamp(0.0, 6.0) as usize }
    }

    /// As many as ticks need that lie `step` apart.
    pub(super) fn of_step(step: f64) -> Self {
        let exact = |n: &usize| {
            let scaled = step * 10_f64.powi(*n as i32);
            (scaled - scaled.round()).abs() < 1e-6 * scaled
        };
        Self { n_decimals: (0..8).find(exact).unwrap_or(8) }
    }

    /// Two decimals, as correlations are written.
    pub(super) fn two() -> Self {
        Self { n_decimals: 2 }
    }

    /// `value` with these decimals, or with three significant digits where they would leave fewer than two of it; with two
    /// decimals, as many numbers are wanted, it may come to 0.00, and with fewer to one digit, but not to none.
    pub(super) fn number(self, value: f64) -> String {
        let smallest = match self.n_decimals {
            0 | 1 => 10_f64.powi(-(self.n_decimals as i32)),
            2 => 0.0,
            n => 10_f64.powi(1 - n as i32),
        };
        let text = if value == 0.0 || value.abs() >= smallest {
            format!("{value:.*}", self.n_decimals)
        } else {
            significant(value)
        };
        let is_zero = text.bytes().all(|it| matches!(it, b'-' | b'0' | b'.'));
        if is_zero { text.replace('-', "") } else { text.replace('-', "\u{2212}") }
    }

    /// `value` with its sign, whichever it is.
    pub(super) fn signed(self, value: f64) -> String {
        let text = self.number(value);
        if text.starts_with('\u{2212}') || value == 0.0 { text } else { format!("+{text}") }
    }

    /// `[low, high]`.
    pub(super) fn interval(self, it: &Interval) -> String {
        format!("[{}, {}]", self.number(it.low), self.number(it.high))
    }
}

/// Three significant digits: 0.00123, and 1.23e-7 below a ten-thousandth.
fn significant(value: f64) -> String {
    let magnitude = value.abs().log10().floor();
    if magnitude < -4.0 { format!("{value:.2e}") } else { format!("{value:.*}", (2.0 - magnitude) as usize) }
}

/// ↑ where higher is better, ↓ where lower is.
pub(super) fn arrow(better: Option<Better>) -> &'static str {
    match better {
        Some(Better::Higher) => "↑",
        Some(Better::Lower) => "↓",
        None => "",
    }
}

/// [`arrow`] in words.
pub(super) fn arrow_words(better: Option<Better>) -> &'static str {
    match better {
        Some(Better::Higher) => "higher is better",
        Some(Better::Lower) => "lower is better",
        None => "it is not known which way is better",
    }
}

/// `1 image`, `1,234 images`.
pub(super) fn count(n: usize, what: &str) -> String {
    let ending = match n {
        1 => "",
        _ if what.ends_with("ch") => "es",
        _ => "s",
    };
    format!("{} {what}{ending}", thousands(n as u64))
}

/// 1234567 as `1,234,567`.
pub(super) fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (idx, digit) in digits.chars().enumerate() {
        if idx > 0 && (digits.len() - idx).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `a, b and c`.
pub(super) fn list(items: &[impl AsRef<str>]) -> String {
    match items {
        [] => String::new(),
        [only] => only.as_ref().to_owned(),
        [most @ .., last] => {
            let most: Vec<&str> = most.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", most.join(", "), last.as_ref())
        }
    }
}

/// The first four, and how many more there are.
pub(super) fn few(items: &[impl AsRef<str>]) -> String {
    const SHOWN: usize = 4;
    if items.len() <= SHOWN {
        return list(items);
    }
    let first: Vec<&str> = items[..SHOWN].iter().map(AsRef::as_ref).collect();
    format!("{} and {} more", first.join(", "), items.len() - SHOWN)
}

/// `8.4 s`, `2 min 13 s`, `3 h 5 min`.
pub(super) fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3_600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", thousands(whole / 3_600), whole % 3_600 / 60),
    }
}

/// `22 November 2026, 19:52 UTC` from RFC 3339; anything else stays as it is.
pub(super) fn moment(text: &str) -> String {
    let words = format_description!("[day padding:none] [month repr:long] [year], [hour]:[minute] UTC");
    OffsetDateTime::parse(text, &Rfc3339)
        .ok()
        .and_then(|it| it.to_offset(time::UtcOffset::UTC).format(words).ok())
        .unwrap_or_else(|| text.to_owned())
}

/// `2048×1365`, or a dash.
pub(super) fn size(size: Option<(u32, u32)>) -> String {
    size.map_or_else(|| "–".to_owned(), |(width, height)| format!("{width}×{height}"))
}

/// A level of damage as it was written: `0.5`, `30`.
pub(super) fn level(level: Option<f64>) -> String {
    level.map_or_else(|| "none".to_owned(), |it| it.to_string())
}

/// A kind of damage inside a sentence.
pub(super) fn kind(name: &str) -> &str {
    if name == "jpeg" { "JPEG" } else { name }
}

/// What is varied, as short as it can be said beside a number.
pub(super) fn parameter(name: &str) -> &str {
    match name {
        "sigma" => "σ",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_a_column_align() {
        let check = |values: &[f64], expected: &[&str]| {
            let digits = Digits::of(values.iter().copied());
            assert_eq!(values.iter().map(|it| digits.number(*it)).collect::<Vec<_>>(), expected);
        };
        check(&[3.24159, 2.0], &["3.242", "2.000"]);
        check(&[28.414, 9.5], &["28.41", "9.50"]);
        check(&[-0.98765], &["\u{2212}0.9877"]);
        check(&[1234.5, 9.2, 0.53], &["1234", "9", "0.530"]);
        check(&[612.5, 0.98, 0.041], &["612.5", "1.0", "0.0410"]);
        check(&[0.5, 0.00012, 0.0000012, 0.0], &["0.5000", "0.000120", "1.20e\u{2212}6", "0.0000"]);
        check(&[], &[]);
        assert_eq!(Digits::two().number(-0.001), "0.00");
    }

    #[test]
    fn times_are_written_for_people() {
        assert_eq!(moment("2026-11-22T20:52:03.5+01:00"), "22 November 2026, 19:52 UTC");
        assert_eq!(moment("yesterday"), "yesterday");
        assert_eq!(duration(8.44), "8.4 s");
        assert_eq!(duration(133.0), "2 min 13 s");
        assert_eq!(duration(11_100.0), "3 h 5 min");
    }

    #[test]
    fn counts_and_lists_are_written_for_people() {
        assert_eq!(count(1, "image"), "1 image");
        assert_eq!(count(1_234_567, "image"), "1,234,567 images");
        assert_eq!(list(&["a"]), "a");
        assert_eq!(list(&["a", "b", "c"]), "a, b and c");
    }

    #[test]
    fn metrics_have_names_for_people() {
        let id = |metric: &str| MetricId { metric: metric.to_owned(), variant: "some_one".to_owned(), version: 1 };
        assert_eq!(metric_label(&id("glcm_score"), true), "GLCM score");
        assert_eq!(metric_label(&id("psnr"), false), "PSNR · some one");
        assert_eq!(metric_label(&id("compression_ratio"), true), "Compression ratio");
    }
}
