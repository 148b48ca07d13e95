//! What samples are called: the path below the folder, without extension.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The samples' names of files at these paths below one folder: no two are equal.
///
/// Files that only their extensions tell apart keep them. Bytes that are not UTF-8 are written as
/// `%XX`, and a `%` that could be taken for such an escape as `%25`.
pub(super) fn names(paths: &[&Path]) -> Vec<String> {
    let mut names: Vec<String> = paths.iter().map(|it| text(it.with_extension("").as_os_str())).collect();
    loop {
        let mut counts: HashMap<&str, usize> = HashMap::with_capacity(names.len());
        for name in &names {
            *counts.entry(name).or_default() += 1;
        }
        let twice: Vec<bool> = names.iter().map(|it| counts[it.as_str()] > 1).collect();
        // A name with its extension may be that of another file without: `a.jpg` beside `a.jpg.png`.
        let mut changed = false;
        for ((name, path), _) in names.iter_mut().zip(paths).zip(twice).filter(|it| it.1) {
            let full = text(path.as_os_str());
            changed |= *name != full;
            *name = full;
        }
        if !changed {
            return names;
        }
    }
}

/// The path as text from which the path can be told.
pub(super) fn text(path: &OsStr) -> String {
    let mut text = String::with_capacity(path.len());
    for chunk in path.as_bytes().utf8_chunks() {
        for (idx, it) in chunk.valid().char_indices() {
            text.push(it);
            if it == '%' && looks_escaped(&chunk.valid().as_bytes()[idx + 1..]) {
                text.push_str("25");
            }
        }
        text.extend(chunk.invalid().iter().map(|it| format!("%{it:02X}")));
    }
    text
}

fn looks_escaped(rest: &[u8]) -> bool {
    let is_digit = |it: &u8| matches!(it, b'0'..=b'9' | b'A'..=b'F');
    rest.len() >= 2 && rest[..2].iter().all(is_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(paths: &[&[u8]], expected: &[&str]) {
        let paths: Vec<&Path> = paths.iter().map(|it| Path::new(OsStr::from_bytes(it))).collect();
        assert_eq!(names(&paths), expected);
    }

    #[test]
    fn names_are_paths_without_extension() {
        check(&[b"a.jpg", b"sub/b.c.PNG", b"sub/no dot"], &["a", "sub/b.c", "sub/no dot"]);
    }

    #[test]
    fn files_that_only_the_extension_tells_apart_keep_it() {
        check(&[b"a.jpg", b"a.png", b"b/a.png"], &["a.jpg", "a.png", "b/a"]);
        check(&[b"a.jpg", b"a.png", b"a.jpg.png"], &["a.jpg", "a.png", "a.jpg.png"]);
        check(&[b"a.jpg", b"a.JPG"], &["a.jpg", "a.JPG"]);
    }

    #[test]
    fn bytes_that_are_no_text_stay_distinct() {
        check(&[b"\xff.jpg", b"\xfe.jpg", b"%FF.jpg", b"100%.jpg"], &["%FF", "%FE", "%25FF", "100%"]);
        check(&["größe.jpg".as_bytes()], &["größe"]);
    }
}
