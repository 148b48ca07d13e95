//! Mails as files of a folder: one of a name, whole or not at all, and written once however often it is tried.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

/// Writes `message` as `ID.eml`. A file of that name with these bytes is one of an earlier try, and stays.
///
/// # Errors
/// The folder cannot be made or written to, or has another file of that name.
pub(super) fn write(folder: &Path, id: &str, message: &[u8]) -> anyhow::Result<PathBuf> {
    let path = folder.join(format!("{id}.eml"));
    let put = || -> anyhow::Result<()> {
        fs::create_dir_all(folder)?;
        let anyone = fs::Permissions::from_mode(0o666);
        let mut file = tempfile::Builder::new().permissions(anyone).prefix(".new-").tempfile_in(folder)?;
        file.write_all(message)?;
        file.as_file().sync_all()?;
        match file.persist_noclobber(&path) {
            Ok(_) => File::open(folder)?.sync_all()?,
            Err(taken) if taken.error.kind() == ErrorKind::AlreadyExists => {
                ensure!(fs::read(&path)? == message, "there is another file of that name");
            }
            Err(other) => return Err(other.error.into()),
        }
        Ok(())
    };
    put().with_context(|| format!("write the mail {}", path.display()))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::write;

    #[test]
    fn a_mail_is_written_once_however_often_it_is_tried() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("a/b");
        let path = write(&below, "1", b"hello").unwrap();
        assert_eq!(write(&below, "1", b"hello").unwrap(), path);
        assert!(format!("{:#}", write(&below, "1", b"other").unwrap_err()).contains("another file"));
        assert_eq!(std::fs::read(&path).unwrap(), b"hello");
        assert_eq!(std::fs::read_dir(&below).unwrap().count(), 1);
    }
}
