//! Reads `[limits]`: how long one attempt of each kind of job may take.

use std::collections::BTreeMap;
use std::time::Duration;

use toml::de::DeValue;

use super::super::block::{Block, quoted};
use super::check_keys;
use crate::job::task::Task;

/// The longest limit: ten years.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The table, with nothing in the place of what is wrong; its faults know that.
pub(super) fn limits(top: &Block) -> BTreeMap<String, Duration> {
    let Some(value) = top.get("limits") else { return BTreeMap::new() };
    let DeValue::Table(table) = value.get_ref() else {
        top.wrong_type("limits", value, "a table", "write `[limits]` and its keys below it".to_owned());
        return BTreeMap::new();
    };
    let block = Block { title: "[limits]", table, span: value.span(), faults: top.faults };
    check_keys(&block, &Task::KINDS);
    Task::KINDS.iter().filter_map(|&kind| Some((kind.to_owned(), limit(&block, kind)?))).collect()
}

fn limit(block: &Block, kind: &str) -> Option<Duration> {
    if let Some(value) = block.get(kind)
        && !matches!(value.get_ref(), DeValue::String(_))
    {
        let help = quoted(value).unwrap_or_else(|| format!("such as `{kind} = \"90min\"`"));
        block.wrong_type(kind, value, "a time with its unit", help);
        return None;
    }
    let text = block.text(kind)?;
    let fits = |it: &Duration| (Duration::from_secs(1)..=LONGEST).contains(it) && it.subsec_nanos() == 0;
    let limit = humantime::parse_duration(&text.value).ok().filter(fits);
    if limit.is_none() {
        let help = format!("such as `{kind} = \"90min\"`, `\"2h\"` or `\"1day 12h\"`: whole seconds, at least one");
        block.faults.at(&text.span, format!("`{kind}` cannot be `{}`", text.value), help);
    }
    limit
}
