//! Captions of pictures: `metadata.jsonl`, as folders of images for the Hugging Face library have it.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, bail};
use serde::Deserialize;

/// One line. Other columns are none of our business.
#[derive(Deserialize)]
struct Line {
    file_name: String,
    text: String,
}

/// The captions by path below the folder.
///
/// # Errors
/// A file that cannot be read, a line that is not an object with texts `file_name` and `text`, two
/// lines for one file; all with the line's number.
pub(super) fn read(path: &Path) -> anyhow::Result<HashMap<PathBuf, String>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read the captions {}", path.display()))?;
    let mut captions = HashMap::new();
    for (idx, line) in text.lines().enumerate().filter(|it| !it.1.trim().is_empty()) {
        let place = || format!("{}:{}", path.display(), idx + 1);
        let line: Line = serde_json::from_str(line).with_context(place)?;
        // `./a.jpg` and `a.jpg` are one file.
        let name = Path::new(&line.file_name).components().filter(|it| *it != Component::CurDir).collect();
        if captions.insert(name, line.text).is_some() {
            bail!("{}: a second caption of {}", place(), line.file_name);
        }
    }
    Ok(captions)
}
