//! The files that a sweep speaks of: found, hashed and named, so that a plan needs no disk.

use std::path::PathBuf;

use crate::job::Hash;

/// The files of each `[[images]]` block.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Inventory {
    /// In the order of [`Sweep::images`](super::Sweep::images), each block's files sorted by sample.
    pub blocks: Vec<Vec<SourceFile>>,
}

/// One picture file.
#[derive(Clone, PartialEq, Debug)]
pub struct SourceFile {
    /// Where it lies: absolute.
    pub path: PathBuf,
    /// The path below the block's folder without extension; no two of a block are equal.
    pub sample: String,
    /// The hash of its bytes.
    pub content: Hash,
    /// Width and height in pixels, as its header says; none where that cannot be read.
    pub size: Option<(u32, u32)>,
    /// What it shows, where the block's captions say so.
    pub caption: Option<String>,
}
