//! The vocabulary and the merges of a byte-pair tokenizer, and whether they belong together.

use std::path::Path;

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use tokenizers::models::bpe::{Merges, Vocab};

/// The object of a `vocab.json`.
pub fn vocab(json: &Value, path: &Path) -> anyhow::Result<Vocab> {
    let object = json.as_object().with_context(|| format!("{}: the vocabulary is no object", path.display()))?;
    ensure!(!object.is_empty(), "{}: the vocabulary is empty", path.display());
    let id = |(token, id): (&String, &Value)| {
        let number = id.as_u64().and_then(|it| u32::try_from(it).ok());
        let number = number.with_context(|| format!("{}: the id of `{token}` is {id}", path.display()))?;
        Ok((token.clone(), number))
    };
    object.iter().map(id).collect()
}

/// The lines of a `merges.txt`: two halves and a space between them.
pub fn from_text(text: &str, path: &Path) -> anyhow::Result<Merges> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with("#version") && !line.is_empty());
    let pair = |(idx, line): (usize, &str)| {
        halves(line).with_context(|| format!("{}, line {}: `{line}` is no merge", path.display(), idx + 1))
    };
    lines.map(pair).collect()
}

/// The merges of a `tokenizer.json`: `"a b"` in older files, `["a", "b"]` in newer ones.
pub fn from_json(json: &Value, path: &Path) -> anyhow::Result<Merges> {
    let list = json.as_array().with_context(|| format!("{}: model.merges is no list", path.display()))?;
    let pair = |it: &Value| {
        let pair = match it {
            Value::String(line) => halves(line),
            other => serde_json::from_value(other.clone()).ok(),
        };
        pair.with_context(|| format!("{}: {it} is no merge", path.display()))
    };
    list.iter().map(pair).collect()
}

fn halves(line: &str) -> Option<(String, String)> {
    let (left, right) = line.split_once(' ')?;
    let whole = !left.is_empty() && !right.is_empty() && !right.contains(' ');
    whole.then(|| (left.to_owned(), right.to_owned()))
}

/// Refuses merges whose halves or result are no tokens, and a list that ends before the vocabulary does: with either,
/// prompts would silently become other tokens.
pub fn check(vocab: &Vocab, merges: &Merges, end_of_word: &str, path: &Path) -> anyhow::Result<()> {
    let mut made = Vec::with_capacity(merges.len());
    for (idx, (left, right)) in merges.iter().enumerate() {
        let id = |token: &str| {
            vocab.get(token).copied().with_context(|| {
                let (name, number) = (path.display(), idx + 1);
                format!("{name}: merge {number} (`{left} {right}`) needs the token `{token}`, which has no id")
            })
        };
        id(left)?;
        id(right)?;
        made.push(id(&format!("{left}{right}"))?);
    }
    // A file cut between two lines: trained vocabularies number their tokens in the order of their merges, so the
    // tokens of the lost merges follow the last one that is made.
    if let Some(&last) = made.last()
        && made.windows(2).all(|it| it[0] + 1 == it[1])
        && let Some((lost, _)) = vocab.iter().find(|(_, id)| **id == last + 1)
        && lost.strip_suffix(end_of_word).unwrap_or(lost).chars().count() > 1
        && !is_mark(lost)
    {
        bail!("{}: ends after {} merges, before the one that makes `{lost}`", path.display(), merges.len());
    }
    Ok(())
}

/// Whether a token looks like `<|endoftext|>`.
fn is_mark(token: &str) -> bool {
    token.starts_with('<') && token.ends_with('>')
}
