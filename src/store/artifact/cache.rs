//! Copies of what lies in a remote store, on this machine's disk: as many as a limit allows, the longest unused go first.
//!
//! Processes share the folder. A copy that is in use is locked (flock) by whoever uses it, and stays.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use super::hash_of_file;
use crate::job::Hash;

/// What a killed process has left of a download is taken away after so long.
const OLD_DRAFT: Duration = Duration::from_secs(24 * 3600);

/// A folder of copies.
#[derive(Debug)]
pub(super) struct Cache {
    root: PathBuf,
    max_bytes: u64,
    /// Bytes that came since the folder was last looked over.
    n_new: AtomicU64,
}

/// A copy, which stays as long as this lives.
#[derive(Debug)]
pub(super) struct Copy {
    pub(super) path: PathBuf,
    _in_use: File,
}

impl Cache {
    pub(super) fn new(root: PathBuf, max_bytes: u64) -> Self {
        // The first copy looks over what others have left.
        Self { root, max_bytes, n_new: AtomicU64::new(max_bytes) }
    }

    pub(super) fn path(&self, hash: &Hash) -> PathBuf {
        let name = hash.to_string();
        self.root.join(&name[..2]).join(name)
    }

    /// The copy of an artifact, if there is one whose bytes are right; a damaged one is taken away.
    pub(super) fn get(&self, hash: &Hash) -> io::Result<Option<Copy>> {
        let path = self.path(hash);
        for _ in 0..3 {
            let Some(copy) = hold(&path)? else { return Ok(None) };
            if hash_of_file(&path)?.0 == *hash {
                // What was used last goes last. A file of somebody else cannot be marked, and is used all the same.
                let _ = copy._in_use.set_modified(SystemTime::now());
                return Ok(Some(copy));
            }
            drop(copy);
            remove(&path)?;
        }
        Ok(None)
    }

    /// A file for a download that is on the cache's disk.
    pub(super) fn draft(&self, hash: &Hash) -> io::Result<tempfile::NamedTempFile> {
        let folder = self.path(hash).parent().expect("a copy's path has a folder").to_owned();
        fs::create_dir_all(&folder)?;
        tempfile::Builder::new().prefix("draft-").tempfile_in(folder)
    }

    /// Keeps a whole download under its hash, and makes room for the next.
    pub(super) fn keep(&self, hash: &Hash, draft: tempfile::NamedTempFile) -> io::Result<Copy> {
        let path = self.path(hash);
        let n_bytes = draft.as_file().metadata()?.len();
        let in_use = draft.reopen()?;
        in_use.lock_shared()?;
        draft.persist(&path)?;
        let n_new = self.n_new.fetch_add(n_bytes, Ordering::Relaxed) + n_bytes;
        if n_new > self.max_bytes / 20 {
            self.n_new.store(0, Ordering::Relaxed);
            self.make_room()?;
        }
        Ok(Copy { path, _in_use: in_use })
    }

    /// Takes away the longest unused copies until the rest is within the limit.
    fn make_room(&self) -> io::Result<()> {
        let mut copies = Vec::new();
        let now = SystemTime::now();
        for entry in walkdir::WalkDir::new(&self.root).min_depth(2).max_depth(2).into_iter().flatten() {
            // Another process may be at it as well.
            let Ok(metadata) = entry.metadata() else { continue };
            let used = metadata.modified().unwrap_or(now);
            if entry.file_name().to_str().is_some_and(|it| it.parse::<Hash>().is_ok()) {
                copies.push((used, metadata.len(), entry.into_path()));
            } else if now.duration_since(used).is_ok_and(|it| it > OLD_DRAFT) {
                remove(entry.path())?;
            }
        }
        let mut n_bytes: u64 = copies.iter().map(|it| it.1).sum();
        copies.sort();
        for (_, n, path) in copies {
            if n_bytes <= self.max_bytes {
                break;
            }
            let Ok(file) = File::open(&path) else { continue };
            if file.try_lock().is_ok() {
                remove(&path)?;
                n_bytes -= n;
            }
        }
        Ok(())
    }
}

/// Opens a file and keeps it from being taken away; none if it is not there.
fn hold(path: &Path) -> io::Result<Option<Copy>> {
    loop {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        file.lock_shared()?;
        // It may have been taken away, or replaced, just before it was locked.
        if path
            .metadata()
            .is_ok_and(|it| (it.dev(), it.ino()) == file.metadata().map_or((0, 0), |it| (it.dev(), it.ino())))
        {
            return Ok(Some(Copy { path: path.to_owned(), _in_use: file }));
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::{Duration, SystemTime};

    use super::Cache;
    use crate::job::Hash;

    fn keep(cache: &Cache, bytes: &[u8], age_s: u64) -> (Hash, super::Copy) {
        let hash = Hash::of(bytes);
        let mut draft = cache.draft(&hash).unwrap();
        draft.write_all(bytes).unwrap();
        draft.as_file().set_modified(SystemTime::now() - Duration::from_secs(age_s)).unwrap();
        let copy = cache.keep(&hash, draft).unwrap();
        (hash, copy)
    }

    #[test]
    fn the_longest_unused_goes_first_and_what_is_in_use_stays() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().to_owned(), 250);
        let (used, held) = keep(&cache, &[1; 100], 300);
        let (old, _) = keep(&cache, &[2; 100], 200);
        let (new, _) = keep(&cache, &[3; 100], 100);
        assert!(cache.get(&used).unwrap().is_some() && cache.get(&new).unwrap().is_some());
        assert!(cache.get(&old).unwrap().is_none(), "300 bytes are over the limit of 250");
        drop(held);
        // A look is a use: it was marked just now.
        let (_, _other) = keep(&cache, &[4; 100], 50);
        assert!(cache.path(&used).exists() || cache.path(&new).exists());
        let total: u64 = [used, new].iter().filter(|it| cache.path(it).exists()).count() as u64 * 100 + 100;
        assert!(total <= 250);
    }

    #[test]
    fn a_damaged_copy_is_no_copy() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().to_owned(), 1000);
        let (hash, copy) = keep(&cache, b"latent", 0);
        std::fs::write(&copy.path, b"lateNt").unwrap();
        assert!(cache.get(&hash).unwrap().is_none());
        assert!(!cache.path(&hash).exists());
    }
}
