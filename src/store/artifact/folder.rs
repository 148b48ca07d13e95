//! Artifacts in a folder: written beside, synced, then given their name.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, ensure};

use super::{Listed, hash_of_file};
use crate::job::Hash;

/// A folder that every store has: a mount point without its disk does not.
const MARK: &str = ".store";
/// The extension of what is being removed.
const CONDEMNED: &str = "condemned";

/// A folder of artifacts.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    root: PathBuf,
    /// Whether the store was seen to be there.
    was_there: Arc<AtomicBool>,
}

impl Folder {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root, was_there: Arc::default() }
    }

    pub(super) fn path(&self, hash: &Hash) -> PathBuf {
        let name = hash.to_string();
        self.root.join(&name[..2]).join(name)
    }

    /// Stores bytes of this hash.
    pub(super) fn put(&self, hash: &Hash, bytes: &[u8]) -> anyhow::Result<()> {
        let path = self.path(hash);
        let write = || -> anyhow::Result<()> {
            let mut draft = self.draft(&path)?;
            draft.write_all(bytes)?;
            name(draft, &path)
        };
        write().with_context(|| format!("store an artifact in {}", self.root.display()))
    }

    /// Stores a file of this hash, which is gone afterwards.
    pub(super) fn take(&self, hash: &Hash, file: &Path) -> anyhow::Result<()> {
        let path = self.path(hash);
        let store = || -> anyhow::Result<()> {
            self.expect()?;
            fs::create_dir_all(folder_of(&path))?;
            File::open(file)?.sync_data()?;
            // On the same disk a second name is all it takes, if nothing has it.
            if fs::hard_link(file, &path).is_ok() {
                sync_folder(&path)?;
            } else {
                let mut draft = self.draft(&path)?;
                io::copy(&mut File::open(file)?, &mut draft)?;
                name(draft, &path)?;
            }
            Ok(fs::remove_file(file)?)
        };
        store().with_context(|| format!("store an artifact in {}", self.root.display()))
    }

    /// Stores a copy of somebody's file, which must have this hash.
    pub(super) fn copy(&self, hash: &Hash, file: &Path) -> anyhow::Result<()> {
        let path = self.path(hash);
        let mut source = File::open(file).with_context(|| format!("read {}", file.display()))?;
        let mut draft = self.draft(&path).with_context(|| format!("store an artifact in {}", self.root.display()))?;
        io::copy(&mut source, &mut draft).with_context(|| format!("store {}", file.display()))?;
        ensure!(hash_of_file(draft.path())?.0 == *hash, "{} has changed while it was enqueued", file.display());
        name(draft, &path).with_context(|| format!("store an artifact in {}", self.root.display()))
    }

    fn draft(&self, path: &Path) -> io::Result<tempfile::NamedTempFile> {
        self.expect()?;
        let folder = folder_of(path);
        fs::create_dir_all(folder)?;
        // As readable as any other new file: temporary files are private unless told otherwise.
        let anyone = fs::Permissions::from_mode(0o666);
        tempfile::Builder::new().permissions(anyone).tempfile_in(folder)
    }

    /// Fails if the store is gone as a whole: a disk that is not mounted holds nothing, and that means nothing.
    pub(super) fn expect(&self) -> io::Result<()> {
        if self.was_there.load(Ordering::Relaxed) && !self.root.join(MARK).try_exists()? {
            let gone = format!("{} is gone as a whole: is its disk mounted?", self.root.display());
            return Err(io::Error::new(ErrorKind::NotConnected, gone));
        }
        Ok(())
    }

    /// Whether the folder itself is there.
    pub(super) fn is_there(&self) -> io::Result<bool> {
        self.expect()?;
        self.root.try_exists()
    }

    /// Makes the folder. From now on it is expected to be there.
    pub(super) fn make(&self) -> io::Result<()> {
        fs::create_dir_all(self.root.join(MARK))?;
        self.was_there.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Everything in it that is named as an artifact is.
    pub(super) fn list(&self) -> anyhow::Result<Vec<Listed>> {
        let mut listed = Vec::new();
        self.look_through(|path| {
            // A link is not ours.
            let Ok(metadata) = path.symlink_metadata() else { return Ok(()) };
            let hash = path.file_name().and_then(|it| it.to_str()?.parse::<Hash>().ok());
            if let Some(hash) = hash.filter(|it| metadata.is_file() && self.path(it) == path) {
                listed.push(Listed { hash, n_bytes: metadata.len(), stamp: stamp(&metadata) });
            }
            Ok(())
        })?;
        Ok(listed)
    }

    /// Shows every file on every shelf.
    fn look_through(&self, mut look: impl FnMut(&Path) -> io::Result<()>) -> anyhow::Result<()> {
        let shelves = match fs::read_dir(&self.root) {
            Ok(it) => it,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error).with_context(|| format!("look into {}", self.root.display())),
        };
        for shelf in shelves {
            let shelf = shelf?.path();
            if shelf.file_name().is_none_or(|it| it.len() != 2) || !shelf.is_dir() {
                continue;
            }
            for entry in fs::read_dir(&shelf).with_context(|| format!("look into {}", shelf.display()))? {
                look(&entry?.path()).with_context(|| format!("look into {}", shelf.display()))?;
            }
        }
        Ok(())
    }

    /// Removes an artifact, unless it was written anew since it was listed. It loses its name first: whoever stores it from
    /// then on writes another file, and who had stored it before shows by the stamp, and gets the name back.
    pub(super) fn remove_unless_renewed(&self, listed: &Listed) -> anyhow::Result<bool> {
        let path = self.path(&listed.hash);
        let condemned = path.with_extension(CONDEMNED);
        let remove = || -> io::Result<bool> {
            match fs::rename(&path, &condemned) {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
                renamed => renamed?,
            }
            let is_renewed = stamp(&condemned.symlink_metadata()?) != listed.stamp;
            if is_renewed {
                put_back(&condemned, &path)?;
            } else {
                fs::remove_file(&condemned)?;
            }
            Ok(!is_renewed)
        };
        remove().with_context(|| format!("remove {}", path.display()))
    }

    /// Gives back their names to files that a sweep had taken them from when it was cut off.
    pub(super) fn recover(&self) -> anyhow::Result<()> {
        self.look_through(|path| {
            let is_ours = path.extension().is_some_and(|it| it == CONDEMNED)
                && path.file_stem().and_then(|it| it.to_str()).is_some_and(|it| it.parse::<Hash>().is_ok());
            if is_ours { put_back(path, &path.with_extension("")) } else { Ok(()) }
        })
    }

    /// Removes an artifact; one that is gone already is no mistake.
    pub(super) fn remove(&self, hash: &Hash) -> anyhow::Result<()> {
        match fs::remove_file(self.path(hash)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("remove {}", self.path(hash).display()))
            }
            _ => Ok(()),
        }
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().expect("an artifact's path has a folder")
}

/// When a file was written, in ns since 1970.
fn stamp(metadata: &fs::Metadata) -> i64 {
    metadata.mtime().wrapping_mul(1_000_000_000).wrapping_add(metadata.mtime_nsec())
}

/// Gives a file its name back, unless another has it by now.
fn put_back(condemned: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(condemned, path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => fs::remove_file(condemned),
    }
}

/// Gives a whole draft its name. What had it gives way: the bytes are equal, unless they were damaged.
fn name(draft: tempfile::NamedTempFile, path: &Path) -> anyhow::Result<()> {
    draft.as_file().sync_data()?;
    draft.persist(path)?;
    Ok(sync_folder(path)?)
}

/// A name survives a power cut only when its folder is on the disk.
fn sync_folder(path: &Path) -> io::Result<()> {
    match File::open(folder_of(path)).and_then(|it| it.sync_all()) {
        // Not every file system knows how.
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
        other => other,
    }
}
