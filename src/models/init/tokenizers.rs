//! Tokenizers that need no training: CLIP's bytes with a few merges, and T5's characters.

use std::fs;
use std::path::Path;

use anyhow::Context;
use serde_json::{Map, Value, json};

use super::write_json;

/// Merges of frequent letters, each of two tokens that exist by then; `_` is the end of a word.
const MERGES: [&str; 25] = [
    "i n", "t h", "a n", "r e", "o n", "a r", "e r_", "s t", "a t", "o r", "e n", "in g_", "th e_", "an d_", "o f_",
    "w i", "t h_", "wi th_", "l e_", "i c", "e d_", "o u", "s h", "t a", "a l",
];
const END: &str = "</w>";
const FIRST_MARK: &str = "<|startoftext|>";
const LAST_MARK: &str = "<|endoftext|>";

/// What a CLIP tokenizer fills prompts up with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Pad {
    /// The mark of the end, as the first of SD3's tokenizers.
    End,
    /// The token 0, "!", as the second.
    First,
}

/// Writes vocab.json, merges.txt and the settings of a CLIP whose table has `n_rows` rows: the marks are its last two.
pub fn write_clip(folder: &Path, n_rows: usize, pad: Pad) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    let merges: Vec<String> = MERGES.iter().map(|it| it.replace('_', END)).collect();
    let letters = byte_letters();
    let words = letters.iter().map(char::to_string).chain(letters.iter().map(|it| format!("{it}{END}")));
    let words = words.chain(merges.iter().map(|it| it.replace(' ', "")));
    let mut vocab: Map<String, Value> = words.enumerate().map(|(id, word)| (word, id.into())).collect();
    let (first, last) = n_rows
        .checked_sub(2)
        .filter(|it| *it >= vocab.len())
        .map(|it| (it, it + 1))
        .with_context(|| format!("a table of {n_rows} rows has no room for {} tokens and 2 marks", vocab.len()))?;
    vocab.insert(FIRST_MARK.to_owned(), first.into());
    vocab.insert(LAST_MARK.to_owned(), last.into());
    fs::write(folder.join("vocab.json"), serde_json::to_string(&vocab)?)?;
    fs::write(folder.join("merges.txt"), format!("#version: 0.2\n{}\n", merges.join("\n")))?;

    let (padding, mut added) = match pad {
        Pad::End => (LAST_MARK, Map::new()),
        Pad::First => ("!", Map::from_iter([("0".to_owned(), mark("!", false, true))])),
    };
    added.insert(first.to_string(), mark(FIRST_MARK, true, true));
    added.insert(last.to_string(), mark(LAST_MARK, true, true));
    let config = json!({
        "add_prefix_space": false, "added_tokens_decoder": added, "bos_token": FIRST_MARK,
        "clean_up_tokenization_spaces": true, "do_lower_case": true, "eos_token": LAST_MARK, "errors": "replace",
        "model_max_length": 77, "pad_token": padding, "tokenizer_class": "CLIPTokenizer", "unk_token": LAST_MARK,
    });
    write_json(&folder.join("tokenizer_config.json"), &config)?;
    let map = json!({
        "bos_token": mark(FIRST_MARK, true, false), "eos_token": mark(LAST_MARK, true, false),
        "pad_token": padding, "unk_token": mark(LAST_MARK, true, false),
    });
    write_json(&folder.join("special_tokens_map.json"), &map)
}

fn mark(content: &str, is_normalized: bool, is_told_special: bool) -> Value {
    let mut mark = json!({
        "content": content, "lstrip": false, "normalized": is_normalized, "rstrip": false, "single_word": false,
    });
    if is_told_special {
        mark["special"] = true.into();
    }
    mark
}

/// The letter that stands for each byte, in the order of CLIP's ids: bytes that can be seen stand for themselves and
/// come first, the others are letters from 256 on (GPT-2's `bytes_to_unicode`).
fn byte_letters() -> Vec<char> {
    let is_seen = |byte: &u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let hidden = (0..256_u32).filter(|it| !is_seen(it)).count() as u32;
    let codes = (0..256).filter(is_seen).chain(256..256 + hidden);
    codes.filter_map(char::from_u32).collect()
}

/// Writes the tokenizer.json of a T5 that knows the printable characters of Latin-1, one by one: 192 pieces.
pub fn write_t5(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    let marks = [("<pad>", 0), ("</s>", 1), ("<unk>", 2)];
    // A soft hyphen is not printed.
    let characters = ('!'..='~').chain('¡'..='ÿ').filter(|it| *it != '\u{ad}');
    // Of equal likelihood; a word's beginning is likelier, as there is one for each word.
    let pieces: Vec<(String, f64)> = (marks.iter().map(|it| (it.0.to_owned(), 0.0)))
        .chain([("▁".to_owned(), -2.0)])
        .chain(characters.map(|it| (it.to_string(), -4.0)))
        .collect();
    let added = marks.map(|(content, id)| {
        let mut mark = mark(content, false, true);
        mark["id"] = id.into();
        mark
    });
    let words = json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true });
    let (first, last) =
        (json!({ "Sequence": { "id": "A", "type_id": 0 } }), json!({ "SpecialToken": { "id": "</s>", "type_id": 0 } }));
    let second = json!({ "Sequence": { "id": "B", "type_id": 0 } });
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": [{ "type": "WhitespaceSplit" }, words] },
        "post_processor": {
            "type": "TemplateProcessing", "single": [first, last], "pair": [first, last, second, last],
            "special_tokens": { "</s>": { "id": "</s>", "ids": [1], "tokens": ["</s>"] } },
        },
        "decoder": words,
        "model": { "type": "Unigram", "unk_id": 2, "vocab": pieces, "byte_fallback": false },
    });
    write_json(&folder.join("tokenizer.json"), &tokenizer)?;
    let config = json!({
        "clean_up_tokenization_spaces": true, "eos_token": "</s>", "extra_ids": 0, "extra_special_tokens": [],
        "legacy": true, "model_max_length": 512, "pad_token": "<pad>", "sp_model_kwargs": {},
        "tokenizer_class": "T5Tokenizer", "unk_token": "<unk>",
    });
    write_json(&folder.join("tokenizer_config.json"), &config)
}
