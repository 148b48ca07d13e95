//! What training came to, model by model: how it was trained, where its losses began and ended, its curves.

use super::view::{LossPart, TrainedModel, TrainingCurve};
use crate::job::task::finetune::{Finetune, Objective};
use crate::job::task::training::{Density, Home, Space, Weighting};
use crate::store::findings::{Curve, Findings, Training};

/// A page shows so many points of a curve at most; `report.json` has as many.
const MOST_POINTS: usize = 300;

/// The models that a sweep trains, in its order.
pub(super) fn trainings(findings: &Findings) -> Vec<TrainedModel> {
    findings.trainings.iter().map(model).collect()
}

fn model(it: &Training) -> TrainedModel {
    let curve = |name: &str| it.curves.iter().find(|curve| curve.name == name);
    let n_done = curve("loss").and_then(|it| it.points.last()).map_or(0, |it| it.0);
    let held_out = curve("held_out").map(finite).unwrap_or_default();
    let rate = curve("images_per_s").map(finite).unwrap_or_default();
    let memory = curve("memory_gib").map(finite).unwrap_or_default();
    TrainedModel {
        name: it.name.clone(),
        base: it.base.clone(),
        part: it.task.part(),
        state: it.state,
        n_done,
        n_steps: it.task.steps.into(),
        settings: settings(&it.task),
        n_pictures: it.n_pictures,
        left_out: it.left_out.iter().map(|(content, why)| format!("{}: {why}", content.short())).collect(),
        parts: parts(it),
        held_out: held_out.first().zip(held_out.last()).map(|(first, last)| (first.1, last.1)),
        images_per_s: median(rate.iter().map(|it| it.1).collect()),
        most_gib: memory.iter().map(|it| it.1).reduce(f64::max),
        loss: drawn(curve("loss")),
        looks: drawn(curve("held_out")),
    }
}

fn finite(curve: &Curve) -> Vec<(u64, f64)> {
    curve.points.iter().filter_map(|(step, value)| Some((*step, (*value)?))).collect()
}

/// The curve with at most [`MOST_POINTS`] points, each the mean over its neighbours where there are more.
fn drawn(curve: Option<&Curve>) -> TrainingCurve {
    let points = curve.map(finite).unwrap_or_default();
    let n = points.len().div_ceil(MOST_POINTS).max(1);
    let mean = |of: &[(u64, f64)]| {
        let last = of.last().map_or(0, |it| it.0);
        (last, of.iter().map(|it| it.1).sum::<f64>() / of.len() as f64)
    };
    TrainingCurve { points: points.chunks(n).map(mean).collect(), n_in_one: n }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// The parts of the loss on what is held out, before the first step and after the last.
fn parts(it: &Training) -> Vec<LossPart> {
    let part = |curve: &Curve| {
        let name = curve.name.strip_prefix("held_out/")?;
        let points = finite(curve);
        let (first, last) = points.first().zip(points.last())?;
        Some(LossPart { name: name.to_owned(), first: first.1, last: last.1 })
    };
    let mut parts: Vec<LossPart> = it.curves.iter().filter_map(part).collect();
    // From coarse to fine: LL2, LH2, HL2, HH2, LH1, …
    let place = |name: &str| {
        let level = name.chars().last().and_then(|it| it.to_digit(10)).unwrap_or(0);
        let band = ["LL", "LH", "HL", "HH"].iter().position(|it| name.starts_with(it)).unwrap_or(4);
        (u32::MAX - level, band)
    };
    parts.sort_by_key(|it| place(&it.name));
    parts
}

/// How a model is trained, in words.
fn settings(task: &Finetune) -> Vec<(String, String)> {
    let mut settings = Vec::new();
    let mut add = |name: &str, value: String| settings.push((name.to_owned(), value));
    match &task.objective {
        Objective::Flow { loss, density, weighting } => {
            let space = match loss.space {
                Space::X0 => "in the space of x₀",
                Space::Velocity => "in the space of the velocity",
            };
            let bands: Vec<String> = loss.bands.iter().map(ToString::to_string).collect();
            add(
                "Loss",
                match loss.bands.len() {
                    1 => format!("plain, {space}"),
                    n => format!("{} wavelet level(s), weights {}, {space}", n / 3, bands.join(" ")),
                },
            );
            add(
                "Timesteps",
                match density {
                    Density::LogitNormal { mean, deviation } => format!("logit-normal({mean}, {deviation})"),
                    Density::Mode { scale } => format!("mode {scale}"),
                    Density::Uniform => "uniform".to_owned(),
                },
            );
            let weighting = match weighting {
                Weighting::None => "none",
                Weighting::SigmaSqrt => "σ⁻²",
                Weighting::Cosmap => "cosmap",
            };
            add("Weighting", weighting.to_owned());
        }
        Objective::Reconstruction { divergence, .. } => {
            add("Loss", format!("mean square of what is given back + {divergence} × divergence"));
        }
    }
    add(
        "Trained",
        match task.lora {
            Some(it) => format!("adapters of rank {}, alpha {}", it.rank, it.alpha),
            None => "all weights".to_owned(),
        },
    );
    add("Images a step", format!("{} × {}", task.batch, task.accumulate));
    add("Learning rate", format!("{:e}", task.rate.rate));
    add("Seed", task.seed.to_string());
    add("Precision", task.dtype.word().to_owned());
    if let Some(ema) = task.ema {
        add("Running mean", ema.to_string());
    }
    if task.home == Home::Host {
        add("Optimiser", "in the machine's memory".to_owned());
    }
    settings
}
