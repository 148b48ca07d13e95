//! House rules that the compiler does not know.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::root;

/// Words that stand for work that nobody has done, put together so that this file holds none.
const UNFINISHED: [&str; 4] =
    [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("todo", "!"), concat!("unimplemented", "!")];
/// The most lines of a file.
const MOST_LINES: usize = 450;

/// The Rust files below a folder of the checkout, with their texts.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let files = walkdir::WalkDir::new(root().join(folder)).into_iter().map(|it| it.unwrap().into_path());
    let files = files.filter(|it| it.extension().is_some_and(|it| it == "rs"));
    let sources: Vec<_> = files.map(|it| (it.clone(), fs::read_to_string(&it).unwrap())).collect();
    assert!(!sources.is_empty(), "{folder}");
    sources
}

/// The top-level module that a file below src/ belongs to.
fn module(path: &Path) -> String {
    let below = path.strip_prefix(root().join("src")).unwrap();
    let first = below.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// The modules of the crate that a text names: each word after `crate::`, or inside its braces.
fn named(text: &str) -> Vec<&str> {
    let is_word = |it: char| it.is_ascii_alphanumeric() || it == '_';
    let mut named = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        if text[..at].ends_with(|it: char| is_word(it) || it == '$') {
            continue;
        }
        let rest = &text[at + "crate::".len()..];
        let (list, depth) = match rest.strip_prefix('{') {
            Some(list) => (list, 1),
            None => (rest, 0),
        };
        let mut depth = depth;
        let mut starts = true;
        for (idx, it) in list.char_indices() {
            match it {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' => starts = depth == 1,
                _ if is_word(it) && starts => {
                    let end = list[idx..].find(|it| !is_word(it)).map_or(list.len(), |it| idx + it);
                    named.push(&list[idx..end]);
                    starts = false;
                }
                _ => {}
            }
            if depth == 0 && !starts {
                break;
            }
        }
    }
    named
}

#[test]
fn names_are_found_in_paths_and_in_lists() {
    assert_eq!(named("use crate::job::Hash;\nfn f() -> crate::plan::Plan {}"), ["job", "plan"]);
    assert_eq!(named("use crate::{job::{self, Hash}, plan};"), ["job", "plan"]);
    assert!(named("use my_crate::job;").is_empty());
}

#[test]
fn a_module_uses_only_modules_above_it() {
    let list = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let order: Vec<&str> = list.lines().filter_map(|it| it.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let place: HashMap<&str, usize> = order.iter().enumerate().map(|(idx, it)| (*it, idx)).collect();
    let mut wrong = Vec::new();
    for (path, text) in sources("src") {
        let module = module(&path);
        if ["lib", "main"].contains(&module.as_str()) {
            continue;
        }
        let own = place[module.as_str()];
        for other in named(&text) {
            if place.get(other).is_some_and(|it| *it > own) {
                wrong.push(format!("{} uses {other}, which stands below {module}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_three_modules_speak_sql() {
    let mut wrong = Vec::new();
    for (path, text) in sources("src") {
        if ["database", "queue", "store"].contains(&module(&path).as_str()) {
            continue;
        }
        // Others pass the pool on.
        let speaks = |line: &&str| line.contains("sqlx::") && !line.contains("sqlx::PgPool");
        wrong.extend(text.lines().filter(speaks).map(|line| format!("{}: {}", path.display(), line.trim())));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn locks_that_outlive_a_transaction_are_not_taken() {
    // A pooler between a worker and Postgres would leave them to whoever comes next.
    for (path, text) in ["src", "migrations"].into_iter().flat_map(all_texts) {
        for word in [concat!("pg_advisory", "_lock"), concat!("pg_try_advisory", "_lock")] {
            assert!(!text.contains(word), "{} takes {word}", path.display());
        }
    }
}

#[test]
fn every_file_says_what_it_owns_and_is_short() {
    for (path, text) in ["src", "tests"].into_iter().flat_map(sources) {
        assert!(text.starts_with("//!"), "{} does not begin with `//!`", path.display());
        let n_lines = text.lines().count();
        assert!(n_lines <= MOST_LINES, "{} has {n_lines} lines; split it by what it does", path.display());
    }
}

#[test]
fn nothing_is_left_for_later() {
    for (path, text) in ["src", "tests", "benches", "migrations"].into_iter().flat_map(all_texts) {
        for word in UNFINISHED {
            assert!(!text.contains(word), "{} says {word}", path.display());
        }
    }
    for (path, text) in sources("tests") {
        assert!(!text.contains(concat!("#[ig", "nore")), "{} skips a test", path.display());
    }
}

/// The files of a folder that are text in code.
fn all_texts(folder: &str) -> Vec<(PathBuf, String)> {
    let files = walkdir::WalkDir::new(root().join(folder)).into_iter().map(|it| it.unwrap().into_path());
    let is_code =
        |it: &PathBuf| it.extension().is_some_and(|it| ["rs", "sql", "sh", "py"].iter().any(|code| it == *code));
    files.filter(is_code).map(|it| (it.clone(), fs::read_to_string(&it).unwrap())).collect()
}
