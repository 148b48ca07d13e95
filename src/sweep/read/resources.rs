//! Reads `[resources]` tables.

use toml::de::DeValue;

use super::super::block::{Block, quoted};
use super::super::resources::Wants;
use super::check_keys;
use crate::job::needs::is_label;

/// The keys of `[resources]`, at the top and in blocks.
pub(super) const RESOURCES: &[&str] = &["device", "gpu", "gpu_memory", "gpus", "labels"];

/// The table `resources` of a block, called `title` in diagnoses, within what stands around it.
pub(super) fn wants(outer: &Block, title: &'static str, around: &Wants) -> Wants {
    let Some(value) = outer.get("resources") else { return around.clone() };
    let DeValue::Table(table) = value.get_ref() else {
        outer.wrong_type("resources", value, "a table", format!("write `{title}` and its keys below it"));
        return around.clone();
    };
    let block = Block { title, table, span: value.span(), faults: outer.faults };
    check_keys(&block, RESOURCES);
    let wants = Wants {
        cuda: block.choice("device", &[("any", false), ("cuda", true)]),
        gpu: block.text("gpu").map(|it| it.value.to_lowercase()),
        gpu_memory_gib: block.integer("gpu_memory", 1..=100_000).map(|it| it as u32),
        n_gpus: block.integer("gpus", 1..=1024).map(|it| it as u16),
        labels: labels(&block),
    }
    .within(around);
    if wants.cuda == Some(false) && wants.asks_for_gpus() {
        let key = ["device", "gpu", "gpu_memory", "gpus"].into_iter().find(|it| block.get(it).is_some());
        let span = key.map_or_else(|| block.span.clone(), |it| block.key_span(it));
        let help = "take `device = \"any\"` out, or what is asked of the GPU".to_owned();
        block.faults.at(&span, "`device = \"any\"` lets any slot do it, and other keys ask for a GPU", help);
    }
    wants
}

fn labels(block: &Block) -> Option<Vec<String>> {
    let value = block.get("labels")?;
    let DeValue::Array(list) = value.get_ref() else {
        let help = match value.get_ref() {
            DeValue::String(text) => Some(format!("put it in brackets: [\"{text}\"]")),
            _ => None,
        };
        block.wrong_type("labels", value, "a list of labels", help);
        return None;
    };
    let mut labels = Vec::with_capacity(list.len());
    for item in list.iter() {
        let DeValue::String(text) = item.get_ref() else {
            block.wrong_type("labels", item, "a list of labels", quoted(item));
            continue;
        };
        if is_label(text) {
            labels.push(text.to_string());
        } else {
            let help = "a label has at most 63 letters a to z, digits, `-`, `_` and `.`".to_owned();
            block.faults.at(&item.span(), format!("`{text}` is no label"), help);
        }
    }
    labels.sort();
    labels.dedup();
    Some(labels)
}
