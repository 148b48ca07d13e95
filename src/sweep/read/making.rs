//! Reads `[[generate]]` and `[[reconstruct]]` blocks.

use toml::de::DeValue;

use super::super::block::{Block, Placed};
use super::super::finetune::Finetune;
use super::super::making::{Generate, Places, Prompts, Reconstruct, latent_word};
use super::super::resources::Wants;
use super::super::{Axis, Expand};
use super::axes::{check, drawn, places, plain};
use super::check_keys;
use super::finetune::expanded;
use super::names::Names;
use super::resources::wants;
use crate::job::task::making::{FileFormat, Latent, Partition, Precision};

/// The keys of `[[generate]]`.
pub(super) const GENERATE: &[&str] = &[
    "name",
    "model",
    "prompts",
    "limit",
    "size",
    "seed",
    "steps",
    "guidance",
    "negative",
    "t5_tokens",
    "dtype",
    "partition",
    "format",
    "expand",
    "resources",
];

/// The keys of `[[reconstruct]]`.
pub(super) const RECONSTRUCT: &[&str] =
    &["name", "of", "model", "latent", "seed", "partition", "dtype", "expand", "resources"];

const DTYPES: &[(&str, Precision)] = &[("bf16", Precision::Bf16), ("f32", Precision::F32)];
const PARTITIONS: &[(&str, Partition)] =
    &[("exact", Partition::Exact), ("legacy", Partition::Legacy), ("off", Partition::Off)];
const FORMATS: &[(&str, FileFormat)] = &[("png", FileFormat::Png), ("jpeg95", FileFormat::Jpeg95)];
const EXPAND: &[(&str, Expand)] = &[("grid", Expand::Grid), ("zip", Expand::Zip)];

/// The block, with anything in the place of what is wrong; its faults know that.
pub(super) fn generate(block: &Block, captions: &[String], trained: &[Finetune], around: &Wants) -> Generate {
    check_keys(block, GENERATE);
    let absent = || block.span.clone();
    let (prompts, subject) = prompts(block, captions);
    let model = models(block, trained);
    if block.get("size").is_none() {
        block.missing("size", "\"2048x2048\"");
    }
    let size = block.size_axis("size").unwrap_or_else(Axis::absent);
    let whole = |key: &str, low: i128, high: i128, default: i128| {
        block.whole_axis(key, low..=high).unwrap_or_else(|| Axis::fixed(Placed { value: default, span: absent() }))
    };
    let seed = whole("seed", 0, i64::MAX.into(), 0);
    let steps = whole("steps", 1, 10_000, 28);
    let t5_tokens = whole("t5_tokens", 0, 512, 256);
    let guidance = block
        .number_axis("guidance", "a finite number of at least 0", |it| it >= 0.0)
        .unwrap_or_else(|| Axis::fixed(Placed { value: 7.0, span: absent() }));
    let negative =
        block.text_axis("negative").unwrap_or_else(|| Axis::fixed(Placed { value: String::new(), span: absent() }));
    for it in negative.values.iter().filter(|it| it.value.contains('\0')) {
        block.faults.at(&it.span, "there is a NUL in the negative prompt", None);
    }
    let dtype = fixed_or(block.choice_axis("dtype", DTYPES));
    let partition = fixed_or(block.choice_axis("partition", PARTITIONS));
    let format = fixed_or(block.choice_axis("format", FORMATS));
    let expand = block.choice("expand", EXPAND).unwrap_or_default();
    check(
        block,
        expand,
        &[
            drawn("model", &model, Clone::clone),
            drawn("size", &size, |it| format!("{it:?}")),
            drawn("seed", &seed, ToString::to_string),
            drawn("steps", &steps, ToString::to_string),
            drawn("guidance", &guidance, |it| it.to_bits().to_string()),
            drawn("negative", &negative, Clone::clone),
            drawn("t5_tokens", &t5_tokens, ToString::to_string),
            drawn("dtype", &dtype, |it| it.word().to_owned()),
            drawn("partition", &partition, |it| it.word().to_owned()),
            drawn("format", &format, |it| it.word().to_owned()),
        ],
    );
    Generate {
        name: block.required_text("name", "\"NAME\"").unwrap_or_default().value,
        prompts,
        limit: block.integer("limit", 1..=i64::MAX.into()).map(|it| it as usize),
        places: Places { subject, model: places(&model), size: places(&size), partition: places(&partition) },
        model: plain(model, |it| it),
        size: plain(size, |it| it),
        seed: plain(seed, |it| it as u64),
        steps: plain(steps, |it| it as u32),
        guidance: plain(guidance, |it| it),
        negative: plain(negative, |it| it),
        t5_tokens: plain(t5_tokens, |it| it as u32),
        dtype: plain(dtype, |it| it),
        partition: plain(partition, |it| it),
        format: plain(format, |it| it),
        expand,
        wants: wants(block, "[generate.resources]", around),
    }
}

/// The block, with anything in the place of what is wrong; its faults know that.
pub(super) fn reconstruct(block: &Block, names: &Names, trained: &[Finetune], around: &Wants) -> Reconstruct {
    check_keys(block, RECONSTRUCT);
    let of = block.required_text("of", "\"NAME\"");
    let subject = of.as_ref().map_or_else(|| block.span.clone(), |it| it.span.clone());
    let of = of.and_then(|it| names.images(&it, "a [[reconstruct]] block is `of`", block.faults));
    let model = models(block, trained);
    let latent = fixed_or_value(block.choice_axis("latent", &[("mean", false), ("sample", true)]), false);
    let partition = fixed_or(block.choice_axis("partition", PARTITIONS));
    let dtype = fixed_or(block.choice_axis("dtype", DTYPES));
    let seeds = block.whole_axis("seed", 0..=i64::MAX.into());
    let draws = latent.values.iter().any(|it| it.value);
    if block.get("seed").is_some() && !draws {
        let help = "the mean of a latent is no draw: add `latent = \"sample\"`, or take `seed` out".to_owned();
        block.faults.at(&block.key_span("seed"), "`seed` means nothing here", help);
    }
    // The seed belongs to the draw: they are one axis, `mean` once and `sample` once a seed.
    let seeds: Vec<u64> = seeds.map_or_else(|| vec![0], |it| it.values.iter().map(|it| it.value as u64).collect());
    let varies = latent.varies || seeds.len() > 1;
    let latent = Axis {
        values: latent
            .values
            .iter()
            .flat_map(|it| {
                let of = |latent| Placed { value: latent, span: it.span.clone() };
                let draws: Vec<Placed<Latent>> = match it.value {
                    false => vec![of(Latent::Mean)],
                    true => seeds.iter().map(|seed| of(Latent::Sample { seed: *seed })).collect(),
                };
                draws
            })
            .collect(),
        varies,
    };
    let expand = block.choice("expand", EXPAND).unwrap_or_default();
    check(
        block,
        expand,
        &[
            drawn("model", &model, Clone::clone),
            drawn("latent", &latent, |it| latent_word(*it)),
            drawn("partition", &partition, |it| it.word().to_owned()),
            drawn("dtype", &dtype, |it| it.word().to_owned()),
        ],
    );
    Reconstruct {
        name: block.required_text("name", "\"NAME\"").unwrap_or_default().value,
        of: of.unwrap_or(usize::MAX),
        places: Places { subject, model: places(&model), size: Vec::new(), partition: places(&partition) },
        model: plain(model, |it| it),
        latent: plain(latent, |it| it),
        partition: plain(partition, |it| it),
        dtype: plain(dtype, |it| it),
        expand,
        wants: wants(block, "[reconstruct.resources]", around),
    }
}

/// The models that a block names: packages, and models that the sweep trains. The name of a `[[finetune]]` block stands
/// for all its points.
pub(super) fn models(block: &Block, trained: &[Finetune]) -> Axis<Placed<String>> {
    if block.get("model").is_none() {
        block.missing("model", "\"PACKAGE\"");
    }
    let model = block.text_axis("model").unwrap_or_else(Axis::absent);
    for it in model.values.iter().filter(|it| it.value.trim().is_empty()) {
        block.faults.at(&it.span, "`model` is empty", "name a folder, or a package on the hub".to_owned());
    }
    expanded(model, trained, block)
}

/// Where the prompts come from, and their place: a [[caption]] block of that name goes before a file.
fn prompts(block: &Block, captions: &[String]) -> (Prompts, std::ops::Range<usize>) {
    let Some(value) = block.get("prompts") else {
        block.missing("prompts", "\"prompts.jsonl\"");
        return (Prompts::Inline(Vec::new()), block.span.clone());
    };
    let DeValue::Array(list) = value.get_ref() else {
        let text = block.text("prompts").unwrap_or_default().value;
        let caption = captions.iter().position(|it| *it == text);
        return (caption.map_or(Prompts::File(text), Prompts::Caption), value.span());
    };
    if list.is_empty() {
        block.faults.at(&value.span(), "the list `prompts` is empty", "give it a prompt".to_owned());
    }
    let mut texts = Vec::with_capacity(list.len());
    for item in list.iter() {
        match item.get_ref() {
            DeValue::String(text) if text.trim().is_empty() => {
                block.faults.at(&item.span(), "a prompt is empty", None);
            }
            DeValue::String(text) if text.contains('\0') => {
                block.faults.at(&item.span(), "there is a NUL in the prompt", None);
            }
            DeValue::String(text) => texts.push(text.to_string()),
            _ => block.wrong_type("prompts", item, "a file, or a list of strings", None),
        }
    }
    (Prompts::Inline(texts), value.span())
}

fn fixed_or<T: Default>(axis: Option<Axis<Placed<T>>>) -> Axis<Placed<T>> {
    fixed_or_value(axis, T::default())
}

fn fixed_or_value<T>(axis: Option<Axis<Placed<T>>>, value: T) -> Axis<Placed<T>> {
    axis.unwrap_or_else(|| Axis::fixed(Placed { value, span: 0..0 }))
}
