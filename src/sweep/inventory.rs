//! The files that a sweep speaks of: found, hashed and named, so that a plan needs no disk.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufReader, Seek};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail, ensure};
use rayon::prelude::*;
use walkdir::WalkDir;

use super::networks::NetworkFiles;
use super::packages::PackageFiles;
use super::patches::{self, PatchBox};
use super::prompts::Prompt;
use super::{Images, Sweep, captions, sample};
use crate::image;
use crate::job::Hash;

/// Files whose names end in one of these are pictures, in any case of letters.
const EXTENSIONS: [&str; 4] = ["jpg", "jpeg", "png", "webp"];

/// A file that was written so short a time ago may yet be written again within the same tick of
/// its file system's clock: its stamp says nothing.
const RACY: Duration = Duration::from_secs(2);

/// The files of each `[[images]]` block; what the other blocks need,
/// [`Resources::add_to`](super::packages::Resources::add_to) brings.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Inventory {
    /// In the order of [`Sweep::images`], each block's files sorted by sample.
    pub blocks: Vec<Vec<SourceFile>>,
    /// In the order of [`Sweep::patches`], the rows of each block's table.
    pub patches: Vec<Vec<PatchBox>>,
    /// In the order of [`Sweep::generate`], each block's prompts in their file's order.
    pub prompts: Vec<Vec<Prompt>>,
    /// In the order of [`Sweep::finetune`], what each block trains on.
    pub data: Vec<Data>,
    /// The packages, by the names that the sweep has for them.
    pub packages: BTreeMap<String, PackageFiles>,
    /// What metrics look through, by the names that the sweep has for it.
    pub networks: BTreeMap<String, NetworkFiles>,
}

/// A folder of pictures to train on.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Data {
    /// Its pictures, each content once, sorted by content: where they lie does not matter.
    pub pictures: Vec<DataFile>,
    /// Files that cannot be trained on, and why.
    pub left_out: Vec<(PathBuf, String)>,
}

/// A picture to train on.
#[derive(Clone, PartialEq, Debug)]
pub struct DataFile {
    /// Where it lies: absolute.
    pub path: PathBuf,
    /// The hash of its bytes.
    pub content: Hash,
    /// Width and height in pixels, as it is looked at.
    pub size: (u32, u32),
    /// What it shows; empty where captions are not read.
    pub caption: String,
}

impl Inventory {
    /// Every picture file: where it lies, the hash of its bytes, and its width and height if they are known.
    pub fn pictures(&self) -> impl Iterator<Item = (&PathBuf, Hash, Option<(u32, u32)>)> {
        let blocks = self.blocks.iter().flatten().map(|it| (&it.path, it.content, it.size));
        let data = self.data.iter().flat_map(|it| &it.pictures);
        blocks.chain(data.map(|it| (&it.path, it.content, Some(it.size))))
    }
}

/// One picture file.
#[derive(Clone, PartialEq, Debug)]
pub struct SourceFile {
    /// Where it lies: absolute, without links down to the block's folder.
    pub path: PathBuf,
    /// The path below the block's folder without extension; no two of a block are equal.
    pub sample: String,
    /// The hash of its bytes. A file that cannot be read has the hash of its path and the reason
    /// instead, so that it is planned and ends as one failed job: whoever opens it by this hash
    /// does not find it.
    pub content: Hash,
    /// Width and height in pixels, as its header says; none where that cannot be read.
    pub size: Option<(u32, u32)>,
    /// What it shows, where the block's captions say so.
    pub caption: Option<String>,
}

/// What changes when a file does.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FileStamp {
    /// The bytes of its absolute path.
    pub path: Vec<u8>,
    /// Its length.
    pub size_bytes: u64,
    /// When it was last written, nanoseconds since 1970.
    pub mtime_ns: i64,
}

/// What is known of a file as long as its stamp stays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Known {
    /// The hash of its bytes.
    pub content: Hash,
    /// Width and height in pixels, as its header says; none where that cannot be read.
    pub size: Option<(u32, u32)>,
}

/// Remembers files between scans.
pub trait HashCache {
    /// What was put under an equal stamp.
    fn get(&self, stamp: &FileStamp) -> Option<Known>;
    /// Remembers a file.
    fn put(&mut self, stamp: FileStamp, known: Known);
}

/// Remembers nothing.
impl HashCache for () {
    fn get(&self, _: &FileStamp) -> Option<Known> {
        None
    }

    fn put(&mut self, _: FileStamp, _: Known) {}
}

/// Remembers until it is dropped.
impl HashCache for HashMap<FileStamp, Known> {
    fn get(&self, stamp: &FileStamp) -> Option<Known> {
        HashMap::get(self, stamp).copied()
    }

    fn put(&mut self, stamp: FileStamp, known: Known) {
        self.insert(stamp, known);
    }
}

/// How far a scan is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Bytes hashed.
    pub done_bytes: u64,
    /// Bytes to be hashed: those of files that the cache does not know.
    pub total_bytes: u64,
}

/// A picture file before it is read.
struct Found {
    path: PathBuf,
    stamp: Option<FileStamp>,
}

/// Finds and hashes the files of every block; `base` is the folder of the sweep file. Folders are
/// searched to any depth and through links. Hashing runs on the current rayon pool, which
/// calls `progress` from its threads.
///
/// # Errors
/// A folder or file that is not there, a folder that cannot be searched or has no picture in it,
/// captions or a table of patches that cannot be read; each names the block and the path.
pub fn scan(
    sweep: &Sweep,
    base: &Path,
    cache: &mut dyn HashCache,
    progress: &(dyn Fn(Progress) + Sync),
) -> anyhow::Result<Inventory> {
    let mut roots = Vec::with_capacity(sweep.images.len());
    // Blocks may share a folder, and folders may overlap: each file is read once.
    let mut found: Vec<Found> = Vec::new();
    let mut by_path: HashMap<PathBuf, usize> = HashMap::new();
    let mut searched: HashMap<PathBuf, Vec<usize>> = HashMap::new();
    for block in &sweep.images {
        let root = resolve(block, base)?;
        let files = match searched.get(&root) {
            Some(files) => files.clone(),
            None => {
                let paths = search(block, &root)?;
                let add = |path: PathBuf| {
                    *by_path.entry(path).or_insert_with_key(|path| {
                        found.push(Found { path: path.clone(), stamp: stamp(path) });
                        found.len() - 1
                    })
                };
                let files: Vec<usize> = paths.into_iter().map(add).collect();
                searched.insert(root.clone(), files.clone());
                files
            }
        };
        roots.push((root, files));
    }
    let known = hash(&found, cache, progress);
    let blocks = sweep.images.iter().zip(roots).map(|(block, (root, files))| {
        let files: Vec<(&Path, Known)> = files.iter().map(|&it| (found[it].path.as_path(), known[it])).collect();
        source_files(block, &root, &files).with_context(|| format!("images `{}`", block.name))
    });
    let blocks: Vec<Vec<SourceFile>> = blocks.collect::<anyhow::Result<_>>()?;
    let patches = sweep.patches.iter().map(|it| patches::read(it, base, &blocks)).collect::<anyhow::Result<_>>()?;
    Ok(Inventory { blocks, patches, ..Inventory::default() })
}

/// The block's folder or file, absolute and without links.
fn resolve(block: &Images, base: &Path) -> anyhow::Result<PathBuf> {
    let path = base.join(&block.path);
    let absolute = std::path::absolute(&path).unwrap_or_else(|_| path.clone());
    path.canonicalize().with_context(|| {
        format!("images `{}`: cannot open its path `{}`, which is {}", block.name, block.path, absolute.display())
    })
}

/// The picture files at and below `root`.
fn search(block: &Images, root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let place = || format!("images `{}`: `{}`, which is {}", block.name, block.path, root.display());
    if !root.is_dir() {
        ensure!(is_picture(root), "{} is neither a folder nor a JPEG, PNG or WebP file", place());
        return Ok(vec![root.to_owned()]);
    }
    let mut paths = Vec::new();
    for entry in WalkDir::new(root).follow_links(true) {
        match entry {
            Ok(entry) if is_picture(entry.path()) && entry.file_type().is_file() => paths.push(entry.into_path()),
            Ok(_) => {}
            // A link to a folder above it: everything behind it has been or will be seen.
            Err(error) if error.loop_ancestor().is_some() => {}
            // A link that leads nowhere is a picture that cannot be read.
            Err(error) if error.path().is_some_and(|it| is_picture(it) && it.is_symlink()) => {
                paths.extend(error.path().map(Path::to_owned));
            }
            Err(error) => return Err(error).with_context(|| format!("{}: cannot be searched", place())),
        }
    }
    if paths.is_empty() {
        bail!("{} has no JPEG, PNG or WebP file in it", place());
    }
    Ok(paths)
}

fn is_picture(path: &Path) -> bool {
    let extension = path.extension().and_then(|it| it.to_str());
    extension.is_some_and(|it| EXTENSIONS.iter().any(|known| it.eq_ignore_ascii_case(known)))
}

fn stamp(path: &Path) -> Option<FileStamp> {
    let metadata = path.metadata().ok()?;
    let mtime_ns = metadata.mtime().checked_mul(1_000_000_000)?.checked_add(metadata.mtime_nsec())?;
    Some(FileStamp { path: path.as_os_str().as_bytes().to_vec(), size_bytes: metadata.len(), mtime_ns })
}

/// What is known of each file, from the cache or from its bytes.
fn hash(found: &[Found], cache: &mut dyn HashCache, progress: &(dyn Fn(Progress) + Sync)) -> Vec<Known> {
    let mut known: Vec<Option<Known>> =
        found.iter().map(|it| it.stamp.as_ref().and_then(|stamp| cache.get(stamp))).collect();
    let unknown: Vec<usize> = (0..found.len()).filter(|&it| known[it].is_none()).collect();
    let size_bytes = |it: &Found| it.stamp.as_ref().map_or(0, |it| it.size_bytes);
    let total_bytes = unknown.iter().map(|&it| size_bytes(&found[it])).sum();
    let done_bytes = AtomicU64::new(0);
    let hashed: Vec<(usize, Known, bool)> = unknown
        .into_par_iter()
        .map(|idx| {
            let file = &found[idx];
            let (known, is_read) = match read(&file.path) {
                Ok(known) => (known, true),
                Err(error) => {
                    let text = format!("unreadable: {error}: ").into_bytes();
                    let content = Hash::of(&[&text, file.path.as_os_str().as_bytes()].concat());
                    (Known { content, size: None }, false)
                }
            };
            let done_bytes = done_bytes.fetch_add(size_bytes(file), Ordering::Relaxed) + size_bytes(file);
            progress(Progress { done_bytes, total_bytes });
            (idx, known, is_read)
        })
        .collect();
    let recent = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().saturating_sub(RACY);
    for (idx, it, is_read) in hashed {
        known[idx] = Some(it);
        // A file that was written to while it was read has another stamp by now.
        let stamp = stamp(&found[idx].path).filter(|it| Some(it) == found[idx].stamp.as_ref());
        if let Some(stamp) = stamp.filter(|it| is_read && i128::from(it.mtime_ns) < recent.as_nanos() as i128) {
            cache.put(stamp, it);
        }
    }
    known.into_iter().map(|it| it.expect("every file is known or has been hashed")).collect()
}

/// The hashes of these files' bytes, from the cache or read.
///
/// # Errors
/// A file cannot be read.
pub(super) fn hash_files(
    paths: &[PathBuf],
    cache: &mut dyn HashCache,
    progress: &(dyn Fn(Progress) + Sync),
) -> anyhow::Result<Vec<Hash>> {
    for path in paths {
        File::open(path).with_context(|| format!("read {}", path.display()))?;
    }
    let found: Vec<Found> = paths.iter().map(|it| Found { path: it.clone(), stamp: stamp(it) }).collect();
    Ok(hash(&found, cache, progress).into_iter().map(|it| it.content).collect())
}

/// The hash of a file's bytes.
///
/// # Errors
/// It cannot be read.
pub(super) fn hash_file(path: &Path) -> std::io::Result<Hash> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(&mut File::open(path)?)?;
    Ok(Hash(*hasher.finalize().as_bytes()))
}

fn read(path: &Path) -> std::io::Result<Known> {
    let mut file = File::open(path)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(&mut file)?;
    let content = Hash(*hasher.finalize().as_bytes());
    file.rewind()?;
    let size = image::header(BufReader::new(file)).ok().map(|it| (it.width, it.height));
    Ok(Known { content, size })
}

fn source_files(block: &Images, root: &Path, files: &[(&Path, Known)]) -> anyhow::Result<Vec<SourceFile>> {
    let folder = if root.is_dir() { root } else { root.parent().unwrap_or(root) };
    let captions = match &block.captions {
        Some(path) => captions::read(&folder.join(path))?,
        None => HashMap::new(),
    };
    let below: Vec<&Path> = files.iter().map(|it| it.0.strip_prefix(folder).unwrap_or(it.0)).collect();
    let mut sources: Vec<SourceFile> = sample::names(&below)
        .into_iter()
        .zip(files)
        .zip(&below)
        .map(|((sample, (path, known)), below)| SourceFile {
            path: (*path).to_owned(),
            sample,
            content: known.content,
            size: known.size,
            caption: captions.get(*below).cloned(),
        })
        .collect();
    sources.sort_by(|a, b| a.sample.cmp(&b.sample));
    Ok(sources)
}
