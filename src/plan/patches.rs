//! What `[[patches]]` blocks come to: parts of other blocks' pictures, each a picture that is scored by itself.

use std::collections::HashSet;

use anyhow::{bail, ensure};

use super::asking::size_after;
use super::build::{Batch, evaluations, wanted};
use super::expand::Recipe;
use super::making::Made;
use super::{Cell, Job, Source};
use crate::job::task::{Picture, Step};
use crate::labels::Area;
use crate::sweep::patches::{PatchBox, Patches};
use crate::sweep::{Inventory, Sweep};

/// The patches of one source.
pub(super) struct Patched {
    pub(super) source: Source,
    pub(super) cells: Vec<PatchCell>,
}

/// One patch.
pub(super) struct PatchCell {
    /// Its cell; the caller says which source's it is and which job scores it.
    pub(super) cell: Cell,
    /// The jobs that score it.
    pub(super) evaluations: Vec<Job>,
    /// Of what a model makes: the places of its source and its cell among what models make.
    pub(super) made: Option<(usize, usize)>,
}

/// A source that patches are cut from.
struct From<'a> {
    name: &'a str,
    model: Option<&'a str>,
    cells: Vec<Whole<'a>>,
}

/// One of its pictures.
struct Whole<'a> {
    sample: &'a str,
    picture: Picture,
    size: Option<(u32, u32)>,
    path: Option<&'a std::path::PathBuf>,
    caption: Option<&'a String>,
    made: Option<(usize, usize)>,
}

/// The patches of every block, source by source.
///
/// # Errors
/// A row of a block's table that no picture of it fits: no such sample or source, or a part that lies outside.
pub(super) fn sources(
    sweep: &Sweep,
    inventory: &Inventory,
    recipes: &[Recipe],
    made: &[Made],
) -> anyhow::Result<Vec<Patched>> {
    let (n_blocks, n_read) = (sweep.patches.len(), inventory.patches.len());
    ensure!(n_blocks == n_read, "the sweep has {n_blocks} [[patches]] blocks, its inventory {n_read}");
    let batches = wanted(sweep, inventory, false, false)?;
    let mut patched = Vec::new();
    for (block, boxes) in sweep.patches.iter().zip(&inventory.patches) {
        let from = from(block, inventory, recipes, made);
        let is_elsewhere = |name: &str| {
            let others = recipes.iter().map(|it| &it.source).chain(made.iter().map(|it| &it.source));
            others.into_iter().any(|it| it.name == name || it.model.as_deref() == Some(name))
        };
        for it in boxes {
            check(block, it, &from, &is_elsewhere)?;
        }
        if !boxes.iter().any(|it| from.iter().any(|source| is_of(it, source))) {
            bail!("patches `{}`: no row of {} is of `{}`", block.name, block.boxes, block.of);
        }
        for source in &from {
            let name = if from.len() == 1 { block.name.clone() } else { format!("{} of {}", block.name, source.name) };
            let mut seen = HashSet::new();
            let mut cells = Vec::new();
            for it in boxes.iter().filter(|it| is_of(it, source)) {
                for whole in source.cells.iter().filter(|whole| whole.sample == it.sample) {
                    let cell = cell(sweep, &batches, whole, it.area);
                    if seen.insert(cell.cell.key) {
                        cells.push(cell);
                    }
                }
            }
            if !cells.is_empty() {
                let source = Source { name, model: None, rung: None, making: None, set: None };
                patched.push(Patched { source, cells });
            }
        }
    }
    Ok(patched)
}

/// The sources of the block that patches are of.
fn from<'a>(block: &Patches, inventory: &'a Inventory, recipes: &'a [Recipe], made: &'a [Made]) -> Vec<From<'a>> {
    let of_files = recipes.iter().filter(|it| it.block == block.of).map(|recipe| From {
        name: &recipe.source.name,
        model: recipe.source.model.as_deref(),
        cells: inventory.blocks[recipe.root]
            .iter()
            .map(|file| Whole {
                sample: &file.sample,
                picture: Picture::of_file(file.content, recipe.steps.clone()),
                size: file.size.map(|it| size_after(it, &recipe.steps)),
                path: Some(&file.path),
                caption: file.caption.as_ref(),
                made: None,
            })
            .collect(),
    });
    let of_models = made.iter().enumerate().filter(|it| it.1.block == block.of).map(|(source_idx, source)| From {
        name: &source.source.name,
        model: source.source.model.as_deref(),
        cells: source
            .cells
            .iter()
            .enumerate()
            .map(|(idx, it)| Whole {
                sample: &it.cell.sample,
                picture: it.picture(),
                size: it.size,
                path: it.cell.path.as_ref(),
                caption: it.cell.caption.as_ref(),
                made: Some((source_idx, idx)),
            })
            .collect(),
    });
    of_files.chain(of_models).collect()
}

fn is_of(it: &PatchBox, source: &From) -> bool {
    it.source.as_deref().is_none_or(|name| name == source.name || Some(name) == source.model)
}

/// Refuses what would be left out silently. A row of another block's source is another block's.
fn check(block: &Patches, it: &PatchBox, from: &[From], is_elsewhere: &dyn Fn(&str) -> bool) -> anyhow::Result<()> {
    let place = format!("patches `{}`: {} line {}", block.name, block.boxes, it.line);
    let meant = |names: &mut dyn Iterator<Item = &str>, name: &str| {
        let near = names.map(|it| (strsim::jaro_winkler(it, name), it)).filter(|it| it.0 > 0.85);
        near.max_by(|a, b| a.0.total_cmp(&b.0)).map_or_else(String::new, |it| format!("; did you mean `{}`?", it.1))
    };
    let sources: Vec<&From> = from.iter().filter(|source| is_of(it, source)).collect();
    if let (Some(name), true) = (&it.source, sources.is_empty()) {
        if is_elsewhere(name) {
            return Ok(());
        }
        let meant = meant(&mut from.iter().map(|it| it.name), name);
        bail!("{place}: `{}` has no source `{name}`{meant}", block.of);
    }
    let mut n_wholes = 0;
    for whole in sources.iter().flat_map(|it| &it.cells).filter(|whole| whole.sample == it.sample) {
        n_wholes += 1;
        let Area { x, y, width, height } = it.area;
        if let Some((w, h)) = whole.size
            && (u64::from(x) + u64::from(width) > u64::from(w) || u64::from(y) + u64::from(height) > u64::from(h))
        {
            bail!("{place}: {width}×{height} pixels at {x}, {y} lie outside of `{}`, which is {w}×{h}", it.sample);
        }
    }
    if n_wholes == 0 {
        let meant = meant(&mut sources.iter().flat_map(|it| &it.cells).map(|it| it.sample), &it.sample);
        bail!("{place}: `{}` has no sample `{}`{meant}", block.of, it.sample);
    }
    Ok(())
}

fn cell(sweep: &Sweep, batches: &[Batch], whole: &Whole, area: Area) -> PatchCell {
    let Area { x, y, width, height } = area;
    let mut picture = whole.picture.clone();
    picture.steps.push(Step::Patch { x, y, width, height });
    let key = picture.key();
    let megapixels = (f64::from(width) * f64::from(height) / 1e6) as f32;
    let evaluations = evaluations(sweep, batches, &picture, key, None, megapixels);
    let cell = Cell {
        source: 0,
        sample: format!("{} {width}x{height}+{x}+{y}", whole.sample),
        key,
        jobs: Vec::new(),
        path: whole.path.cloned(),
        caption: whole.caption.cloned(),
    };
    PatchCell { cell, evaluations, made: whole.made }
}
