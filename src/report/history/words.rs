//! A night in words: its verdict, and a sentence for each change.

use std::collections::{BTreeMap, BTreeSet};

use super::{Cause, Change, Difference, Found, How, Verdict};
use crate::metrics::Better;
use crate::report::format::{self, Digits};

/// The numbers of one column, written alike.
#[derive(Clone, Copy, Debug)]
pub struct Column(Digits);

impl Column {
    /// For these numbers.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        Self(Digits::of(values))
    }

    /// For the ticks of an axis.
    pub fn of_step(ticks: &[f64]) -> Self {
        let step = ticks.windows(2).map(|it| it[1] - it[0]).fold(f64::INFINITY, f64::min);
        Self(Digits::of_step(step))
    }

    /// A number.
    pub fn number(self, value: f64) -> String {
        self.0.number(value)
    }

    /// A number with its sign.
    pub fn signed(self, value: f64) -> String {
        if value > 0.0 { format!("+{}", self.number(value)) } else { self.number(value) }
    }
}

/// `22 November 2026, 19:52 UTC`.
pub fn moment(rfc3339: &str) -> String {
    format::moment(rfc3339)
}

/// The day of a moment, RFC 3339: `2026-11-22`.
pub fn day(rfc3339: &str) -> &str {
    rfc3339.get(..10).unwrap_or(rfc3339)
}

/// What people call each source: its model or its own name where that means one source alone, else both, else what it is
/// filed under.
pub fn names(found: &Found) -> BTreeMap<String, String> {
    let gone = found.changes.iter().map(|it| &it.series);
    let all: BTreeSet<(&str, &str, Option<&str>)> = found
        .series
        .iter()
        .chain(gone)
        .map(|it| (it.source.as_str(), it.short.as_str(), it.model.as_deref()))
        .collect();
    let forms = |it: &(&str, &str, Option<&str>)| {
        let both = it.2.map(|model| format!("{} ({model})", it.1));
        [it.2.map(str::to_owned), Some(it.1.to_owned()), both]
    };
    // A name that any form of another source has too means neither.
    let mut n_of: BTreeMap<String, usize> = BTreeMap::new();
    for it in &all {
        for form in forms(it).into_iter().flatten().collect::<BTreeSet<String>>() {
            *n_of.entry(form).or_default() += 1;
        }
    }
    all.iter()
        .map(|it| {
            let alone = forms(it).into_iter().flatten().find(|form| n_of[form] == 1);
            (it.0.to_owned(), alone.unwrap_or_else(|| it.0.to_owned()))
        })
        .collect()
}

impl Found {
    /// The changes that an alarm is about.
    pub fn regressions(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(|it| it.is_regression)
    }

    /// The changes of this verdict that no alarm is about.
    pub fn quiet(&self, verdict: Verdict) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(move |it| it.verdict == verdict && !it.is_regression)
    }

    /// The night in a few words, as a subject has it: `2 regressions, 1 problem`.
    pub fn verdict(&self) -> String {
        let mut parts = Vec::new();
        let mut add = |n: usize, what: &str| {
            if n > 0 {
                parts.push(format::count(n, what));
            }
        };
        add(self.regressions().count(), "regression");
        add(self.broke.len(), "problem");
        if !parts.is_empty() {
            return parts.join(", ");
        }
        let n_better = self.quiet(Verdict::Better).count();
        match (n_better, self.base.is_some()) {
            (0, true) => "nothing changed beyond noise".to_owned(),
            (0, false) => "first night".to_owned(),
            (n, _) => format!("{n} better, nothing worse"),
        }
    }

    /// What the comparison rests on, in a sentence.
    pub fn basis(&self) -> String {
        let n = self.changes.iter().filter(|it| it.difference.is_some()).count();
        match &self.base {
            None => "There is nothing to compare it with yet.".to_owned(),
            Some(base) => format!(
                "Compared with the last good night, {}: {}; a change counts where Holm's correction over all of them leaves \
                 p\u{a0}<\u{a0}{}.",
                moment(&base.at),
                format::count(n, "comparison"),
                trimmed(1.0 - self.level)
            ),
        }
    }
}

fn trimmed(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `SD3: GLCM score fell from 0.7520 to 0.7310 (−0.0210, …)`.
pub fn sentence(change: &Change, name: &str, level: f64) -> String {
    let label = &change.series.label;
    let column = Column::of(change.before.into_iter().chain(change.after));
    match (change.before, change.after, change.verdict) {
        (_, _, Verdict::Gone) => format!("{name}: {label} is gone"),
        (_, Some(after), Verdict::New) => format!("{name}: {label} is new, {}", column.number(after)),
        (Some(before), Some(after), Verdict::Redefined) => format!(
            "{name}: {label} has a new definition (version {}): {} before, {} now, and the two are not comparable",
            change.series.metric.version,
            column.number(before),
            column.number(after)
        ),
        (Some(before), Some(after), verdict) => {
            let went = if after > before { "rose" } else { "fell" };
            let way = match verdict {
                Verdict::Worse => ", which is worse",
                Verdict::Better => ", which is better",
                _ => "",
            };
            let sure = change.difference.as_ref().map_or_else(String::new, |it| format!(" ({})", sure(it, level)));
            format!("{name}: {label} {went} from {} to {}{way}{sure}", column.number(before), column.number(after))
        }
        _ => format!("{name}: {label} is undefined"),
    }
}

/// `−0.021, 95 % interval −0.026 to −0.016, p = 0.0003, 2,781 pairs`.
pub fn sure(difference: &Difference, level: f64) -> String {
    let column = Column::of([difference.value]);
    let mut parts = vec![column.signed(difference.value)];
    if let Some(it) = difference.interval {
        let level = trimmed(level * 100.0);
        parts.push(format!("{level}\u{a0}% interval {} to {}", column.signed(it.low), column.signed(it.high)));
    }
    if let Some(p) = difference.p_holm {
        parts.push(probability(p));
    }
    parts.push(match difference.how {
        How::Paired { n } => format::count(n, "pair"),
        How::Unpaired => "unpaired".to_owned(),
        How::Nights { n } => format!("against {}", format::count(n, "night")),
        How::Alone => "too few nights to tell noise from change".to_owned(),
    });
    parts.join(", ")
}

/// `p = 0.012`, `p < 0.0001`, with spaces that do not break.
pub fn probability(p: f64) -> String {
    // What belongs together stays on one line.
    if p < 1e-4 { "p\u{a0}<\u{a0}0.0001".to_owned() } else { format!("p\u{a0}=\u{a0}{}", trimmed(p)) }
}

/// What a change may be due to, in words.
pub fn cause(it: &Cause) -> String {
    let of = it.source.as_ref().map_or_else(String::new, |source| format!(" of {source}"));
    let what = match it.what.as_str() {
        "package" => "the package",
        "settings" => "the settings",
        "pictures" => "the pictures or prompts",
        "program" => "the program",
        "machines" => "the machines",
        "metric" => "the metric's definition",
        other => other,
    };
    format!("{what}{of}: {} before, {} now", it.before, it.after)
}

/// ↑ where higher is better, ↓ where lower is.
pub fn arrow(better: Option<Better>) -> &'static str {
    format::arrow(better)
}

/// `1 picture`, `1,234 pictures`.
pub fn count(n: usize, what: &str) -> String {
    format::count(n, what)
}
