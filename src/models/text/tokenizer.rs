//! Prompts to token ids, as the `CLIPTokenizer` and `T5Tokenizer` of transformers 5 make them.

mod merges;
mod sentencepiece;
mod specials;

use std::fs;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use base64::Engine;
use serde_json::Value;
use tokenizers::models::bpe::BPE;
use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::{Lowercase, NFC, NormalizerWrapper, Precompiled, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::pre_tokenizers::whitespace::WhitespaceSplit;
use tokenizers::{ModelWrapper, SplitDelimiterBehavior};

use specials::{Settings, Side};

/// What a word of a prompt is for CLIP. From transformers, `models/clip/tokenization_clip.py`.
const CLIP_WORDS: &str =
    concat!(r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d", r"|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+");
/// What CLIP writes behind the last letter of a word.
const END_OF_WORD: &str = "</w>";
/// The place of T5's unknown piece; transformers takes it for granted.
const T5_UNKNOWN: usize = 2;

/// Which tokenizer a folder holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Byte pairs: `vocab.json` and `merges.txt`, or `tokenizer.json`.
    Clip,
    /// SentencePiece unigrams: `spiece.model` or `tokenizer.json`.
    T5,
}

/// A prompt as a model takes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ids {
    /// As many as were asked for, padding among them.
    pub ids: Vec<u32>,
    /// How many tokens of the prompt did not fit.
    pub n_cut: usize,
}

/// One tokenizer of a package.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    first: Option<u32>,
    last: u32,
    pad: u32,
    settings: Settings,
}

impl Tokenizer {
    /// Reads the tokenizer in `dir`. A `tokenizer.json` goes before the older files, as in transformers.
    ///
    /// # Errors
    /// A file that is missing, truncated or not of its format, named with what is wrong in it.
    pub fn open(dir: &Path, kind: Kind) -> anyhow::Result<Self> {
        let json_path = dir.join("tokenizer.json");
        let json = if json_path.exists() { Some(read_json(&json_path)?) } else { None };
        let (model, charsmap, settings) = match kind {
            Kind::Clip => {
                let settings = Settings::read(dir, kind, json.as_ref(), Vec::new())?;
                (clip_model(dir, json.as_ref(), &settings.unknown)?, None, settings)
            }
            Kind::T5 => {
                let (model, charsmap, controls) = t5_model(dir, json.as_ref())?;
                (model, charsmap, Settings::read(dir, kind, json.as_ref(), controls)?)
            }
        };
        let mut inner = tokenizers::Tokenizer::new(model);
        let (normalizer, pre_tokenizer) = match kind {
            Kind::Clip => clip_stages()?,
            Kind::T5 => t5_stages(dir, charsmap.as_deref())?,
        };
        inner.with_normalizer(normalizer).map_err(anyhow::Error::from_boxed)?;
        inner.with_pre_tokenizer(Some(pre_tokenizer));
        inner.add_tokens(settings.added.clone()).map_err(anyhow::Error::from_boxed)?;
        inner.set_encode_special_tokens(settings.split_special_tokens);
        let id = |name: &str, token: &str| {
            inner.token_to_id(token).with_context(|| format!("{}: the {name} `{token}` has no id", dir.display()))
        };
        let first = match kind {
            Kind::Clip => Some(id("bos_token", &settings.first)?),
            Kind::T5 => None,
        };
        let (last, pad) = (id("eos_token", &settings.last)?, id("pad_token", &settings.pad)?);
        Ok(Self { inner, first, last, pad, settings })
    }

    /// The length to which prompts are padded if nobody says otherwise; `None` where the package does not say.
    pub fn max_len(&self) -> Option<usize> {
        self.settings.max_len
    }

    /// `text` as exactly `max_len` ids: the tokens that mark its ends are always there, what does not fit between
    /// them is cut off, and the rest is padding.
    ///
    /// # Errors
    /// A `max_len` that has no room for the marks.
    pub fn ids(&self, text: &str, max_len: usize) -> anyhow::Result<Ids> {
        let n_marks = usize::from(self.first.is_some()) + 1;
        ensure!(max_len >= n_marks, "{max_len} tokens leave no room for the {n_marks} that mark a prompt's ends");
        let encoding = self.inner.encode_fast(text, false).map_err(anyhow::Error::from_boxed)?;
        let tokens = encoding.get_ids();
        let n_kept = tokens.len().min(max_len - n_marks);
        let n_cut = tokens.len() - n_kept;
        let kept = match self.settings.truncation {
            Side::Right => &tokens[..n_kept],
            Side::Left => &tokens[n_cut..],
        };
        let mut ids: Vec<u32> = self.first.into_iter().chain(kept.iter().copied()).chain([self.last]).collect();
        let padding = std::iter::repeat_n(self.pad, max_len - ids.len());
        match self.settings.padding {
            Side::Right => ids.extend(padding),
            Side::Left => ids = padding.chain(ids.iter().copied()).collect(),
        }
        Ok(Ids { ids, n_cut })
    }
}

fn clip_model(dir: &Path, json: Option<&Value>, unknown: &str) -> anyhow::Result<ModelWrapper> {
    let (vocab, merges) = match json {
        Some(json) => {
            let path = dir.join("tokenizer.json");
            let vocab = json.pointer("/model/vocab").with_context(|| no_key(&path, "model.vocab"))?;
            let pairs = json.pointer("/model/merges").with_context(|| no_key(&path, "model.merges"))?;
            (merges::vocab(vocab, &path)?, merges::from_json(pairs, &path)?)
        }
        None => {
            let path = dir.join("vocab.json");
            let vocab = merges::vocab(&read_json(&path)?, &path)?;
            let path = dir.join("merges.txt");
            let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            (vocab, merges::from_text(&text, &path)?)
        }
    };
    let source = dir.join(if json.is_some() { "tokenizer.json" } else { "merges.txt" });
    merges::check(&vocab, &merges, END_OF_WORD, &source)?;
    let builder = BPE::builder().vocab_and_merges(vocab, merges).unk_token(unknown.to_owned());
    let model = builder.end_of_word_suffix(END_OF_WORD.to_owned()).build().map_err(anyhow::Error::from_boxed)?;
    Ok(model.into())
}

/// The model, the table of its normaliser, and the pieces that are marks rather than text.
type T5Model = (ModelWrapper, Option<Vec<u8>>, Vec<String>);

fn t5_model(dir: &Path, json: Option<&Value>) -> anyhow::Result<T5Model> {
    let (path, pieces, charsmap, controls) = match json {
        Some(json) => {
            let path = dir.join("tokenizer.json");
            let pieces = json.pointer("/model/vocab").with_context(|| no_key(&path, "model.vocab"))?;
            let pieces: Vec<(String, f64)> = serde_json::from_value(pieces.clone())
                .with_context(|| format!("{}: model.vocab is no list of pieces and scores", path.display()))?;
            let charsmap = charsmap_of(json, &path)?;
            (path, pieces, charsmap, Vec::new())
        }
        None => {
            let path = dir.join("spiece.model");
            let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            let file = sentencepiece::parse(&bytes).with_context(|| path.display().to_string())?;
            let mut pieces = file.pieces;
            let n_extra = specials::n_extra_ids(dir)?;
            pieces.extend((0..n_extra).rev().map(|it| (format!("<extra_id_{it}>"), 0.0)));
            (path, pieces, file.charsmap, file.controls)
        }
    };
    ensure!(pieces.len() > T5_UNKNOWN, "{}: {} pieces are no vocabulary", path.display(), pieces.len());
    let model = Unigram::from(pieces, Some(T5_UNKNOWN), false).map_err(anyhow::Error::from_boxed)?;
    Ok((model.into(), charsmap, controls))
}

/// The table of the first precompiled normaliser of a `tokenizer.json`.
fn charsmap_of(json: &Value, path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    let Some(normalizer) = json.get("normalizer").filter(|it| !it.is_null()) else { return Ok(None) };
    let all = match normalizer.get("normalizers").and_then(Value::as_array) {
        Some(all) => all.clone(),
        None => vec![normalizer.clone()],
    };
    let mut tables = all.iter().filter(|it| it["type"] == "Precompiled").map(|it| &it["precompiled_charsmap"]);
    let Some(table) = tables.next().and_then(Value::as_str) else { return Ok(None) };
    let bytes = base64::engine::general_purpose::STANDARD.decode(table);
    Ok(Some(bytes.with_context(|| format!("{}: the precompiled_charsmap is no base64", path.display()))?))
}

type Stages = (Option<NormalizerWrapper>, PreTokenizerWrapper);

fn clip_stages() -> anyhow::Result<Stages> {
    let one_space = Replace::new(ReplacePattern::Regex(r"\s+".to_owned()), " ").map_err(anyhow::Error::from_boxed)?;
    let normalizer = Normalizers::new(vec![NFC.into(), one_space.into(), Lowercase.into()]);
    let words = SplitPattern::Regex(CLIP_WORDS.to_owned());
    let words = Split::new(words, SplitDelimiterBehavior::Removed, true).map_err(anyhow::Error::from_boxed)?;
    let bytes = ByteLevel::new(false, true, true);
    Ok((Some(normalizer.into()), PreTokenizers::new(vec![words.into(), bytes.into()]).into()))
}

fn t5_stages(dir: &Path, charsmap: Option<&[u8]>) -> anyhow::Result<Stages> {
    let normalizer = match charsmap {
        Some(table) => {
            let table = Precompiled::from(table).map_err(|it| anyhow::anyhow!("{}: {it}", dir.display()))?;
            Some(table.into())
        }
        None => None,
    };
    let marks = Metaspace::new('▁', PrependScheme::Always, true);
    Ok((normalizer, PreTokenizers::new(vec![WhitespaceSplit.into(), marks.into()]).into()))
}

fn no_key(path: &Path, key: &str) -> String {
    format!("{}: `{key}` is missing", path.display())
}

/// A JSON file of a package.
fn read_json(path: &Path) -> anyhow::Result<Value> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let value: Value = serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))?;
    if !value.is_object() {
        bail!("{} is no JSON object", path.display());
    }
    Ok(value)
}
