//! From the text of a sweep file to a [`Sweep`], or to everything that is wrong with it.

mod asking;
mod axes;
mod damage;
mod finetune;
mod limits;
mod making;
mod names;
mod networks;
mod patches;
mod rehearse;
mod resources;

use std::collections::BTreeMap;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use self::names::Names;
use super::block::{Block, Placed, listed, meant};
use super::fault::{Collector, Faults};
use super::finetune::Finetune;
use super::resources::Wants;
use super::{Damage, Evaluation, Images, Of, OnFailure, Sweep};
use crate::metrics::{self, Metric, Needs};

/// The keys at the top: those before any block first, [`N_TOP`] of them.
const TOP: &[&str] = &[
    "name",
    "on_failure",
    "priority",
    "max_running",
    "resources",
    "limits",
    "images",
    "damage",
    "patches",
    "finetune",
    "generate",
    "reconstruct",
    "judge",
    "caption",
    "rehearse",
    "evaluate",
];
const N_TOP: usize = 4;
const IMAGES: &[&str] = &["name", "path", "captions", "model", "crop", "held_out_of"];
const EVALUATE: &[&str] = &["metrics", "networks", "reference", "max_pixels", "resources"];

/// Blocks that sweeps are going to have: no misspellings.
const LATER: &[&str] = &["labels", "report", "schedule"];

pub(super) fn sweep(text: &str, file_name: &str) -> Result<Sweep, Faults> {
    let faults = Collector::new(text, file_name);
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        faults.at(&error.span().unwrap_or(text.len()..text.len()), error.message(), None);
    }
    // What a broken text means is guesswork: nothing more is said of it.
    let sweep = errors.is_empty().then(|| top(root.get_ref(), text.len(), &faults));
    match (faults.finish(), sweep) {
        (Some(faults), _) => Err(faults),
        (None, sweep) => Ok(sweep.expect("a text with syntax errors has faults")),
    }
}

/// The sweep, with anything in the place of what is wrong; `faults` knows that.
fn top<'a>(table: &'a DeTable<'a>, end: usize, faults: &'a Collector) -> Sweep {
    let block = Block { title: "the sweep", table, span: 0..0, faults };
    check_keys(&block, TOP);
    let name = block.required_text("name", "\"NAME\"").inspect(|it| check_name(&block, it));
    let choices = [OnFailure::Continue, OnFailure::Stop].map(|it| (it.word(), it));
    let on_failure = block.choice("on_failure", &choices).unwrap_or_default();
    let priority = block.integer("priority", i16::MIN.into()..=i16::MAX.into()).map_or(0, |it| it as i16);
    let max_running = block.integer("max_running", 1..=i32::MAX.into()).map(|it| it as u32);
    let around = resources::wants(&block, "[resources]", &Wants::default());

    let limits = limits::limits(&block);

    let image_blocks = blocks(&block, "images", "[[images]]");
    let damage_blocks = blocks(&block, "damage", "[[damage]]");
    let drafts: Vec<damage::Draft> = damage_blocks.iter().map(damage::read).collect();
    let finetune_blocks = blocks(&block, "finetune", "[[finetune]]");
    let generate_blocks = blocks(&block, "generate", "[[generate]]");
    let reconstruct_blocks = blocks(&block, "reconstruct", "[[reconstruct]]");
    let rehearse_blocks = blocks(&block, "rehearse", "[[rehearse]]");
    let judge_blocks = blocks(&block, "judge", "[[judge]]");
    let patch_blocks = blocks(&block, "patches", "[[patches]]");
    let caption_blocks = blocks(&block, "caption", "[[caption]]");
    let made = [
        &finetune_blocks[..],
        &generate_blocks,
        &reconstruct_blocks,
        &rehearse_blocks,
        &judge_blocks,
        &caption_blocks,
        &patch_blocks,
    ];
    let names = Names::new(&image_blocks, &drafts, &made, faults);
    let mut images: Vec<Images> = image_blocks.iter().map(images).collect();
    let of = names.resolve(&drafts, faults);
    let damage: Vec<Damage> = drafts.into_iter().zip(of).map(|(draft, of)| draft.finish(of)).collect();

    let patches: Vec<_> = patch_blocks.iter().map(|it| patches::patches(it, &names)).collect();

    let caption: Vec<_> = caption_blocks.iter().map(|it| asking::caption(it, &names, &around)).collect();
    let captions: Vec<String> = caption.iter().map(|it| it.name.clone()).collect();
    let judge: Vec<_> = judge_blocks.iter().map(|it| asking::judge(it, &names, &captions, &around)).collect();

    let finetune = finetunes(&finetune_blocks, &around);
    for (it, block) in images.iter_mut().zip(&image_blocks) {
        it.held_out_of = held_out_of(block, &finetune);
    }
    let generate: Vec<_> =
        generate_blocks.iter().map(|it| making::generate(it, &captions, &finetune, &around)).collect();
    let reconstruct: Vec<_> =
        reconstruct_blocks.iter().map(|it| making::reconstruct(it, &names, &finetune, &around)).collect();

    let rehearse: Vec<_> = rehearse_blocks.iter().map(|it| rehearse::rehearse(it, &around)).collect();

    let is_absent = |key: &str| block.get(key).is_none() && !block.has_misspelt(key);
    if rehearse.is_empty() && is_absent("images") && is_absent("generate") && is_absent("finetune") {
        let help = "add `[[images]]` with a `name` and the `path` of a folder, or `[[generate]]`".to_owned();
        faults.at(&(end..end), "the sweep is empty: it has neither [[images]] nor [[generate]]", help);
    }
    let evaluate = match block.get("evaluate").map(|it| (it.get_ref(), it.span())) {
        Some((DeValue::Table(table), span)) => {
            let block = Block { title: "[evaluate]", table, span, faults };
            evaluation(&block, &names, &around, !(damage.is_empty() && reconstruct.is_empty()))
        }
        Some((DeValue::Array(_), span)) => {
            faults.at(&span, "a sweep has one [evaluate], not a list of them", "write `[evaluate]`".to_owned());
            None
        }
        Some((_, span)) => {
            faults.at(&span, "`evaluate` is a block", "write `[evaluate]` and its keys below it".to_owned());
            None
        }
        None if block.has_misspelt("evaluate") => None,
        // Rehearsals and training make nothing to evaluate.
        None if !(rehearse.is_empty() && finetune.is_empty()) && images.is_empty() && generate.is_empty() => None,
        // A sweep may only ask machines.
        None if !(judge.is_empty() && caption.is_empty()) => None,
        None => {
            let help = "add `[evaluate]` with `metrics = [\"NAME\"]`".to_owned();
            faults.at(&(end..end), "the sweep is empty: it has no [evaluate]", help);
            None
        }
    };
    let evaluate = evaluate.unwrap_or(Evaluation {
        metrics: Vec::new(),
        reference: None,
        max_pixels: None,
        needs: Arc::default(),
        networks: Vec::new(),
        network_needs: Arc::default(),
    });
    let name = name.unwrap_or_default().value;
    Sweep {
        name,
        on_failure,
        priority,
        max_running,
        limits,
        images,
        damage,
        patches,
        finetune,
        generate,
        reconstruct,
        judge,
        caption,
        rehearse,
        evaluate,
    }
}

/// Each block may start from the models of those above it.
fn finetunes(blocks: &[Block], around: &Wants) -> Vec<Finetune> {
    let name = |it: &Block| it.get("name").and_then(|it| it.get_ref().as_str().map(str::to_owned));
    let names: Vec<Option<String>> = blocks.iter().map(name).collect();
    let mut read: Vec<Finetune> = Vec::with_capacity(blocks.len());
    for (idx, block) in blocks.iter().enumerate() {
        let below: Vec<&str> = names[idx..].iter().flatten().map(String::as_str).collect();
        let it = finetune::finetune(block, &read, &below, around);
        read.push(it);
    }
    read
}

/// The name becomes a part of ids, which stand in file names and command lines.
fn check_name(block: &Block, name: &Placed<String>) {
    let plain = |it: char| it.is_ascii_alphanumeric() || "-_.".contains(it);
    let starts_well = name.value.starts_with(|it: char| it.is_ascii_alphanumeric());
    if name.value.len() > 64 || !starts_well || !name.value.chars().all(plain) {
        let slug: String = name.value.chars().map(|it| if plain(it) { it } else { '-' }).take(64).collect();
        let slug = slug.trim_start_matches(|it: char| !it.is_ascii_alphanumeric());
        let help = (!slug.is_empty()).then(|| format!("such as `name = \"{slug}\"`"));
        let message = "a sweep's name has at most 64 letters a to z, digits, `-`, `_` and `.`, a letter or digit first";
        block.faults.at(&name.span, message, help);
    }
}

/// The blocks that the file writes as `title`.
fn blocks<'a>(top: &Block<'a>, key: &str, title: &'static str) -> Vec<Block<'a>> {
    let Some(value) = top.get(key) else { return Vec::new() };
    let DeValue::Array(list) = value.get_ref() else {
        let message = format!("`{key}` is a list of blocks");
        top.faults.at(&value.span(), message, format!("write `{title}`, in double brackets"));
        return Vec::new();
    };
    if list.is_empty() {
        top.faults.at(&value.span(), format!("the list `{key}` is empty"), format!("write `{title}` blocks"));
    }
    let mut blocks = Vec::with_capacity(list.len());
    for item in list.iter() {
        match item.get_ref() {
            DeValue::Table(table) => blocks.push(Block { title, table, span: item.span(), faults: top.faults }),
            _ => top.wrong_type(key, item, "a list of blocks", format!("write `{title}` blocks")),
        }
    }
    blocks
}

fn images(block: &Block) -> Images {
    check_keys(block, IMAGES);
    Images {
        name: block.required_text("name", "\"NAME\"").unwrap_or_default().value,
        path: block.required_text("path", "\"FOLDER\"").unwrap_or_default().value,
        captions: block.text("captions").map(|it| it.value),
        model: block.text("model").map(|it| it.value),
        crop: block.integer("crop", 1..=u32::MAX.into()).map(|it| it as u32),
        held_out_of: None,
    }
}

/// Which block's held-out pictures an `[[images]]` block is narrowed to.
fn held_out_of(block: &Block, finetune: &[Finetune]) -> Option<usize> {
    let name = block.text("held_out_of")?;
    let found = finetune.iter().position(|it| it.name == name.value);
    let names = finetune.iter().map(|it| it.name.as_str());
    match found {
        None => {
            let help = meant(&name.value, names.clone()).or_else(|| Some(format!("there is {}", listed(names))));
            let help = help.filter(|_| !finetune.is_empty());
            block.faults.at(&name.span, format!("no [[finetune]] block is called `{}`", name.value), help);
        }
        Some(idx) if finetune[idx].points.iter().all(|it| it.held_out == 0) => {
            let help = format!("write `held_out = 8` there, say: `{}` holds nothing out", name.value);
            block.faults.at(&name.span, "nothing is held out", help);
        }
        Some(_) => {}
    }
    found
}

fn evaluation(block: &Block, names: &Names, around: &Wants, has_originals: bool) -> Option<Evaluation> {
    check_keys(block, EVALUATE);
    let reference = block.text("reference").and_then(|it| names.images(&it, "a reference is", block.faults));
    let max_pixels = block.integer("max_pixels", 1..=i64::MAX.into()).map(|it| it as u64);
    let Some(value) = block.get("metrics") else {
        block.missing("metrics", "[\"NAME\"]");
        return None;
    };
    let DeValue::Array(list) = value.get_ref() else {
        let help = match value.get_ref() {
            DeValue::String(text) => Some(format!("put it in brackets: [\"{text}\"]")),
            _ => None,
        };
        block.wrong_type("metrics", value, "a list of names", help);
        return None;
    };
    if list.is_empty() {
        block.faults.at(&value.span(), "the sweep is empty: it asks for no metric", all_metrics());
    }
    let mut rows: BTreeMap<(&str, &str), &'static Metric> = BTreeMap::new();
    for item in list.iter() {
        let DeValue::String(text) = item.get_ref() else {
            block.wrong_type("metrics", item, "a list of names", None);
            continue;
        };
        match metrics::parse(text) {
            Ok(found) => {
                let compares = found.iter().all(|it| it.needs == Needs::Reference);
                if compares && !has_originals && block.get("reference").is_none() {
                    let message = format!("`{text}` compares with a reference, and there is none");
                    let help = "add `reference = \"NAME\"`, the name of an [[images]] block".to_owned();
                    block.faults.at(&item.span(), message, help);
                }
                rows.extend(found.into_iter().map(|it| ((it.name, it.variant), it)));
            }
            Err(unknown) => {
                let help = unknown.suggestion.map(|it| format!("did you mean `{it}`?")).unwrap_or_else(all_metrics);
                block.faults.at(&item.span(), format!("no metric is called `{}`", unknown.name), help);
            }
        }
    }
    let metrics: Vec<&'static Metric> = rows.into_values().collect();
    let networks = networks::networks(block, &metrics, &|it| format!("add \"{it}\" to `metrics`, or take it out"));
    let own = resources::wants(block, "[evaluate.resources]", &Wants::default());
    let labels = around.labels_only();
    // A metric that loads a model goes where other models go.
    let outer = if own.cuda == Some(false) { &labels } else { around };
    let network_needs = Arc::new(own.clone().within(outer).needs(false));
    let needs = Arc::new(own.within(&labels).needs(false));
    Some(Evaluation { metrics, reference, max_pixels, needs, networks, network_needs })
}

fn all_metrics() -> String {
    let mut names: Vec<&str> = metrics::TABLE.iter().map(|it| it.name).collect();
    names.dedup();
    format!("metrics are {}", listed(names))
}

/// Takes down every key that is not among `keys`.
fn check_keys(block: &Block, keys: &[&str]) {
    for key in block.table.keys().filter(|it| !keys.contains(&it.get_ref().as_ref())) {
        unknown_key(block, key.get_ref(), keys);
    }
}

/// Takes down that `key` is not among `keys`, and where it belongs or what was meant.
fn unknown_key(block: &Block, key: &str, keys: &[&str]) {
    let is_top = keys == TOP;
    let span = block.key_span(key);
    if is_top && LATER.contains(&key) {
        let help = "this version has [[images]], [[damage]], [[patches]], [[finetune]], [[generate]], [[reconstruct]], [[judge]], [[caption]] and [evaluate]".to_owned();
        block.faults.at(&span, format!("`{key}` is not in this version yet"), help);
        return;
    }
    let homes = [
        ("the top of the file, before the first block", &TOP[..N_TOP]),
        ("[resources]", resources::RESOURCES),
        ("[[images]]", IMAGES),
        ("[[damage]]", damage::KEYS),
        ("[[finetune]]", finetune::KEYS),
        ("[[generate]]", making::GENERATE),
        ("[[reconstruct]]", making::RECONSTRUCT),
        ("[evaluate]", EVALUATE),
        ("[[patches]]", patches::KEYS),
        ("[[judge]]", asking::JUDGE),
        ("[[caption]]", asking::CAPTION),
        ("[[rehearse]]", rehearse::KEYS),
    ];
    let home = homes.iter().find(|it| it.1.contains(&key)).map(|it| format!("`{key}` belongs to {}", it.0));
    let help = home.or_else(|| meant(key, keys.iter().copied()));
    let help = help.unwrap_or_else(|| format!("its keys are {}", listed(keys)));
    block.faults.at(&span, format!("`{key}` is no key of {}", block.title), help);
}

/// A place for what could not be read, of which a fault tells.
const UNRESOLVED: Of = Of::Images(usize::MAX);
