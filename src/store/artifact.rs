//! Files in the store, named by the hash of their bytes: written once, never changed, verified when read.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use crate::job::Hash;

/// A folder of artifacts.
#[derive(Clone, Debug)]
pub struct Artifacts {
    root: PathBuf,
}

impl Artifacts {
    /// The artifacts under `root`, which is made when the first one comes.
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Where the artifact of this hash is or would be.
    pub fn path(&self, hash: &Hash) -> PathBuf {
        let name = hash.to_string();
        self.root.join(&name[..2]).join(name)
    }

    /// Stores bytes and returns their hash. Equal bytes are stored once, whoever comes first;
    /// a reader never sees half a file.
    ///
    /// # Errors
    /// The disk is full or may not be written.
    pub fn put(&self, bytes: &[u8]) -> anyhow::Result<Hash> {
        let hash = Hash::of(bytes);
        let path = self.path(&hash);
        if path.exists() {
            return Ok(hash);
        }
        let folder = path.parent().expect("an artifact's path has a folder");
        write_whole(folder, &path, bytes).with_context(|| format!("store an artifact in {}", folder.display()))?;
        Ok(hash)
    }

    /// Stores a file, which is gone afterwards, and returns the hash and number of its bytes.
    ///
    /// # Errors
    /// It cannot be read, or the disk is full or may not be written.
    pub fn take(&self, file: &Path) -> anyhow::Result<(Hash, u64)> {
        let mut hasher = blake3::Hasher::new();
        let mut source = fs::File::open(file).with_context(|| format!("read {}", file.display()))?;
        hasher.update_reader(&mut source).with_context(|| format!("read {}", file.display()))?;
        let n_bytes = source.metadata()?.len();
        let hash = Hash(*hasher.finalize().as_bytes());
        let path = self.path(&hash);
        if path.exists() {
            fs::remove_file(file)?;
            return Ok((hash, n_bytes));
        }
        let folder = path.parent().expect("an artifact's path has a folder");
        let store = || -> anyhow::Result<()> {
            fs::create_dir_all(folder)?;
            source.sync_data()?;
            // On the same disk a rename is all it takes.
            if fs::rename(file, &path).is_err() {
                let mut draft = tempfile::NamedTempFile::new_in(folder)?;
                std::io::copy(&mut fs::File::open(file)?, &mut draft)?;
                draft.as_file().sync_data()?;
                draft.persist(&path)?;
                fs::remove_file(file)?;
            }
            Ok(())
        };
        store().with_context(|| format!("store an artifact in {}", folder.display()))?;
        Ok((hash, n_bytes))
    }

    /// A folder for files that are not artifacts yet, on the store's disk.
    pub fn scratch(&self) -> PathBuf {
        self.root.join("scratch")
    }

    /// The bytes of an artifact.
    ///
    /// # Errors
    /// It is not there, or its bytes are no longer those of its hash.
    pub fn get(&self, hash: &Hash) -> anyhow::Result<Vec<u8>> {
        let path = self.path(hash);
        let bytes = fs::read(&path).with_context(|| format!("read the artifact {}", path.display()))?;
        ensure!(Hash::of(&bytes) == *hash, "the artifact {} is damaged: its bytes have another hash", path.display());
        Ok(bytes)
    }
}

fn write_whole(folder: &Path, path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    let mut draft = tempfile::NamedTempFile::new_in(folder)?;
    draft.write_all(bytes)?;
    draft.as_file().sync_data()?;
    draft.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Artifacts;

    #[test]
    fn equal_bytes_are_one_artifact_and_damage_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::new(folder.path().to_owned());
        let hash = artifacts.put(b"pixels").unwrap();
        assert_eq!(artifacts.put(b"pixels").unwrap(), hash);
        assert_eq!(artifacts.get(&hash).unwrap(), b"pixels");
        std::fs::write(artifacts.path(&hash), b"pixel5").unwrap();
        assert!(artifacts.get(&hash).unwrap_err().to_string().contains("damaged"));
    }
}
