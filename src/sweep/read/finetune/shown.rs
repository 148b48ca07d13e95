//! What a block learns from and shows on the way: buckets, bounds of curation, samples.

use super::super::super::block::Block;
use super::super::super::finetune::Samples;
use crate::job::task::finetune::Bound;
use crate::metrics;

/// So many steps make a sample unless a block says otherwise.
const SAMPLE_STEPS: u32 = 12;

/// Which aspects pictures are cut to.
pub(super) fn buckets(block: &Block) -> Vec<(u32, u32)> {
    let Some(value) = block.get("buckets") else { return Vec::new() };
    let aspect = |it: &toml::Spanned<toml::de::DeValue<'_>>| {
        let (width, height) = it.get_ref().as_str()?.split_once(':')?;
        let side = |it: &str| it.trim().parse::<u32>().ok().filter(|it| (1..=100).contains(it));
        let (width, height) = (side(width)?, side(height)?);
        // Beyond that a picture is a strip.
        (width <= 4 * height && height <= 4 * width).then_some((width, height))
    };
    let aspects = value.get_ref().as_array().and_then(|it| it.iter().map(aspect).collect::<Option<Vec<_>>>());
    aspects.filter(|it| !it.is_empty()).unwrap_or_else(|| {
        let help = "such as [\"2:3\", \"1:1\", \"3:2\"], width to height, at most 4 to 1".to_owned();
        block.wrong_type("buckets", value, "a list of aspects", help);
        Vec::new()
    })
}

/// Which pictures are learnt from.
pub(super) fn curation(block: &Block) -> Vec<Bound> {
    let rows = [
        ("glcm_score", "min_glcm_score", "max_glcm_score"),
        ("compression_ratio", "min_compression_ratio", "max_compression_ratio"),
        ("aesthetics", "min_aesthetics", "max_aesthetics"),
    ];
    let bound = |(name, low, high): (&str, &str, &str)| {
        let end = |key: &str| block.number(key, "a finite number", f64::is_finite);
        let (min, max) = (end(low), end(high));
        if let (Some(min), Some(max)) = (min, max)
            && min > max
        {
            let help = "give the larger one to the key with `max`".to_owned();
            block.faults.at(&block.key_span(low), format!("no picture's {name} is from {min} to {max}"), help);
        }
        let metric = metrics::TABLE.iter().find(|it| it.name == name).expect("it is in the table").id();
        (min.is_some() || max.is_some()).then_some(Bound { metric, network: None, min, max })
    };
    rows.into_iter().filter_map(bound).collect()
}

/// Which pictures are made on the way.
pub(super) fn samples(block: &Block) -> Option<Samples> {
    let every = block.integer("sample_every", 1..=100_000_000).map(|it| it as u32);
    let prompts = block.get("sample_prompts").map(|value| {
        let list = value.get_ref().as_array().map(|it| it.iter().map(|it| it.get_ref().as_str().map(str::to_owned)));
        let texts = list.and_then(Iterator::collect::<Option<Vec<String>>>).filter(|it| !it.is_empty());
        texts.unwrap_or_else(|| {
            block.wrong_type(
                "sample_prompts",
                value,
                "a list of prompts",
                "such as [\"a fox in the snow\"]".to_owned(),
            );
            Vec::new()
        })
    });
    let steps = block.integer("sample_steps", 1..=1_000).map(|it| it as u32);
    let guidance = block.number("sample_guidance", "a number of at least 1", |it| it >= 1.0);
    let Some(every) = every else {
        let others = ["sample_prompts", "sample_steps", "sample_guidance"];
        for key in others.into_iter().filter(|it| block.get(it).is_some()) {
            let help = "add `sample_every = 1000`, say".to_owned();
            block.faults.at(&block.key_span(key), format!("`{key}` means nothing without `sample_every`"), help);
        }
        return None;
    };
    if prompts.is_none() && block.get("held_out").is_none() {
        let message = "there is no prompt for samples: nothing is held out, whose captions would do";
        block.faults.at(&block.key_span("sample_every"), message, "add `sample_prompts = [\"PROMPT\"]`".to_owned());
    }
    Some(Samples {
        every,
        prompts: prompts.unwrap_or_default(),
        steps: steps.unwrap_or(SAMPLE_STEPS),
        guidance: guidance.unwrap_or(1.0),
    })
}
