//! A report's definition, `reports/*.toml`: what is compared night by night, what counts as a regression, who is told.

mod read;

use std::time::Duration;

use lettre::message::Mailbox;

pub use crate::sweep::fault::{Fault, Faults};

/// A definition, read and found to be right.
#[derive(Clone, Debug)]
pub struct Definition {
    /// What its nights are filed under.
    pub name: String,
    /// What people read.
    pub title: String,
    /// Which sweeps it reads.
    pub sweeps: Sweeps,
    /// What of them is compared.
    pub compare: Compare,
    /// What the mail shows.
    pub show: Show,
    /// What counts as a regression. Empty: whatever gets worse beyond noise.
    pub alarms: Vec<Alarm>,
    /// How a night is compared with those before it.
    pub history: History,
    /// Who is told, and how.
    pub mail: Option<Mail>,
}

/// `[sweeps]`
#[derive(Clone, Debug)]
pub struct Sweeps {
    /// Their names.
    pub names: Vec<Pattern>,
    /// Which of those of one name.
    pub take: Take,
    /// How long before the night a sweep may have been enqueued.
    pub window: Option<Duration>,
}

/// Which of several sweeps of one name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Take {
    /// The latest of each name.
    Latest,
    /// All of them.
    All,
}

/// `[compare]`
#[derive(Clone, Debug, Default)]
pub struct Compare {
    /// Models or sources; empty for all.
    pub models: Vec<Pattern>,
    /// What the others are compared with.
    pub baseline: Option<Pattern>,
    /// Metrics, by name and variant; empty for all.
    pub metrics: Vec<(String, String)>,
}

impl Compare {
    /// Whether it is about a source of this name that stands for this model.
    pub fn takes(&self, source: &str, model: Option<&str>) -> bool {
        self.models.is_empty() || self.models.iter().any(|it| it.fits(source, model))
    }

    /// Whether it is about a metric.
    pub fn takes_metric(&self, metric: &str, variant: &str) -> bool {
        self.metrics.is_empty() || self.metrics.iter().any(|it| it.0 == metric && it.1 == variant)
    }
}

/// `[show]`
#[derive(Clone, Debug)]
pub struct Show {
    /// The tables of the mail, in this order.
    pub tables: Vec<Table>,
    /// Its charts, in this order.
    pub charts: Vec<Chart>,
}

/// A table of the mail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Table {
    /// What changed since the last good night.
    Changes,
    /// Each model's means tonight.
    Means,
    /// Each model against the baseline.
    Baseline,
}

impl Table {
    /// The words of definitions.
    pub const WORDS: [(&'static str, Self); 3] =
        [("changes", Self::Changes), ("means", Self::Means), ("baseline", Self::Baseline)];
}

/// A chart of the mail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Chart {
    /// Means over the nights.
    History,
    /// Tonight's means with their intervals.
    Means,
}

impl Chart {
    /// The words of definitions.
    pub const WORDS: [(&'static str, Self); 2] = [("history", Self::History), ("means", Self::Means)];
}

/// `[[alarm]]`: a change that counts as a regression.
#[derive(Clone, Debug)]
pub struct Alarm {
    /// Of these metrics, by name and variant.
    pub metrics: Vec<(String, String)>,
    /// Of these models or sources; empty for all.
    pub models: Vec<Pattern>,
    /// Which way.
    pub when: When,
    /// How far the interval of the change must lie from 0, in the metric's unit.
    pub threshold: f64,
    /// The same, as a share of what it was before.
    pub relative: f64,
}

/// Which way a metric must change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// For the worse.
    Worse,
    /// For the better.
    Better,
    /// Any way.
    Changed,
}

/// `[history]`
#[derive(Clone, Copy, Debug)]
pub struct History {
    /// So many nights are shown.
    pub nights: usize,
    /// What share of intervals holds the truth; 1 − this is the chance of a false alarm over a whole night.
    pub level: f64,
}

/// `[mail]`
#[derive(Clone, Debug)]
pub struct Mail {
    /// Who gets it.
    pub to: Vec<Mailbox>,
    /// Who it is from; unset is `JOBCTL_MAIL_FROM`.
    pub from: Option<Mailbox>,
    /// What it is about: `{title}`, `{verdict}` and `{date}` are filled in.
    pub subject: String,
    /// Whether nights without a regression are passed over in silence.
    pub only_on_regression: bool,
    /// What becomes of the full report.
    pub report: Attach,
    /// The most bytes of it that are attached.
    pub max_bytes: usize,
}

/// What becomes of the full report.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Attach {
    /// It is attached, unless it is too large.
    Attached,
    /// It is linked: `{run}` is the folder's name.
    Linked(String),
    /// It stays where it is.
    Left,
}

/// A name in which `*` stands for anything.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pattern(String);

impl Pattern {
    /// As it is written.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// As it is written.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Whether a name is one of those meant.
    pub fn is(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = name.strip_prefix(first) else { return false };
        let mut parts: Vec<&str> = parts.collect();
        let Some(last) = parts.pop() else { return rest.is_empty() };
        for part in parts {
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        rest.ends_with(last)
    }

    /// Whether it means a source, by its own name or its model's.
    pub fn fits(&self, source: &str, model: Option<&str>) -> bool {
        self.is(source) || model.is_some_and(|it| self.is(it))
    }
}

impl Definition {
    /// Reads a definition; `file_name` stands in what is said of mistakes.
    ///
    /// # Errors
    /// All that is wrong with it, each with its place and what was probably meant.
    pub fn parse(text: &str, file_name: &str) -> Result<Self, Faults> {
        read::definition(text, file_name)
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn a_star_stands_for_anything() {
        let check = |pattern: &str, name: &str, fits: bool| {
            assert_eq!(Pattern::new(pattern).is(name), fits, "{pattern} {name}");
        };
        check("nightly", "nightly", true);
        check("nightly", "nightly-2", false);
        check("nightly-*", "nightly-2", true);
        check("*", "", true);
        check("SD3*2048*", "SD3-F16@2048 seed=1", true);
        check("*4096", "SD3@4096", true);
        check("*4096", "SD3@4096x", false);
        check("a*a", "a", false);
        check("a*b*c", "a-b-b-c", true);
        assert!(Pattern::new("Sana*").fits("images", Some("Sana-1.6B")));
    }
}
