//! The key of a sheet: what each of its blind items is.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::job::Hash;
use crate::labels::{Area, Shown};

/// What an item of a sheet is. A line of JSON each.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Item {
    /// Its name on the sheet.
    pub(super) item: String,
    /// The picture's key; of a pair, that of the pair's first.
    pub(super) picture: Hash,
    /// Of a pair, the second's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) second: Option<Hash>,
    /// The part of it, or of both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) area: Option<Area>,
    /// Of a pair: which of the two the sheet shows as its first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) shown: Option<Shown>,
    /// For people: the sample.
    pub(super) sample: String,
    /// For people: the source, or both.
    pub(super) sources: Vec<String>,
}

/// Reads a key file.
///
/// # Errors
/// It cannot be read, or a line of it is no item.
pub(super) fn read(path: &Path) -> anyhow::Result<BTreeMap<String, Item>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let mut items = BTreeMap::new();
    for (idx, line) in text.lines().enumerate().filter(|it| !it.1.trim().is_empty()) {
        let item: Item = serde_json::from_str(line).with_context(|| format!("{} line {}", path.display(), idx + 1))?;
        items.insert(item.item.clone(), item);
    }
    Ok(items)
}
