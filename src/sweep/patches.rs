//! The block that scores parts of other blocks' pictures, and the table that says which parts.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use serde::Deserialize;

use super::inventory::SourceFile;
use crate::labels::Area;
use crate::labels::mapping::Mapping;
use crate::labels::rows::area;
use crate::labels::table::Table;

/// Parts of the pictures of another block, each a picture of its own: those that people have rated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Patches {
    /// The block's name.
    pub name: String,
    /// The name of the block whose pictures they are parts of.
    pub of: String,
    /// The table of parts as written: relative to the sweep file.
    pub boxes: String,
}

/// A row of the table: a part of every picture of a sample.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PatchBox {
    /// Where it stands in the file.
    pub line: u64,
    /// The sample.
    pub sample: String,
    /// Only of this source, or of those of this model; none: of every source of the block.
    pub source: Option<String>,
    /// The part.
    pub area: Area,
}

/// A line of the key file of a sheet for raters.
#[derive(Deserialize)]
struct Keyed {
    sample: String,
    sources: Vec<String>,
    area: Option<Area>,
}

/// Reads the table of `block`; `base` is the folder of the sweep file, `files` are those of all `[[images]]` blocks, which
/// the table may name by their paths. Rows without a part are left out, and so are those that say the same again.
///
/// # Errors
/// It cannot be read, names no parts, or a row names no picture or half a part.
pub(super) fn read(block: &Patches, base: &Path, files: &[Vec<SourceFile>]) -> anyhow::Result<Vec<PatchBox>> {
    let path = base.join(&block.boxes);
    let place = || format!("patches `{}`: {}", block.name, path.display());
    let bytes = std::fs::read(&path).with_context(|| format!("patches `{}`: read {}", block.name, path.display()))?;
    let found = match keyed(&bytes) {
        Some(found) => found,
        None => tabled(&path, &bytes, files).with_context(place)?,
    };
    let mut boxes: Vec<PatchBox> = Vec::with_capacity(found.len());
    let mut seen = std::collections::HashSet::new();
    for it in found {
        if seen.insert((it.sample.clone(), it.source.clone(), it.area)) {
            boxes.push(it);
        }
    }
    ensure!(!boxes.is_empty(), "{}: no row has x, y, width and height", place());
    Ok(boxes)
}

/// The parts of a key file; none where it is something else. An item that is a pair is a part of both.
fn keyed(bytes: &[u8]) -> Option<Vec<PatchBox>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut boxes = Vec::new();
    for (idx, line) in text.lines().enumerate().filter(|it| !it.1.trim().is_empty()) {
        let it: Keyed = serde_json::from_str(line).ok()?;
        let Some(area) = it.area else { continue };
        for source in it.sources {
            boxes.push(PatchBox { line: idx as u64 + 1, sample: it.sample.clone(), source: Some(source), area });
        }
    }
    Some(boxes)
}

fn tabled(path: &Path, bytes: &[u8], files: &[Vec<SourceFile>]) -> anyhow::Result<Vec<PatchBox>> {
    let table = Table::parse(path, bytes)?;
    let mapping = Mapping::guess(&table, &[])?;
    for field in ["x", "y", "width", "height"] {
        ensure!(mapping.has(field), "there is no column `{field}`\nthe columns are: {}", table.columns.join(", "));
    }
    let samples: HashMap<&Path, &str> =
        files.iter().flatten().map(|it| (it.path.as_path(), it.sample.as_str())).collect();
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut boxes = Vec::new();
    for row in 0..table.rows.len() {
        let line = table.rows[row].line;
        let place = || format!("line {line}");
        let Some(area) = area(&table, &mapping, row).with_context(place)? else { continue };
        let text = |field: &str| mapping.text(&table, row, field);
        let sample = match (text("sample"), text("path")) {
            (Some(sample), _) => sample.to_owned(),
            (None, Some(file)) => {
                let at = folder.join(file).canonicalize().ok();
                let known = at.as_ref().and_then(|it: &PathBuf| samples.get(it.as_path()));
                known.map_or_else(|| Path::new(file).with_extension("").display().to_string(), |it| (*it).to_owned())
            }
            (None, None) => bail!("line {line} names its picture by neither `sample` nor `path`"),
        };
        boxes.push(PatchBox { line, sample, source: text("source").map(str::to_owned), area });
    }
    Ok(boxes)
}
