//! What is different between two nights: what a change may be due to.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Provenance;

/// Something that differs between a night and the last good one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cause {
    /// `program`, `package`, `settings`, `pictures`, `machines` or `metric`.
    pub what: String,
    /// Of which source; none where it is about all.
    pub source: Option<String>,
    /// What it was.
    pub before: String,
    /// What it is.
    pub after: String,
}

/// All that differs, what is about one source first. `metrics` are those whose definition has another version.
pub(super) fn causes(before: &Provenance, after: &Provenance, metrics: &BTreeMap<String, (u32, u32)>) -> Vec<Cause> {
    let mut causes = Vec::new();
    for (name, now) in &after.sources {
        let Some(was) = before.sources.get(name) else { continue };
        let mut add = |what: &str, before: String, after: String| {
            causes.push(Cause { what: what.to_owned(), source: Some(name.clone()), before, after });
        };
        if was.packages != now.packages {
            add("package", listed(&was.packages), listed(&now.packages));
        }
        let settings = settings(&was.settings, &now.settings);
        for (key, before, after) in &settings {
            add("settings", format!("{key} = {before}"), format!("{key} = {after}"));
        }
        // Another package or setting makes other pictures: that goes without saying.
        if was.pictures != now.pictures && was.packages == now.packages && settings.is_empty() {
            add("pictures", was.pictures.clone(), now.pictures.clone());
        }
    }
    for (metric, (was, now)) in metrics {
        let text = |version: &u32| format!("{metric}, version {version}");
        causes.push(Cause { what: "metric".to_owned(), source: None, before: text(was), after: text(now) });
    }
    for (what, was, now) in
        [("program", &before.programs, &after.programs), ("machines", &before.machines, &after.machines)]
    {
        if was != now {
            causes.push(Cause { what: what.to_owned(), source: None, before: listed(was), after: listed(now) });
        }
    }
    causes
}

fn listed(items: &BTreeSet<String>) -> String {
    if items.is_empty() { "none".to_owned() } else { items.iter().cloned().collect::<Vec<_>>().join(", ") }
}

/// The keys of two JSON objects that differ, with both values.
fn settings(before: &Value, after: &Value) -> Vec<(String, String, String)> {
    let empty = serde_json::Map::new();
    let of = |it: &Value| it.as_object().cloned().unwrap_or_else(|| empty.clone());
    let (before, after) = (of(before), of(after));
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let shown = |it: Option<&Value>| match it {
        None | Some(Value::Null) => "none".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    keys.into_iter()
        .filter(|key| before.get(*key) != after.get(*key))
        .map(|key| (key.clone(), shown(before.get(key)), shown(after.get(key))))
        .collect()
}
