//! Finding image files: which names count, in which order, and reading one with an eye on its size.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use super::{Header, ImageError, Rgb, header};

/// The endings of image files' names, in lower case.
pub const EXTENSIONS: [&str; 4] = ["jpg", "jpeg", "png", "webp"];

/// Something that could not be read, and why.
#[derive(Debug)]
pub struct Unreadable {
    /// The file or folder.
    pub path: PathBuf,
    /// The reason.
    pub error: ImageError,
}

/// Whether the name ends like an image's, in upper or lower case.
pub fn is_named_like_an_image(path: &Path) -> bool {
    path.extension().is_some_and(|it| EXTENSIONS.iter().any(|known| it.eq_ignore_ascii_case(known)))
}

/// The image files under `folder`, at any depth and through links, sorted; each path begins with `folder` as given.
/// What could not be looked into comes beside them.
pub fn under(folder: &Path) -> (Vec<PathBuf>, Vec<Unreadable>) {
    let (mut files, mut unreadable) = (Vec::new(), Vec::new());
    for entry in walkdir::WalkDir::new(folder).follow_links(true) {
        match entry {
            Ok(entry) if entry.file_type().is_file() && is_named_like_an_image(entry.path()) => {
                files.push(entry.into_path());
            }
            Ok(_) => {}
            Err(error) => {
                let path = error.path().unwrap_or(folder).to_owned();
                // A loop of links is the one error that is not the system's.
                let other = || std::io::Error::other("a link leads back to a folder above it");
                unreadable.push(Unreadable { path, error: error.into_io_error().unwrap_or_else(other).into() });
            }
        }
    }
    files.sort();
    (files, unreadable)
}

/// Reads a file's header.
///
/// # Errors
/// As [`header`].
pub fn header_of(path: &Path) -> Result<Header, ImageError> {
    header(BufReader::new(open(path)?))
}

/// Reads and decodes a file; its length in bytes comes beside the pixels.
///
/// # Errors
/// As [`decode`](super::decode); a file that is no image, or too large, is refused before it is read whole.
pub fn read(path: &Path, max_pixels: u64) -> Result<(Rgb, usize), ImageError> {
    let mut file = BufReader::new(open(path)?);
    header(&mut file)?.check(max_pixels)?;
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok((super::decode(&bytes, max_pixels)?, bytes.len()))
}

fn open(path: &Path) -> Result<File, ImageError> {
    // Opening a pipe would wait for its writer.
    if !path.metadata()?.is_file() {
        return Err(std::io::Error::other("neither a file nor a folder").into());
    }
    Ok(File::open(path)?)
}
