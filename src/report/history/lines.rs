//! From what is stored of a night to its series: sources with their seeds pooled, each by each metric.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Provenance, Series, SourceMade, SweepRead};
use crate::job::task::MetricId;
use crate::metrics::TABLE;
use crate::report::definition::{Definition, Take};
use crate::report::format;
use crate::stats::bootstrap::Bootstrap;
use crate::stats::describe::{mean, sd};
use crate::store::nights::{Night, NightSource};

/// A series and the values behind it.
#[derive(Clone, Debug)]
pub struct Line {
    /// The series.
    pub series: Series,
    /// Sample and seed, and the value.
    pub values: BTreeMap<String, f64>,
}

/// A source's name without its seed, and the seed: `sd3 seed=1 steps=28` is `sd3 steps=28` and `1`.
pub fn pooled_name(name: &str) -> (String, Option<&str>) {
    let seed = name.split(' ').find_map(|it| it.strip_prefix("seed="));
    let Some(seed) = seed else { return (name.to_owned(), None) };
    let words: Vec<&str> = name.split(' ').filter(|it| !it.starts_with("seed=")).collect();
    (words.join(" "), Some(seed))
}

/// What a source is filed under. This depends on the definition alone, so that it is the same every night.
fn name_of(definition: &Definition, night: &Night, source: &NightSource) -> String {
    let (name, _) = pooled_name(&source.name);
    let sweep = &night.sweeps[source.sweep];
    match definition.sweeps.names.as_slice() {
        _ if definition.sweeps.take == Take::All => format!("{name} ({})", sweep.slug),
        [only] if !only.text().contains('*') => name,
        _ => format!("{name} ({})", sweep.name),
    }
}

fn is_shown(definition: &Definition, source: &NightSource) -> bool {
    let (name, _) = pooled_name(&source.name);
    let package = source.making.as_ref().and_then(|it| it["model"].as_str());
    definition.compare.takes(&name, source.model.as_deref()) || definition.compare.takes(&source.name, package)
}

/// All series of a night that the definition asks for, sources in their order, metrics in the table's.
pub(super) fn lines(definition: &Definition, night: &Night, bootstrap: &Bootstrap) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    let mut of = BTreeMap::new();
    let mut line = |lines: &mut Vec<Line>, source: &NightSource, metric: &MetricId, is_set: bool| -> usize {
        let name = name_of(definition, night, source);
        *of.entry((name.clone(), metric.clone(), is_set)).or_insert_with(|| {
            lines.push(Line { series: empty(name, source, metric, is_set), values: BTreeMap::new() });
            lines.len() - 1
        })
    };
    for it in &night.scores {
        let source = &night.sources[it.source];
        if !is_shown(definition, source) || !definition.compare.takes_metric(&it.metric.metric, &it.metric.variant) {
            continue;
        }
        let place = line(&mut lines, source, &it.metric, false);
        let (_, seed) = pooled_name(&source.name);
        lines[place].series.n_without += source.samples.len().saturating_sub(it.values.len());
        for (cell, value) in &it.values {
            let Some(value) = value.filter(|it| it.is_finite()) else {
                lines[place].series.n_without += 1;
                continue;
            };
            let sample = source.samples.get(cell).map_or("", String::as_str);
            let mut key = seed.map_or_else(|| sample.to_owned(), |seed| format!("{sample}\u{0}{seed}"));
            while lines[place].values.contains_key(&key) {
                key.push('+');
            }
            lines[place].values.insert(key, value);
        }
    }
    for it in &night.sets {
        let source = &night.sources[it.source];
        // Of several seeds there are several sets; each keeps its name.
        let (_, seed) = pooled_name(&source.name);
        if seed.is_some() || !is_shown(definition, source) {
            continue;
        }
        if definition.compare.takes_metric(&it.metric.metric, &it.metric.variant) {
            let place = line(&mut lines, source, &it.metric, true);
            let series = &mut lines[place].series;
            series.mean = it.value.filter(|it| it.is_finite());
            series.n = usize::try_from(it.n).unwrap_or(usize::MAX);
        }
    }
    for line in lines.iter_mut().filter(|it| !it.series.is_set) {
        let values: Vec<f64> = line.values.values().copied().collect();
        line.series.n = values.len();
        line.series.mean = mean(&values).ok();
        line.series.sd = sd(&values).ok();
        line.series.interval = bootstrap.bca_of_mean(&values);
    }
    let order: BTreeMap<String, usize> =
        night.sources.iter().enumerate().rev().map(|(idx, it)| (name_of(definition, night, it), idx)).collect();
    let row = |it: &MetricId| TABLE.iter().position(|row| row.name == it.metric && row.variant == it.variant);
    lines.sort_by_key(|it| {
        let metric = &it.series.metric;
        (it.series.is_set, row(metric).unwrap_or(usize::MAX), metric.to_string(), order.get(&it.series.source).copied())
    });
    lines
}

fn empty(name: String, source: &NightSource, metric: &MetricId, is_set: bool) -> Series {
    let default = TABLE.iter().find(|it| it.name == metric.metric);
    let row = TABLE.iter().find(|it| it.name == metric.metric && it.variant == metric.variant);
    let label = format::metric_label(metric, default.is_some_and(|it| it.variant == metric.variant));
    Series {
        source: name,
        short: pooled_name(&source.name).0,
        model: source.model.clone(),
        metric: metric.clone(),
        label: if is_set { format!("{label} of the set") } else { label },
        better: row.map(|it| it.better),
        is_set,
        n: 0,
        n_without: 0,
        mean: None,
        sd: None,
        interval: None,
    }
}

/// What made the night's numbers.
pub(super) fn provenance(definition: &Definition, night: &Night) -> Provenance {
    let mut sources: BTreeMap<String, SourceMade> = BTreeMap::new();
    for source in night.sources.iter().filter(|it| is_shown(definition, it)) {
        let mut settings = source.making.clone().unwrap_or(Value::Null);
        if let Some(settings) = settings.as_object_mut() {
            settings.remove("seed");
        }
        let made = sources.entry(name_of(definition, night, source)).or_insert_with(|| SourceMade {
            packages: BTreeSet::new(),
            settings,
            pictures: String::new(),
        });
        made.packages.extend(source.packages.iter().cloned());
        made.pictures += if made.pictures.is_empty() { "" } else { " " };
        made.pictures += &source.pictures.short();
    }
    Provenance {
        programs: night.sweeps.iter().flat_map(|it| it.programs.iter().cloned()).collect(),
        machines: night.sweeps.iter().flat_map(|it| it.machines.iter().cloned()).collect(),
        sources,
    }
}

/// The night's sweeps.
pub(super) fn sweeps(night: &Night) -> Vec<SweepRead> {
    let read = |it: &crate::store::nights::NightSweep| SweepRead {
        row: it.row,
        slug: it.slug.clone(),
        name: it.name.clone(),
        n_unfinished: it.n_unfinished,
    };
    night.sweeps.iter().map(read).collect()
}

/// What does not work: sweeps that are missing or not done, jobs that failed, models without pictures.
pub(super) fn broke(definition: &Definition, night: &Night) -> Vec<String> {
    let mut broke = Vec::new();
    for name in &definition.sweeps.names {
        if !night.sweeps.iter().any(|it| name.is(&it.name)) {
            broke.push(format!("No sweep called {} had been enqueued.", name.text()));
        }
    }
    for sweep in night.sweeps.iter().filter(|it| it.n_unfinished > 0) {
        let jobs = format::count(usize::try_from(sweep.n_unfinished).unwrap_or_default(), "job");
        broke.push(format!("{} was not done: {jobs} had not ended.", sweep.slug));
    }
    for it in &night.failures {
        let jobs = format::count(usize::try_from(it.n).unwrap_or_default(), &format!("{} job", it.kind));
        let why = it.error.lines().next().unwrap_or_default();
        let why: String = why.chars().take(200).collect();
        let slug = &night.sweeps[it.sweep].slug;
        broke.push(match why.as_str() {
            "" => format!("{slug}: {jobs} {}.", it.state),
            why => format!("{slug}: {jobs} {}: {why}", it.state),
        });
    }
    for wanted in &definition.compare.models {
        let fits = |it: &NightSource| {
            let package = it.making.as_ref().and_then(|it| it["model"].as_str());
            wanted.fits(&pooled_name(&it.name).0, it.model.as_deref()) || wanted.fits(&it.name, package)
        };
        if !night.sweeps.is_empty() && !night.sources.iter().any(fits) {
            broke.push(format!("No sweep of the night has {}.", wanted.text()));
        }
    }
    broke
}

/// A moment as it is kept.
pub(super) fn rfc3339(at: OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    at.format(&Rfc3339).unwrap_or_else(|_| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::pooled_name;

    #[test]
    fn seeds_are_pooled_and_other_settings_are_not() {
        assert_eq!(pooled_name("sd3 seed=1 steps=28"), ("sd3 steps=28".to_owned(), Some("1")));
        assert_eq!(pooled_name("sd3 seed=12"), ("sd3".to_owned(), Some("12")));
        assert_eq!(pooled_name("photos"), ("photos".to_owned(), None));
    }
}
