//! The folders that a sweep trains on: found, checked against what is asked of them, hashed.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::Sweep;
use super::fault::Collector;
use super::finetune::{Finetune, Point};
use super::inventory::{Data, DataFile, HashCache, Progress, hash_files};
use crate::job::Hash;
use crate::train::data::Folder;

/// What each `[[finetune]]` block's folder holds, before anything is hashed.
#[derive(Debug, Default)]
pub(super) struct Datasets {
    /// Block by block.
    folders: Vec<Folder>,
    /// How the points of each block part its pictures.
    splits: Vec<Vec<Split>>,
}

/// What a point learns from, and what it only looks at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Split {
    /// Pictures whose shorter side is below this are neither.
    pub min_side: u32,
    /// So many are only looked at.
    pub held_out: u32,
}

impl Split {
    /// The pictures that are held out, and those that are learnt from, each by content. Which ones follows from the pictures
    /// alone, so that all points hold out the same.
    pub fn of<'a>(&self, data: &'a Data) -> (Vec<&'a DataFile>, Vec<&'a DataFile>) {
        let large = data.pictures.iter().filter(|it| it.size.0.min(it.size.1) >= self.min_side);
        let mut held_out: Vec<&DataFile> = large.collect();
        held_out.sort_by_cached_key(|it| Hash::of_value(&("held out", it.content)));
        let mut learnt = held_out.split_off((self.held_out as usize).min(held_out.len()));
        learnt.sort_by_key(|it| it.content);
        held_out.sort_by_key(|it| it.content);
        (held_out, learnt)
    }
}

/// The contents of the pictures that some point holds out and none learns from.
pub(super) fn held_out(data: &Data, splits: &[Split]) -> HashSet<Hash> {
    let (mut shown, mut known) = (HashSet::new(), HashSet::new());
    for (held_out, learnt) in splits.iter().map(|it| it.of(data)) {
        shown.extend(held_out.iter().map(|it| it.content));
        known.extend(learnt.iter().map(|it| it.content));
    }
    shown.retain(|it| !known.contains(it));
    shown
}

impl Datasets {
    /// Reads the folders of all blocks; `base` is the folder of the sweep file.
    pub(super) fn find(sweep: &Sweep, base: &Path, faults: &Collector) -> Self {
        let mut read: Known = HashMap::new();
        let mut datasets = Self::default();
        for block in &sweep.finetune {
            let folder = match folder(block, base, &mut read) {
                Ok(folder) => folder,
                Err(error) => {
                    faults.at(&block.place, format!("{error:#}"), None);
                    Folder::default()
                }
            };
            if !folder.pictures.is_empty() {
                block.points.iter().for_each(|it| check(it, block, &folder, faults));
            }
            datasets.folders.push(folder);
            datasets.splits.push(block.points.iter().map(Point::split).collect());
        }
        datasets
    }

    /// How the points of a block part its pictures.
    pub(super) fn splits(&self, block: usize) -> Vec<Split> {
        self.splits.get(block).cloned().unwrap_or_default()
    }

    /// Hashes the pictures.
    ///
    /// # Errors
    /// A file that cannot be read any more.
    pub(super) fn hashed(
        self,
        cache: &mut dyn HashCache,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> anyhow::Result<Vec<Data>> {
        self.folders.into_iter().map(|it| data(it, cache, progress)).collect()
    }
}

/// Folders that were read: which, whether with captions, and what stands for one that is not there.
type Known = HashMap<(PathBuf, bool, Option<String>), Folder>;

fn folder(block: &Finetune, base: &Path, read: &mut Known) -> anyhow::Result<Folder> {
    let path = base.join(&block.data);
    let root = path.canonicalize().with_context(|| format!("cannot open the folder `{}`", block.data))?;
    let key = (root.clone(), block.has_text(), block.caption.clone());
    if let Some(known) = read.get(&key) {
        return Ok(known.clone());
    }
    let folder = match block.has_text() {
        true => Folder::captioned(&root, block.caption.as_deref())?,
        false => Folder::without_captions(&root)?,
    };
    read.insert(key, folder.clone());
    Ok(folder)
}

/// Whether a point has something to learn from.
fn check(point: &Point, block: &Finetune, folder: &Folder, faults: &Collector) {
    let n_all = folder.pictures.len();
    let n = n_all - folder.smaller_than(point.min_side).len();
    if n == 0 {
        let most = folder.pictures.iter().map(|it| it.width.min(it.height)).max().unwrap_or(0);
        let message = format!(
            "`{}` is left nothing to learn from: the shorter side of each of the {n_all} pictures is below {} pixels",
            point.name, point.min_side
        );
        let help = format!("the largest has {most}: a smaller `size`, or `min_side = 0`, which enlarges them");
        faults.at(&block.place, message, help);
    } else if n <= point.held_out as usize {
        let message = format!("{} of {n} pictures are held out: nothing is left to learn from", point.held_out);
        let help = (n > 1).then(|| format!("at most {} can be held out", n - 1));
        faults.at(&point.places.held_out, message, help.or_else(|| Some("take `held_out` out".to_owned())));
    }
}

fn data(folder: Folder, cache: &mut dyn HashCache, progress: &(dyn Fn(Progress) + Sync)) -> anyhow::Result<Data> {
    let paths: Vec<PathBuf> = folder.pictures.iter().map(|it| it.path.clone()).collect();
    let hashes = hash_files(&paths, cache, progress)?;
    let mut data = Data { pictures: Vec::with_capacity(hashes.len()), left_out: folder.left_out };
    let mut seen: HashMap<Hash, PathBuf> = HashMap::new();
    for (picture, content) in folder.pictures.into_iter().zip(hashes) {
        if let Some(first) = seen.get(&content) {
            data.left_out.push((picture.path, format!("it is the same picture as {}", first.display())));
            continue;
        }
        seen.insert(content, picture.path.clone());
        let size = (picture.width, picture.height);
        data.pictures.push(DataFile { path: picture.path, content, size, caption: picture.caption });
    }
    data.pictures.sort_by_key(|it| it.content);
    Ok(data)
}
