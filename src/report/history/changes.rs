//! Tonight's series against those of the last good night, and against the baseline.

use std::collections::BTreeMap;

use super::causes::Cause;
use super::noise::{Summary, Tested, among_nights, holm, paired, unpaired};
use super::{Change, Difference, How, Kept, Line, Series, Verdict, Versus};
use crate::metrics::Better;
use crate::report::definition::{Definition, Pattern, When};
use crate::stats::Interval;
use crate::stats::bootstrap::Bootstrap;

/// The metrics whose version is another than it was, by name and variant.
pub(super) fn versions(before: &[Series], tonight: &[Line]) -> BTreeMap<String, (u32, u32)> {
    let mut versions = BTreeMap::new();
    for line in tonight {
        let metric = &line.series.metric;
        let was = before.iter().find(|it| it.key() == line.series.key());
        if let Some(was) = was.filter(|it| it.metric.version != metric.version) {
            let name = format!("{}:{}", metric.metric, metric.variant);
            versions.insert(name, (was.metric.version, metric.version));
        }
    }
    versions
}

/// Each series against the last good night: regressions first, then what got worse, better, and the rest.
pub(super) fn changes(
    definition: &Definition,
    tonight: &[Line],
    before: &[Series],
    values_before: &[Line],
    past: &[Kept],
    causes: &[Cause],
    bootstrap: &Bootstrap,
) -> Vec<Change> {
    let mut changes: Vec<Change> = tonight
        .iter()
        .map(|line| {
            let was = before.iter().find(|it| it.key() == line.series.key());
            let had = values_before.iter().find(|it| it.series.key() == line.series.key());
            change(line, was, had, past, bootstrap)
        })
        .collect();
    let is_asked = |it: &&Series| {
        definition.compare.takes(&it.short, it.model.as_deref())
            && definition.compare.takes_metric(&it.metric.metric, &it.metric.variant)
            && it.mean.is_some()
    };
    for series in before.iter().filter(is_asked).filter(|it| !tonight.iter().any(|now| now.series.key() == it.key())) {
        let (before, series) = (series.mean, series.clone());
        let verdict = Verdict::Gone;
        changes.push(Change {
            series,
            before,
            after: None,
            difference: None,
            verdict,
            is_regression: false,
            causes: Vec::new(),
        });
    }
    let ps: Vec<Option<f64>> = changes.iter().map(|it| it.difference.as_ref()?.p).collect();
    for (change, p) in changes.iter_mut().zip(holm(&ps)) {
        if let Some(difference) = &mut change.difference {
            difference.p_holm = p;
        }
        judge(definition, change);
        if change.difference.as_ref().is_some_and(|it| it.value != 0.0) {
            change.causes = (0..causes.len()).filter(|&it| may_explain(&causes[it], &change.series)).collect();
        }
    }
    changes.sort_by_key(|it| (!it.is_regression, rank(it.verdict)));
    changes
}

fn rank(verdict: Verdict) -> usize {
    use Verdict::{Better, Changed, Gone, New, Redefined, Same, Unclear, Worse};
    [Gone, Worse, Changed, Better, Redefined, New, Unclear, Same].iter().position(|it| *it == verdict).unwrap_or(9)
}

fn may_explain(cause: &Cause, series: &Series) -> bool {
    let is_metric = || cause.before.starts_with(&format!("{}:{},", series.metric.metric, series.metric.variant));
    match &cause.source {
        Some(source) => *source == series.source,
        None => cause.what != "metric" || is_metric(),
    }
}

fn change(line: &Line, was: Option<&Series>, had: Option<&Line>, past: &[Kept], bootstrap: &Bootstrap) -> Change {
    let series = line.series.clone();
    let new = |verdict| Change {
        before: was.and_then(|it| it.mean),
        after: series.mean,
        series: series.clone(),
        difference: None,
        verdict,
        is_regression: false,
        causes: Vec::new(),
    };
    let Some(was) = was.filter(|it| it.mean.is_some()) else { return new(Verdict::New) };
    let (Some(mean_before), Some(mean)) = (was.mean, series.mean) else { return new(Verdict::Gone) };
    if was.metric.version != series.metric.version {
        return new(Verdict::Redefined);
    }
    let (tested, how) = if series.is_set {
        let past: Vec<f64> = past
            .iter()
            .filter(|it| it.good)
            .filter_map(|it| {
                it.found.series.iter().find(|it| it.key() == series.key() && it.metric == series.metric)?.mean
            })
            .collect();
        match among_nights(&past, mean, bootstrap.level) {
            Some(tested) => (tested, How::Nights { n: past.len() }),
            None => (Tested { value: mean - mean_before, interval: None, p: None }, How::Alone),
        }
    } else {
        // All that the last good night had must still be there: part of it would be another study.
        let had = had.filter(|it| it.values.len() == was.n);
        let paired_values: BTreeMap<String, f64> = had
            .map(|had| {
                line.values.iter().filter_map(|(key, now)| Some((key.clone(), now - had.values.get(key)?))).collect()
            })
            .unwrap_or_default();
        // The seeds of one sample move together: the sample is what is drawn from all there could be.
        let differences: Vec<f64> = by_sample(&paired_values).into_values().collect();
        let most = was.n.min(series.n);
        match paired(&differences, bootstrap).filter(|_| paired_values.len() * 2 > most) {
            Some(tested) => (tested, How::Paired { n: differences.len() }),
            None => {
                let summary = |it: &Series| Some(Summary { n: it.n, mean: it.mean?, sd: it.sd? });
                let tested = summary(was).zip(summary(&series)).map(|(a, b)| unpaired(a, b, bootstrap.level));
                (tested.unwrap_or(Tested { value: mean - mean_before, interval: None, p: None }), How::Unpaired)
            }
        }
    };
    let mut change = new(Verdict::Unclear);
    change.difference =
        Some(Difference { value: tested.value, interval: tested.interval, p: tested.p, p_holm: None, how });
    change
}

/// Says what the change means: beyond noise after Holm's correction, its interval beyond the threshold, and which way.
fn judge(definition: &Definition, change: &mut Change) {
    let Some(difference) = &change.difference else { return };
    if difference.value == 0.0 && difference.interval.is_none_or(|it| it.holds(0.0)) {
        change.verdict = Verdict::Same;
        return;
    }
    let beyond = |threshold: f64| beyond(difference, threshold, definition.history.level);
    let Some(is_beyond_noise) = beyond(0.0) else { return };
    change.verdict = if !is_beyond_noise {
        Verdict::Same
    } else {
        match change.series.better.map(|it| goodness(it, difference.value)) {
            Some(good) if good > 0.0 => Verdict::Better,
            Some(_) => Verdict::Worse,
            None => Verdict::Changed,
        }
    };
    if definition.alarms.is_empty() {
        change.is_regression = change.verdict == Verdict::Worse;
        return;
    }
    let series = &change.series;
    let meant = |patterns: &[Pattern]| patterns.is_empty() || patterns.iter().any(|it| series.is_meant(it));
    change.is_regression = definition.alarms.iter().any(|alarm| {
        let way = match alarm.when {
            When::Worse => matches!(change.verdict, Verdict::Worse),
            When::Better => matches!(change.verdict, Verdict::Better),
            When::Changed => matches!(change.verdict, Verdict::Worse | Verdict::Better | Verdict::Changed),
        };
        let relative = alarm.relative * change.before.unwrap_or_default().abs();
        let is_of = |it: &(String, String)| it.0 == series.metric.metric && it.1 == series.metric.variant;
        way && alarm.metrics.iter().any(is_of)
            && meant(&alarm.models)
            && beyond(alarm.threshold.max(relative)) == Some(true)
    });
}

/// Whether a difference is beyond noise and its whole interval farther from 0 than `threshold`; none if nobody can tell.
fn beyond(difference: &Difference, threshold: f64, level: f64) -> Option<bool> {
    let (p, interval) = (difference.p_holm?, difference.interval?);
    Some(p < 1.0 - level && nearest(&interval) > threshold)
}

/// How near to 0 an interval comes; 0 if it holds it.
fn nearest(it: &Interval) -> f64 {
    it.low.max(-it.high).max(0.0)
}

fn goodness(better: Better, difference: f64) -> f64 {
    match better {
        Better::Higher => difference,
        Better::Lower => -difference,
    }
}

/// Each source against the baseline on the same samples, seeds averaged. The first source that fits is the baseline.
pub(super) fn versus(definition: &Definition, tonight: &[Line], bootstrap: &Bootstrap) -> Vec<Versus> {
    let Some(pattern) = &definition.compare.baseline else { return Vec::new() };
    let is_baseline = |it: &&Line| it.series.is_meant(pattern);
    let Some(name) = tonight.iter().find(is_baseline).map(|it| it.series.source.clone()) else { return Vec::new() };
    let mut versus = Vec::new();
    for line in tonight.iter().filter(|it| !it.series.is_set && it.series.source != name) {
        let base = tonight.iter().find(|it| it.series.source == name && it.series.metric == line.series.metric);
        let Some(base) = base.filter(|it| !it.series.is_set) else { continue };
        let (ours, theirs) = (by_sample(&line.values), by_sample(&base.values));
        let differences: Vec<f64> =
            ours.iter().filter_map(|(sample, value)| Some(value - theirs.get(sample)?)).collect();
        let (tested, how) = match paired(&differences, bootstrap) {
            Some(tested) => (tested, How::Paired { n: differences.len() }),
            None => {
                let summary = |it: &Series| Some(Summary { n: it.n, mean: it.mean?, sd: it.sd? });
                let Some((a, b)) = summary(&base.series).zip(summary(&line.series)) else { continue };
                (unpaired(a, b, bootstrap.level), How::Unpaired)
            }
        };
        versus.push(Versus {
            source: line.series.source.clone(),
            model: line.series.model.clone(),
            baseline: name.clone(),
            label: line.series.label.clone(),
            better: line.series.better,
            difference: Difference { value: tested.value, interval: tested.interval, p: tested.p, p_holm: None, how },
            verdict: Verdict::Unclear,
        });
    }
    let ps: Vec<Option<f64>> = versus.iter().map(|it| it.difference.p).collect();
    for (it, p) in versus.iter_mut().zip(holm(&ps)) {
        it.difference.p_holm = p;
        it.verdict = match (beyond(&it.difference, 0.0, definition.history.level), it.better) {
            (None, _) => Verdict::Unclear,
            (Some(false), _) => Verdict::Same,
            (Some(true), None) => Verdict::Changed,
            (Some(true), Some(better)) if goodness(better, it.difference.value) > 0.0 => Verdict::Better,
            (Some(true), Some(_)) => Verdict::Worse,
        };
    }
    versus
}

/// Each sample's mean over its seeds.
fn by_sample(values: &BTreeMap<String, f64>) -> BTreeMap<&str, f64> {
    let mut sums: BTreeMap<&str, (f64, usize)> = BTreeMap::new();
    for (key, value) in values {
        let sum = sums.entry(sample(key)).or_default();
        *sum = (sum.0 + value, sum.1 + 1);
    }
    sums.into_iter().map(|(sample, (sum, n))| (sample, sum / n as f64)).collect()
}

fn sample(key: &str) -> &str {
    key.split('\u{0}').next().unwrap_or(key)
}
