//! Folders for what slots make before it is stored: one for each turn, gone afterwards.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use super::machine;

/// A worker's scratch folders. They are on the store's disk, so that storing a file is renaming it.
#[derive(Clone, Debug)]
pub(super) struct Scratch {
    folder: PathBuf,
}

impl Scratch {
    /// This process's folder under `root`; nothing is made yet. What workers of this machine have left that died is
    /// taken away.
    pub(super) fn new(root: &Path) -> Self {
        let host = machine::host();
        for entry in root.read_dir().into_iter().flatten().flatten() {
            let name = entry.file_name();
            let pid = name.to_str().and_then(|it| it.strip_prefix(&format!("{host}-"))?.parse::<u32>().ok());
            if pid.is_some_and(|it| !Path::new("/proc").join(it.to_string()).exists()) {
                // Another worker may be at it as well.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        Self { folder: root.join(format!("{host}-{}", std::process::id())) }
    }

    /// Whether a file that a slot names is in one of these folders.
    ///
    /// # Errors
    /// It is not there, or elsewhere.
    pub(super) fn holds(&self, file: &Path) -> anyhow::Result<()> {
        let real = |it: &Path| it.canonicalize().with_context(|| format!("find {}", it.display()));
        ensure!(real(file)?.starts_with(real(&self.folder)?), "{} is not in the scratch folder", file.display());
        Ok(())
    }

    /// A new folder, empty, which is removed when it is dropped.
    ///
    /// # Errors
    /// The disk is full or may not be written.
    pub(super) fn turn(&self) -> anyhow::Result<tempfile::TempDir> {
        let make = || -> std::io::Result<tempfile::TempDir> {
            fs::create_dir_all(&self.folder)?;
            tempfile::Builder::new().prefix("turn-").tempdir_in(std::path::absolute(&self.folder)?)
        };
        make().with_context(|| format!("make a folder in {}", self.folder.display()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Fails while a turn is under way, whose folder is in it.
        let _ = fs::remove_dir(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    use super::{Scratch, machine};

    #[test]
    fn what_the_dead_have_left_is_taken_away() {
        let root = tempfile::tempdir().unwrap();
        let dead = root.path().join(format!("{}-4294967295", machine::host()));
        let other = root.path().join("elsewhere-4294967295");
        std::fs::create_dir_all(dead.join("turn-x")).unwrap();
        std::fs::create_dir_all(&other).unwrap();
        let scratch = Scratch::new(root.path());
        assert!(!dead.exists() && other.exists());
        let turn = scratch.turn().unwrap();
        assert!(turn.path().is_absolute() && turn.path().is_dir());
    }
}
