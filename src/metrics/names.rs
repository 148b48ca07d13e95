//! How people and tasks name metrics, and what a misspelt name was probably meant to be.

use super::{Metric, TABLE};
use crate::job::task::MetricId;

/// A name that is in no row of the table.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{name}` is no metric{}", .suggestion.as_ref().map(|it| format!("; did you mean `{it}`?")).unwrap_or_default())]
pub struct UnknownMetric {
    /// The item of the list as it was written.
    pub name: String,
    /// What was probably meant, to be written in its place.
    pub suggestion: Option<String>,
}

/// The metrics of a comma-separated list: `NAME` is that metric's default variant, `NAME:VARIANT` another,
/// `NAME:*` all of them. Each is there once, where it was first named.
///
/// # Errors
/// The first item that names nothing.
pub fn parse(list: &str) -> Result<Vec<&'static Metric>, UnknownMetric> {
    let mut metrics: Vec<&'static Metric> = Vec::new();
    for item in list.split(',').map(str::trim) {
        let (name, variant) = item.split_once(':').map_or((item, None), |(name, variant)| (name, Some(variant)));
        let rows = TABLE.iter().filter(|it| it.name == name);
        let named: Vec<_> = match variant {
            None => rows.take(1).collect(),
            Some("*") => rows.collect(),
            Some(variant) => rows.filter(|it| it.variant == variant).collect(),
        };
        if named.is_empty() {
            return Err(UnknownMetric { name: item.to_owned(), suggestion: suggest(name, variant) });
        }
        for metric in named {
            if !metrics.contains(&metric) {
                metrics.push(metric);
            }
        }
    }
    Ok(metrics)
}

/// The row with this name, variant and version; none when the definition has changed since.
pub fn find(id: &MetricId) -> Option<&'static Metric> {
    TABLE.iter().find(|it| it.name == id.metric && it.variant == id.variant && it.version == id.version)
}

fn suggest(name: &str, variant: Option<&str>) -> Option<String> {
    let meant = nearest(name, TABLE.iter().map(|it| it.name))?;
    let Some(variant) = variant else { return Some(meant.to_owned()) };
    let variants = TABLE.iter().filter(|it| it.name == meant).map(|it| it.variant);
    match nearest(variant, variants.chain(["*"])) {
        Some(variant) => Some(format!("{meant}:{variant}")),
        None => Some(format!("{meant}:*")),
    }
}

/// The candidate most like `word`, if any is much like it.
fn nearest(word: &str, candidates: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let word = word.to_lowercase();
    candidates
        .map(|it| {
            let prefix = !word.is_empty() && (it.starts_with(&word) || word.starts_with(it));
            (it, strsim::normalized_damerau_levenshtein(it, &word) + f64::from(u8::from(prefix)))
        })
        .filter(|(_, likeness)| *likeness >= 0.5)
        .reduce(|best, it| if it.1 > best.1 { it } else { best })
        .map(|(it, _)| it)
}
