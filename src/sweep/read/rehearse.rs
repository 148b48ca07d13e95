//! Reads `[[rehearse]]` blocks.

use std::sync::Arc;

use super::super::block::Block;
use super::super::rehearse::Rehearse;
use super::super::resources::Wants;
use super::check_keys;
use super::resources::wants;
use crate::job::task::rehearse::{Fault, How};

/// The keys of `[[rehearse]]`.
pub(super) const KEYS: &[&str] = &[
    "name",
    "n",
    "seconds",
    "steps",
    "bytes",
    "scores",
    "checkpoint_every",
    "seed",
    "fault",
    "fault_step",
    "fault_attempts",
    "resources",
];

/// The block, with anything in the place of what is wrong; its faults know that.
pub(super) fn rehearse(block: &Block, around: &Wants) -> Rehearse {
    check_keys(block, KEYS);
    let whole = |key: &str, low: i128, high: i128| block.integer(key, low..=high);
    let how = block.choice("fault", &How::ALL);
    for key in ["fault_step", "fault_attempts"] {
        if block.get(key).is_some() && block.get("fault").is_none() {
            let help = "add `fault = \"kill\"`, say, or take it out".to_owned();
            block.faults.at(&block.key_span(key), format!("`{key}` means nothing without `fault`"), help);
        }
    }
    let step = whole("fault_step", 0, u32::MAX.into()).map_or(0, |it| it as u32);
    let attempts = whole("fault_attempts", 1, 1000).map(|it| it as u32);
    Rehearse {
        name: block.required_text("name", "\"NAME\"").unwrap_or_default().value,
        n: whole("n", 1, 10_000_000).map_or(1, |it| it as u32),
        seconds: block.number("seconds", "a number from 0 to 1000000", |it| (0.0..=1e6).contains(&it)).unwrap_or(1.0),
        steps: whole("steps", 1, 1_000_000).map_or(1, |it| it as u32),
        bytes: whole("bytes", 0, 1 << 40).map_or(0, |it| it as u64),
        scores: whole("scores", 0, 1000).map_or(0, |it| it as u32),
        checkpoint_every: whole("checkpoint_every", 1, u32::MAX.into()).map(|it| it as u32),
        seed: whole("seed", 0, i64::MAX.into()).map_or(0, |it| it as u64),
        needs: Arc::new(wants(block, "[rehearse.resources]", around).needs(false)),
        fault: how.map(|how| Fault { how, step, attempts }),
    }
}
