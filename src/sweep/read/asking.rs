//! Reads `[[judge]]` and `[[caption]]` blocks.

use std::sync::Arc;

use toml::de::DeValue;

use super::super::asking::{Caption, Judge, Terms};
use super::super::block::{Block, Placed, listed, meant, quoted};
use super::super::resources::Wants;
use super::check_keys;
use super::names::Names;
use super::resources::wants;
use crate::config::judge::plain_url;
use crate::job::needs::Needs;
use crate::job::task::asking::{Aspect, Manner};
use crate::judge::cost::{PictureTokens, Prices, listed as listed_prices};
use crate::judge::prompts;

/// The keys of `[[judge]]`.
pub(super) const JUDGE: &[&str] = &[
    "name",
    "of",
    "aspects",
    "captions",
    "both_orders",
    "crops",
    "model",
    "url",
    "side",
    "max_tokens",
    "temperature",
    "requests_per_minute",
    "tokens_per_minute",
    "budget",
    "prices",
    "picture_tokens",
    "resources",
];

/// The keys of `[[caption]]`.
pub(super) const CAPTION: &[&str] = &[
    "name",
    "of",
    "prompt",
    "model",
    "url",
    "side",
    "max_tokens",
    "temperature",
    "requests_per_minute",
    "tokens_per_minute",
    "budget",
    "prices",
    "picture_tokens",
    "resources",
];

/// The keys of `prices`.
const PRICES: &[&str] = &["input", "output", "batch"];
/// The keys of `picture_tokens`.
const PICTURE_TOKENS: &[&str] = &["base", "tile"];

/// Who is asked unless the block says otherwise.
const MODEL: &str = "gpt-4o";
/// The longest side that is sent: GPT-4o makes larger pictures smaller itself.
const SIDE: u32 = 2048;
/// The most tokens of a judge's answer: three reasons of some length.
const JUDGE_TOKENS: u32 = 800;
/// The most tokens of a caption.
const CAPTION_TOKENS: u32 = 300;

/// The block, with anything in the place of what is wrong; its faults know that.
pub(super) fn judge(block: &Block, names: &Names, captions: &[String], around: &Wants) -> Judge {
    check_keys(block, JUDGE);
    let of = texts(block, "of", "[\"NAME\", \"NAME\"]");
    for (idx, it) in of.iter().enumerate() {
        if let Some(first) = of[..idx].iter().find(|other| other.value == it.value) {
            let places = vec![(it.span.clone(), "here".to_owned()), (first.span.clone(), "and here".to_owned())];
            block.faults.at_all(places, format!("`of` names `{}` twice", it.value), None);
        } else {
            names.check_pictures(it, "a judge compares the pictures of", block.faults);
        }
    }
    let captions = block.text("captions").and_then(|it| {
        let found = captions.iter().position(|name| *name == it.value);
        if found.is_none() {
            let known = (!captions.is_empty()).then(|| format!("there is {}", listed(captions)));
            let help = meant(&it.value, captions.iter().map(String::as_str)).or(known);
            block.faults.at(&it.span, format!("no [[caption]] block is called `{}`", it.value), help);
        }
        found
    });
    Judge {
        name: block.required_text("name", "\"NAME\"").unwrap_or_default().value,
        of: of.into_iter().map(|it| it.value).collect(),
        aspects: aspects(block),
        captions,
        both_orders: flag(block, "both_orders").unwrap_or(true),
        crops: block.integer("crops", 0..=64).map_or(0, |it| it as u32),
        terms: terms(block, JUDGE_TOKENS, "[judge.resources]", around),
    }
}

/// The block, with anything in the place of what is wrong; its faults know that.
pub(super) fn caption(block: &Block, names: &Names, around: &Wants) -> Caption {
    check_keys(block, CAPTION);
    let of = block.required_text("of", "\"NAME\"");
    let of = of.and_then(|it| names.images(&it, "a [[caption]] block is `of`", block.faults));
    Caption {
        name: block.required_text("name", "\"NAME\"").unwrap_or_default().value,
        of: of.unwrap_or(usize::MAX),
        question: block.text("prompt").map_or_else(|| prompts::CAPTION.to_owned(), |it| it.value),
        terms: terms(block, CAPTION_TOKENS, "[caption.resources]", around),
    }
}

fn terms(block: &Block, max_tokens: u32, title: &'static str, around: &Wants) -> Terms {
    let model = block.text("model").map_or_else(|| MODEL.to_owned(), |it| it.value);
    let url = block.text("url").and_then(|it| {
        let plain = plain_url(&it.value);
        if let Err(error) = &plain {
            block.faults.at(&it.span, format!("`url` is wrong: {error}"), None);
        }
        plain.ok()
    });
    let rate = |key: &str| block.number(key, "a number above 0", |it| it > 0.0);
    let (prices, batch) = prices(block).unzip();
    let assumed = prices.is_none();
    let budget = block.number("budget", "a number of US dollars, at least 0", |it| it >= 0.0);
    let prices = prices.or_else(|| listed_prices(&model));
    let own_pictures = picture_tokens(block);
    let pictures_assumed = own_pictures.is_none() && PictureTokens::listed(&model).is_none();
    let pictures = own_pictures.unwrap_or_else(|| PictureTokens::of_model(&model));
    let is_free = prices.is_some_and(|it| it.input == 0.0 && it.output == 0.0);
    if prices.is_none() && block.get("prices").is_none() {
        let help =
            "add `prices = { input = 2.5, output = 10.0 }`, US dollars for 10^6 tokens; 0 for a model of your own";
        block.faults.at(&block.key_span("model"), format!("nobody knows what `{model}` costs"), help.to_owned());
    } else if !is_free && block.get("budget").is_none() && !block.has_misspelt("budget") {
        let help = "add `budget = 5.0`, the most US dollars that it may cost in all".to_owned();
        block.faults.at(&block.span, format!("{} has no `budget`", block.title), help);
    }
    let labels = wants(block, title, &around.labels_only()).labels.unwrap_or_default();
    Terms {
        needs: Arc::new(Needs::asking(url.as_deref(), &labels)),
        manner: Manner {
            model,
            url,
            side: block.integer("side", 64..=8192).map_or(SIDE, |it| it as u32),
            max_tokens: block.integer("max_tokens", 16..=100_000).map_or(max_tokens, |it| it as u32),
            temperature: block.number("temperature", "a number from 0 to 2", |it| (0.0..=2.0).contains(&it)),
        },
        requests_per_minute: rate("requests_per_minute"),
        tokens_per_minute: rate("tokens_per_minute"),
        budget,
        prices,
        assumed,
        pictures,
        pictures_assumed,
        batch: batch.unwrap_or(1.0),
    }
}

/// Of tokens, and the share of it that batches cost.
fn prices(block: &Block) -> Option<(Prices, f64)> {
    let value = block.get("prices")?;
    let DeValue::Table(table) = value.get_ref() else {
        block.wrong_type("prices", value, "a table", "write `prices = { input = 2.5, output = 10.0 }`".to_owned());
        return None;
    };
    let inner = Block { title: "`prices`", table, span: value.span(), faults: block.faults };
    check_keys(&inner, PRICES);
    let price = |key: &str| {
        if inner.get(key).is_none() {
            inner.missing(key, "2.5");
        }
        inner.number(key, "a number of US dollars for 10^6 tokens, at least 0", |it| it >= 0.0)
    };
    let (input, output) = (price("input"), price("output"));
    let batch =
        inner.number("batch", "a number from 0 to 1: 0.5 for half of the price", |it| (0.0..=1.0).contains(&it));
    Some((Prices { input: input?, output: output? }, batch.unwrap_or(1.0)))
}

/// What a picture counts as.
fn picture_tokens(block: &Block) -> Option<PictureTokens> {
    let value = block.get("picture_tokens")?;
    let DeValue::Table(table) = value.get_ref() else {
        let help = "write `picture_tokens = { base = 576 }`, or `{ base = 85, tile = 170 }` for as many more with each tile of 512×512";
        block.wrong_type("picture_tokens", value, "a table", help.to_owned());
        return None;
    };
    let inner = Block { title: "`picture_tokens`", table, span: value.span(), faults: block.faults };
    check_keys(&inner, PICTURE_TOKENS);
    if inner.get("base").is_none() {
        inner.missing("base", "576");
    }
    let count = |key: &str| inner.integer(key, 0..=1_000_000).map(|it| it as u32);
    Some(PictureTokens { base: count("base")?, tile: count("tile").unwrap_or(0) })
}

fn aspects(block: &Block) -> Vec<Aspect> {
    if block.get("aspects").is_none() {
        return Aspect::ALL.to_vec();
    }
    let mut found = Vec::new();
    for it in texts(block, "aspects", "[\"fine_details\"]") {
        let words = Aspect::ALL.map(Aspect::word);
        match Aspect::ALL.into_iter().find(|aspect| aspect.word() == it.value) {
            Some(aspect) => found.push(aspect),
            None => {
                let help = meant(&it.value, words).unwrap_or_else(|| format!("aspects are {}", listed(words)));
                block.faults.at(&it.span, format!("no aspect is called `{}`", it.value), help);
            }
        }
    }
    // Their order in the file means nothing.
    found.sort_unstable();
    found.dedup();
    found
}

/// The texts of a list that has to be there and have one.
fn texts(block: &Block, key: &str, example: &str) -> Vec<Placed<String>> {
    let Some(value) = block.get(key) else {
        block.missing(key, example);
        return Vec::new();
    };
    let DeValue::Array(list) = value.get_ref() else {
        let help = match value.get_ref() {
            DeValue::String(text) => Some(format!("put it in brackets: [\"{text}\"]")),
            _ => None,
        };
        block.wrong_type(key, value, "a list of names", help);
        return Vec::new();
    };
    if list.is_empty() {
        block.faults.at(&value.span(), format!("the list `{key}` is empty"), format!("write `{key} = {example}`"));
    }
    let text = |item: &toml::Spanned<DeValue>| match item.get_ref() {
        DeValue::String(text) => Some(Placed { value: text.to_string(), span: item.span() }),
        _ => {
            block.wrong_type(key, item, "a list of names", quoted(item));
            None
        }
    };
    list.iter().filter_map(text).collect()
}

fn flag(block: &Block, key: &str) -> Option<bool> {
    let value = block.get(key)?;
    let DeValue::Boolean(flag) = value.get_ref() else {
        block.wrong_type(key, value, "true or false", None);
        return None;
    };
    Some(*flag)
}
