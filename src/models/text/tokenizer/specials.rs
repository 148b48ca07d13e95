//! Which tokens are cut out of a prompt before it is split, and the other settings of a tokenizer.
//!
//! Follows transformers 5.23, `tokenization_utils_base.py` (`_from_pretrained`) and `tokenization_utils_tokenizers.py`
//! (`TokenizersBackend.__init__`): with bigG's pad token `!` each exclamation mark of a prompt becomes id 0.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokenizers::AddedToken;

use super::{Kind, read_json};

/// The names that transformers gives to special tokens, in its order.
const NAMES: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
/// transformers writes 10^30 where a tokenizer has no length.
const NO_LENGTH: f64 = 1e9;
/// How many `<extra_id_N>` a T5 has if its config does not say.
const N_EXTRA_IDS: u64 = 100;

/// An end of a prompt.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Its beginning.
    Left,
    /// Its end.
    Right,
}

/// What `tokenizer_config.json` and the files beside it say.
pub struct Settings {
    /// Marks a prompt's beginning; empty where nothing does.
    pub first: String,
    /// Marks its end.
    pub last: String,
    /// Fills it up.
    pub pad: String,
    /// Stands for what the vocabulary lacks.
    pub unknown: String,
    /// In the order in which they are added; of two with one content the later one holds.
    pub added: Vec<AddedToken>,
    /// Whether special tokens in a prompt are taken for plain text.
    pub split_special_tokens: bool,
    /// Where a prompt is cut.
    pub truncation: Side,
    /// Where it is filled up.
    pub padding: Side,
    /// `model_max_length`, where it is a length.
    pub max_len: Option<usize>,
}

/// A token with its properties, or its text alone.
#[derive(Clone, PartialEq, Debug)]
enum Token {
    Plain(String),
    Full(Properties),
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
struct Properties {
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    /// Unset is the opposite of `special`.
    normalized: Option<bool>,
    #[serde(default)]
    special: bool,
}

impl Token {
    fn content(&self) -> &str {
        match self {
            Self::Plain(content) => content,
            Self::Full(it) => &it.content,
        }
    }

    fn read(value: &Value) -> anyhow::Result<Self> {
        match value {
            Value::String(content) => Ok(Self::Plain(content.clone())),
            _ => Ok(Self::Full(Properties::deserialize(value).with_context(|| format!("{value} is no token"))?)),
        }
    }

    /// What the tokenizer is given: `is_named` makes a token special.
    fn added(self, is_named: bool) -> AddedToken {
        match self {
            Self::Plain(content) => AddedToken::from(content, true),
            Self::Full(it) => {
                let special = it.special || is_named;
                let normalized = it.normalized.unwrap_or(!special);
                let token = AddedToken::from(it.content, special).normalized(normalized);
                token.single_word(it.single_word).lstrip(it.lstrip).rstrip(it.rstrip)
            }
        }
    }
}

impl Settings {
    /// Reads the settings in `dir`, of which none is obligatory. `json` is the content of `tokenizer.json`, `controls`
    /// are the marks that `spiece.model` names.
    pub fn read(dir: &Path, kind: Kind, json: Option<&Value>, controls: Vec<String>) -> anyhow::Result<Self> {
        let mut config = read_config(dir)?;
        let path = dir.join("tokenizer_config.json");
        let about = || path.display().to_string();
        let extra = config.get("extra_special_tokens").filter(|it| **it != Value::Array(Vec::new())).cloned();
        if extra.is_none_or(|it| it.is_null())
            && let Some(list) = config.remove("additional_special_tokens")
        {
            config.insert("extra_special_tokens".to_owned(), list);
        }
        let mut by_id: BTreeMap<u64, Token> = BTreeMap::new();
        if let Some(decoder) = config.remove("added_tokens_decoder") {
            let decoder = decoder.as_object().cloned().with_context(about)?;
            for (id, token) in decoder {
                let id = id.parse().with_context(|| format!("{}: added_tokens_decoder: `{id}`", about()))?;
                by_id.insert(id, Token::read(&token).with_context(about)?);
            }
        } else {
            merge_older_files(dir, &mut config, &mut by_id, json)?;
        }
        let by_content: HashMap<&str, &Token> = by_id.values().map(|it| (it.content(), it)).collect();
        let mut named = defaults(kind);
        for (key, value) in config.iter().filter(|(key, _)| key.ends_with("_token")) {
            match value {
                Value::String(_) | Value::Object(_) => {
                    let token = Token::read(value).with_context(|| format!("{}: {key}", about()))?;
                    let token = by_content.get(token.content()).map_or(token, |it| (*it).clone());
                    set(&mut named, key, Some(token));
                }
                Value::Null => set(&mut named, key, None),
                _ => {}
            }
        }
        let text = |key: &str| {
            let token = named.iter().find(|(name, _)| name == key).and_then(|(_, it)| it.as_ref());
            token.map(|it| it.content().to_owned()).with_context(|| format!("{}: `{key}` is null", about()))
        };
        let first = if kind == Kind::Clip { text("bos_token")? } else { String::new() };
        let (last, pad, unknown) = (text("eos_token")?, text("pad_token")?, text("unk_token")?);
        let extra = extra_tokens(&config, kind, controls).with_context(about)?;
        let added = in_order(by_id, &named, &extra);
        let side = |key: &str| match config.get(key) {
            Some(value) => Side::deserialize(value).with_context(|| format!("{}: {key}", about())),
            None => Ok(Side::Right),
        };
        let max_len = config.get("model_max_length").or_else(|| config.get("max_len")).and_then(Value::as_f64);
        Ok(Self {
            first,
            last,
            pad,
            unknown,
            added,
            split_special_tokens: config.get("split_special_tokens").and_then(Value::as_bool).unwrap_or(false),
            truncation: side("truncation_side")?,
            padding: side("padding_side")?,
            max_len: max_len.filter(|it| *it >= 1.0 && *it < NO_LENGTH).map(|it| it as usize),
        })
    }
}

/// How many `<extra_id_N>` follow the pieces of a `spiece.model`.
pub fn n_extra_ids(dir: &Path) -> anyhow::Result<u64> {
    Ok(extra_ids(&read_config(dir)?))
}

fn extra_ids(config: &Map<String, Value>) -> u64 {
    config.get("extra_ids").and_then(Value::as_u64).unwrap_or(N_EXTRA_IDS)
}

fn read_config(dir: &Path) -> anyhow::Result<Map<String, Value>> {
    read_optional(&dir.join("tokenizer_config.json")).map(Option::unwrap_or_default)
}

fn read_optional(path: &Path) -> anyhow::Result<Option<Map<String, Value>>> {
    match fs::exists(path).with_context(|| format!("read {}", path.display()))? {
        true => Ok(read_json(path)?.as_object().cloned()),
        false => Ok(None),
    }
}

/// What the class itself names where no file does.
fn defaults(kind: Kind) -> Vec<(String, Option<Token>)> {
    let end = "<|endoftext|>";
    let named: [(&str, &str); 4] = match kind {
        Kind::Clip => [("bos_token", "<|startoftext|>"), ("eos_token", end), ("unk_token", end), ("pad_token", end)],
        Kind::T5 => [("bos_token", ""), ("eos_token", "</s>"), ("unk_token", "<unk>"), ("pad_token", "<pad>")],
    };
    let default = |name: &str| named.iter().find(|(it, _)| *it == name).map(|(_, token)| *token);
    let token = |name: &str| default(name).filter(|it| !it.is_empty()).map(|it| Token::Plain(it.to_owned()));
    NAMES.iter().map(|name| ((*name).to_owned(), token(name))).collect()
}

fn set(named: &mut Vec<(String, Option<Token>)>, key: &str, token: Option<Token>) {
    match named.iter_mut().find(|(name, _)| name == key) {
        Some((_, old)) => *old = token,
        None => named.push((key.to_owned(), token)),
    }
}

/// `special_tokens_map.json`, `added_tokens.json` and the tokens of `tokenizer.json`, which count only where the
/// config lacks `added_tokens_decoder`.
fn merge_older_files(
    dir: &Path,
    config: &mut Map<String, Value>,
    by_id: &mut BTreeMap<u64, Token>,
    json: Option<&Value>,
) -> anyhow::Result<()> {
    for (key, mut value) in read_optional(&dir.join("special_tokens_map.json"))?.unwrap_or_default() {
        if let Value::Object(token) = &mut value {
            token.insert("special".to_owned(), Value::Bool(true));
        }
        config.insert(key, value);
    }
    let contents = |value: &Value| Token::read(value).map(|it| it.content().to_owned()).ok();
    let named = NAMES.iter().filter_map(|it| contents(config.get(*it)?));
    let extra = config.get("extra_special_tokens").and_then(Value::as_array).into_iter().flatten();
    let specials: Vec<String> = named.chain(extra.filter_map(contents)).collect();
    let path = dir.join("added_tokens.json");
    for (content, id) in read_optional(&path)?.unwrap_or_default() {
        let id = id.as_u64().with_context(|| format!("{}: the id of `{content}` is {id}", path.display()))?;
        let special = specials.contains(&content);
        let token = Properties {
            content,
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: Some(!special),
            special,
        };
        by_id.insert(id, Token::Full(token));
    }
    let tokens = json.and_then(|it| it.get("added_tokens")).and_then(Value::as_array);
    for token in tokens.into_iter().flatten() {
        let about = || format!("{}: added_tokens: {token}", dir.join("tokenizer.json").display());
        let id = token.get("id").and_then(Value::as_u64).with_context(about)?;
        by_id.insert(id, Token::read(token).with_context(about)?);
    }
    Ok(())
}

/// Special tokens without a name; T5's `<extra_id_N>` among them.
fn extra_tokens(config: &Map<String, Value>, kind: Kind, controls: Vec<String>) -> anyhow::Result<Vec<Token>> {
    let list = |key: &str| config.get(key).and_then(Value::as_array);
    if let Some(list) = list("extra_special_tokens") {
        return list.iter().map(Token::read).collect();
    }
    let mut tokens: Vec<Token> = match list("additional_special_tokens") {
        Some(list) => list.iter().map(Token::read).collect::<anyhow::Result<_>>()?,
        None => controls.into_iter().map(Token::Plain).collect(),
    };
    if kind == Kind::T5 {
        let given = tokens.iter().filter(|it| it.content().contains("<extra_id_")).count() as u64;
        let n_extra = extra_ids(config);
        ensure!(given == 0 || n_extra == 0 || given == n_extra, "extra_ids is {n_extra}, but {given} are listed");
        if given == 0 {
            tokens.extend((0..n_extra).map(|it| Token::Plain(format!("<extra_id_{it}>"))));
        }
    }
    Ok(tokens)
}

fn in_order(by_id: BTreeMap<u64, Token>, named: &[(String, Option<Token>)], extra: &[Token]) -> Vec<AddedToken> {
    let known: Vec<String> = by_id.values().map(|it| it.content().to_owned()).collect();
    let mut tokens: Vec<Token> = by_id.into_values().collect();
    let named: Vec<&Token> = named.iter().filter_map(|(_, it)| it.as_ref()).collect();
    for token in named.iter().copied().chain(extra) {
        if !known.iter().any(|it| it == token.content()) && !tokens.contains(token) {
            tokens.push(token.clone());
        }
    }
    let is_named = |token: &Token| named.iter().any(|it| it.content() == token.content());
    tokens
        .into_iter()
        .map(|token| {
            let special = is_named(&token);
            token.added(special)
        })
        .collect()
}
