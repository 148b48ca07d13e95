//! The prompts of a `[[generate]]` block: from a JSON Lines file, a text file, or the sweep itself.

use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, bail, ensure};
use serde::Deserialize;

use super::making::Prompts;
use super::sample;

/// A prompt and the sample that its pictures are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Prompt {
    /// The path of its `file_name` without extension, else `p0001` by its place; no two of a block are equal.
    pub sample: String,
    /// What is to be seen.
    pub text: String,
}

/// One line of a JSON Lines file. Other columns are none of our business.
#[derive(Deserialize)]
struct Line {
    text: String,
    file_name: Option<String>,
}

/// The first `limit` prompts; `base` is the folder of the sweep file.
///
/// # Errors
/// A file that cannot be read or has no prompt in it; a line that is no object with a text `text`, an empty prompt,
/// two prompts for one file; with the line's number.
pub fn read(prompts: &Prompts, limit: Option<usize>, base: &Path) -> anyhow::Result<Vec<Prompt>> {
    let limit = limit.unwrap_or(usize::MAX);
    let path = match prompts {
        Prompts::Inline(texts) => {
            let numbered = texts.iter().take(limit).enumerate();
            return Ok(numbered.map(|(idx, text)| Prompt { sample: numbered_name(idx), text: text.clone() }).collect());
        }
        // A job writes each of them.
        Prompts::Caption(_) => return Ok(Vec::new()),
        Prompts::File(path) => base.join(path),
    };
    let text = std::fs::read_to_string(&path).with_context(|| format!("read the prompts {}", path.display()))?;
    let is_json = path.extension().is_some_and(|it| it.eq_ignore_ascii_case("jsonl"));
    let (mut names, mut texts): (Vec<PathBuf>, Vec<String>) = (Vec::new(), Vec::new());
    let mut seen = HashSet::new();
    for (idx, line) in text.lines().enumerate().filter(|it| !it.1.trim().is_empty()) {
        if texts.len() == limit {
            break;
        }
        let place = || format!("{}:{}", path.display(), idx + 1);
        let line = if is_json {
            serde_json::from_str::<Line>(line).with_context(place)?
        } else {
            Line { text: line.trim().to_owned(), file_name: None }
        };
        ensure!(!line.text.trim().is_empty(), "{}: the prompt is empty", place());
        ensure!(!line.text.contains('\0'), "{}: there is a NUL in the prompt", place());
        // `./a.jpg` and `a.jpg` are one file.
        let name: PathBuf = match &line.file_name {
            Some(name) => Path::new(name).components().filter(|it| *it != Component::CurDir).collect(),
            None => numbered_name(texts.len()).into(),
        };
        if !seen.insert(name.clone()) {
            bail!("{}: a second prompt for {}", place(), name.display());
        }
        names.push(name);
        texts.push(line.text);
    }
    ensure!(!texts.is_empty(), "{} has no prompt in it", path.display());
    let names: Vec<&Path> = names.iter().map(PathBuf::as_path).collect();
    let samples = sample::names(&names);
    Ok(samples.into_iter().zip(texts).map(|(sample, text)| Prompt { sample, text }).collect())
}

fn numbered_name(idx: usize) -> String {
    format!("p{:04}", idx + 1)
}

#[cfg(test)]
mod tests {
    use super::{Prompts, read};

    fn check(name: &str, content: &str, expected: &[(&str, &str)]) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(name), content).unwrap();
        let prompts = read(&Prompts::File(name.to_owned()), None, folder.path()).unwrap();
        let found: Vec<(&str, &str)> = prompts.iter().map(|it| (it.sample.as_str(), it.text.as_str())).collect();
        assert_eq!(found, expected);
    }

    fn fails(name: &str, content: &str, what: &str) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(name), content).unwrap();
        let error = read(&Prompts::File(name.to_owned()), None, folder.path()).unwrap_err();
        assert!(format!("{error:#}").contains(what), "{error:#}");
    }

    #[test]
    fn lines_are_prompts_and_files_name_samples() {
        check("a.txt", "a fox\n\n an owl \n", &[("p0001", "a fox"), ("p0002", "an owl")]);
        let lines = "{\"file_name\": \"./x/1.jpg\", \"text\": \"a fox\", \"n\": 1}\n{\"text\": \"an owl\"}\n";
        check("a.jsonl", lines, &[("x/1", "a fox"), ("p0002", "an owl")]);
    }

    #[test]
    fn the_first_so_many_are_taken() {
        let inline = Prompts::Inline(vec!["a".to_owned(), "b".to_owned()]);
        let prompts = read(&inline, Some(1), std::path::Path::new("/")).unwrap();
        assert_eq!(prompts.len(), 1);
    }

    #[test]
    fn what_is_no_prompt_is_told_with_its_line() {
        fails("a.jsonl", "{\"text\": \"a\"}\n{\"text\": \" \"}\n", "a.jsonl:2: the prompt is empty");
        fails("a.jsonl", "{\"txt\": \"a\"}\n", "a.jsonl:1");
        let twice = "{\"file_name\": \"1.jpg\", \"text\": \"a\"}\n{\"file_name\": \"./1.jpg\", \"text\": \"b\"}\n";
        fails("a.jsonl", twice, "a.jsonl:2: a second prompt for 1.jpg");
        fails("a.txt", "\n", "no prompt");
    }
}
