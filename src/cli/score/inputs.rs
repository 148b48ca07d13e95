//! Which images the arguments mean, which set each belongs to, and where its reference is.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::image::files;

/// The set of the files that are given one by one.
const SINGLE_FILES: &str = "files";

/// One image, or a place where images were expected and could not be had.
pub struct Input {
    /// As printed.
    pub shown: String,
    /// What to read, or why nothing can be.
    pub file: Result<PathBuf, String>,
    /// Its place among the sets; none for what is no image.
    pub set: Option<usize>,
    /// What to compare it with, or why there is nothing; none if nobody asked.
    pub reference: Option<Result<PathBuf, String>>,
}

impl Input {
    fn fault(path: &Path, error: &(impl ToString + ?Sized)) -> Self {
        Self { shown: shown(path), file: Err(error.to_string()), set: None, reference: None }
    }
}

/// The images in the arguments' order, those of a folder sorted, and the names of the sets.
pub fn find(paths: &[PathBuf], reference: Option<&Path>) -> (Vec<Input>, Vec<String>) {
    let references = reference.map(References::under);
    let lookup = |relative: &Path| references.as_ref().map(|it| it.find(relative));
    let mut sets = Vec::new();
    let mut single_files = None;
    let mut inputs = Vec::new();
    for path in paths {
        match path.metadata() {
            Err(error) => inputs.push(Input::fault(path, &error)),
            Ok(kind) if kind.is_dir() => {
                let (images, unreadable) = files::under(path);
                if images.is_empty() && unreadable.is_empty() {
                    inputs.push(Input::fault(path, "there is no .jpg, .jpeg, .png or .webp file in the folder"));
                }
                inputs.extend(unreadable.into_iter().map(|it| Input::fault(&it.path, &it.error)));
                inputs.extend(images.into_iter().map(|image| Input {
                    shown: shown(&image),
                    set: Some(sets.len()),
                    reference: lookup(image.strip_prefix(path).expect("what lies in a folder begins with its path")),
                    file: Ok(image),
                }));
                sets.push(shown(path));
            }
            Ok(_) => {
                let set = *single_files.get_or_insert_with(|| {
                    sets.push(SINGLE_FILES.to_owned());
                    sets.len() - 1
                });
                inputs.push(Input {
                    shown: shown(path),
                    set: Some(set),
                    reference: lookup(Path::new(path.file_name().unwrap_or(OsStr::new("")))),
                    file: Ok(path.clone()),
                });
            }
        }
    }
    (inputs, sets)
}

/// A path for people and JSON: what is not UTF-8 in it becomes �.
fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The images of the reference folder by relative path without the name's ending.
struct References {
    folder: PathBuf,
    files: HashMap<PathBuf, Vec<PathBuf>>,
}

impl References {
    fn under(folder: &Path) -> Self {
        let mut files: HashMap<_, Vec<_>> = HashMap::new();
        for file in files::under(folder).0 {
            let relative = file.strip_prefix(folder).expect("what lies in a folder begins with its path");
            files.entry(relative.with_extension("")).or_default().push(file);
        }
        Self { folder: folder.to_owned(), files }
    }

    /// The file of the same name, or else the only one of the same stem.
    fn find(&self, relative: &Path) -> Result<PathBuf, String> {
        let stem = relative.with_extension("");
        let fault = |what: &str| format!("{what} {} in {}", shown(&stem), shown(&self.folder));
        match self.files.get(&stem).map(Vec::as_slice) {
            None | Some([]) => Err(fault("there is no reference")),
            Some([only]) => Ok(only.clone()),
            Some(several) => {
                let same = several.iter().find(|it| **it == self.folder.join(relative));
                same.cloned().ok_or_else(|| fault("there is more than one reference"))
            }
        }
    }
}
