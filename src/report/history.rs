//! A report's nights: what was found, what changed since the last good night beyond noise, and what it may be due to.
//!
//! A night is analysed to one plain value, [`Found`], a pure function of what is stored. It is kept, so that the
//! nights after can be compared with it, and shown again as it was.

mod causes;
mod changes;
mod lines;
mod noise;
pub mod words;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::causes::Cause;
pub use self::lines::{Line, pooled_name};
use super::definition::{Definition, Pattern};
use crate::job::task::MetricId;
use crate::metrics::Better;
use crate::stats::Interval;
use crate::stats::bootstrap::Bootstrap;
use crate::store::nights::Night;

/// All that is said of one night.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Found {
    /// The report's name.
    pub name: String,
    /// Its title.
    pub title: String,
    /// The moment that it tells of, RFC 3339, UTC.
    pub at: String,
    /// The sweeps that it reads.
    pub sweeps: Vec<SweepRead>,
    /// What was compared, made by what.
    pub provenance: Provenance,
    /// Each source by each metric.
    pub series: Vec<Series>,
    /// The night that it is compared with.
    pub base: Option<Base>,
    /// Each series against that night, regressions first.
    pub changes: Vec<Change>,
    /// Each source against the baseline.
    pub versus: Vec<Versus>,
    /// What differs between the two nights.
    pub causes: Vec<Cause>,
    /// What does not work, in plain sentences.
    pub broke: Vec<String>,
    /// What a reader should know, in plain sentences.
    pub notes: Vec<String>,
    /// Whether nothing got worse beyond noise and nothing broke.
    pub good: bool,
    /// What share of the intervals holds the truth.
    pub level: f64,
}

/// A sweep of a night.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SweepRead {
    /// Its row.
    pub row: i32,
    /// Its id.
    pub slug: String,
    /// Its name.
    pub name: String,
    /// How many of its jobs had not ended.
    pub n_unfinished: i64,
}

/// What made a night's numbers.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Provenance {
    /// Programs, with their commits.
    pub programs: BTreeSet<String>,
    /// What machines are.
    pub machines: BTreeSet<String>,
    /// Of each source.
    pub sources: BTreeMap<String, SourceMade>,
}

/// What made a source's pictures.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SourceMade {
    /// Hashes of the parts of packages.
    pub packages: BTreeSet<String>,
    /// The settings, as JSON.
    pub settings: Value,
    /// The hash of what its pictures are made from.
    pub pictures: String,
}

/// One metric of one source.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Series {
    /// What it is filed under: the source, its seeds pooled, and its sweep's name where the report may read several.
    pub source: String,
    /// The source's name, its seeds pooled.
    pub short: String,
    /// The model that its pictures stand for.
    pub model: Option<String>,
    /// Which metric.
    pub metric: MetricId,
    /// What people call it.
    pub label: String,
    /// Which way it is better.
    pub better: Option<Better>,
    /// Whether it is one number of the whole set.
    pub is_set: bool,
    /// How many values.
    pub n: usize,
    /// How many pictures have no value by it.
    pub n_without: usize,
    /// Their mean, or the set's number.
    pub mean: Option<f64>,
    /// Their standard deviation.
    pub sd: Option<f64>,
    /// The mean's interval.
    pub interval: Option<Interval>,
}

impl Series {
    /// What it is a series of, over versions of the metric.
    pub fn key(&self) -> (&str, &str, &str, bool) {
        (&self.source, &self.metric.metric, &self.metric.variant, self.is_set)
    }

    /// Whether a pattern means it.
    pub fn is_meant(&self, pattern: &Pattern) -> bool {
        pattern.fits(&self.short, self.model.as_deref())
    }
}

/// The night that another is compared with.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Base {
    /// Its row.
    pub run: i64,
    /// The moment.
    pub at: String,
}

/// How a series changed.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Change {
    /// Tonight's series, or that of the night before where it is gone.
    pub series: Series,
    /// What it was; none where it is new.
    pub before: Option<f64>,
    /// What it is; none where it is gone or undefined.
    pub after: Option<f64>,
    /// By how much, where both are known.
    pub difference: Option<Difference>,
    /// What that means.
    pub verdict: Verdict,
    /// Whether an alarm is about it.
    pub is_regression: bool,
    /// Places in [`Found::causes`] of what it may be due to.
    pub causes: Vec<usize>,
}

/// A difference and how sure it is.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Difference {
    /// After less before.
    pub value: f64,
    /// Its interval.
    pub interval: Option<Interval>,
    /// How probable one as large is by chance alone.
    pub p: Option<f64>,
    /// The same, corrected over all that is compared this night.
    pub p_holm: Option<f64>,
    /// What was compared.
    pub how: How,
}

/// What was compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// The same samples and seeds, pair by pair, the seeds of a sample averaged.
    Paired {
        /// So many samples.
        n: usize,
    },
    /// Two means, as if of unrelated pictures.
    Unpaired,
    /// One number of a set, with those of the nights before.
    Nights {
        /// So many nights.
        n: usize,
    },
    /// Two numbers, of which nobody knows how much they wander.
    Alone,
}

/// What a change means.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It got worse beyond noise.
    Worse,
    /// It got better beyond noise.
    Better,
    /// It changed beyond noise, and nobody knows which way is better.
    Changed,
    /// No more than noise, or than the threshold.
    Same,
    /// There are too few numbers to tell.
    Unclear,
    /// The metric has another definition now.
    Redefined,
    /// It was not there before.
    New,
    /// It is not there any more.
    Gone,
}

/// A source against the baseline, by one metric, on the same samples.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Versus {
    /// The source.
    pub source: String,
    /// Its model.
    pub model: Option<String>,
    /// The baseline.
    pub baseline: String,
    /// What people call the metric.
    pub label: String,
    /// Which way it is better.
    pub better: Option<Better>,
    /// The source's mean less the baseline's.
    pub difference: Difference,
    /// Which of the two is better, beyond noise.
    pub verdict: Verdict,
}

/// A night that was kept, as [`analyse`] takes it.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Its row.
    pub run: i64,
    /// Whether it was good.
    pub good: bool,
    /// What was found.
    pub found: Found,
}

/// A night and those before it, as a report shows them.
#[derive(Clone, Debug, Serialize)]
pub struct Nights {
    /// What was found.
    pub found: Found,
    /// The nights, the oldest first, the one that is told of last.
    pub past: Vec<Past>,
}

/// A night as charts show it.
#[derive(Clone, Debug, Serialize)]
pub struct Past {
    /// The moment.
    pub at: String,
    /// Whether it was good.
    pub good: bool,
    /// Each source by each metric.
    pub series: Vec<Series>,
}

impl Nights {
    /// `found` after the nights `before` it, the latest first; so many in all.
    pub fn of(found: &Found, before: &[Kept], n: usize) -> Self {
        let kept = |it: &Kept| Past { at: it.found.at.clone(), good: it.good, series: it.found.series.clone() };
        let mut past: Vec<Past> = before.iter().take(n.saturating_sub(1)).map(kept).collect();
        past.reverse();
        past.push(Past { at: found.at.clone(), good: found.good, series: found.series.clone() });
        Self { found: found.clone(), past }
    }
}

/// What is said of `night`. `base` is the last good night before it, with what was stored then as far as that is still
/// there; `past` are the nights before it, the latest first. Equal arguments give an equal value.
pub fn analyse(definition: &Definition, night: &Night, base: Option<(&Kept, Option<&Night>)>, past: &[Kept]) -> Found {
    let bootstrap = Bootstrap { level: definition.history.level, ..Bootstrap::default() };
    let tonight = lines::lines(definition, night, &bootstrap);
    let before = base.and_then(|it| it.1).map(|it| lines::lines(definition, it, &bootstrap)).unwrap_or_default();
    let provenance = lines::provenance(definition, night);
    let (causes, changes) = match base {
        Some((kept, _)) => {
            let versions = changes::versions(&kept.found.series, &tonight);
            let causes = causes::causes(&kept.found.provenance, &provenance, &versions);
            let changes =
                changes::changes(definition, &tonight, &kept.found.series, &before, past, &causes, &bootstrap);
            (causes, changes)
        }
        None => (Vec::new(), Vec::new()),
    };
    let mut broke = lines::broke(definition, night);
    broke.extend(
        changes
            .iter()
            .filter(|it| it.verdict == Verdict::Gone)
            .map(|it| format!("{} has no {} any more; the last good night had it.", it.series.source, it.series.label)),
    );
    let good = broke.is_empty() && !changes.iter().any(|it| it.is_regression);
    let notes = notes(base, &before);
    Found {
        name: definition.name.clone(),
        title: definition.title.clone(),
        at: lines::rfc3339(night.at),
        sweeps: lines::sweeps(night),
        provenance,
        versus: changes::versus(definition, &tonight, &bootstrap),
        series: tonight.into_iter().map(|it| it.series).collect(),
        base: base.map(|it| Base { run: it.0.run, at: it.0.found.at.clone() }),
        changes,
        causes,
        broke,
        notes,
        good,
        level: definition.history.level,
    }
}

fn notes(base: Option<(&Kept, Option<&Night>)>, before: &[Line]) -> Vec<String> {
    let mut notes = Vec::new();
    match base {
        None => notes.push("There is no good night before this one to compare it with.".to_owned()),
        Some((kept, _)) => {
            let had: usize = kept.found.series.iter().filter(|it| !it.is_set).map(|it| it.n).sum();
            let has: usize = before.iter().map(|it| it.values.len()).sum();
            if has < had {
                notes.push(format!(
                    "{} of the {had} scores of the last good night are not kept any more: what they belong to is compared by \
                     means alone.",
                    had - has
                ));
            }
        }
    }
    notes
}
