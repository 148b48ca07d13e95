//! What training came to, model by model: how it was trained, where its losses began and ended, its curves.

mod compared;
mod sampled;

use super::view::{LossPart, Report, Strip, TrainedModel, TrainingCurve, Tuning};
use crate::job::task::finetune::{Finetune, Objective, Text};
use crate::job::task::making::MEMORY_GIB;
use crate::job::task::training::{Density, Home, Keep, Space, Weighting};
use crate::stats::describe::quantile;
use crate::store::findings::{Curve, Findings, Frame, Training};

/// A page shows so many points of a curve at most; `report.json` has as many.
const MOST_POINTS: usize = 300;
/// A strip has so many pictures at most.
const MOST_FRAMES: usize = 8;

/// The models that a sweep trains, in its order.
pub(super) fn trainings(findings: &Findings) -> Vec<TrainedModel> {
    findings.trainings.iter().map(model).collect()
}

/// What training came to, over seeds and held-out pictures; `report` has the sources and images already.
pub(super) fn tuning(findings: &Findings, report: &Report) -> Tuning {
    let trainings = &findings.trainings;
    let differences = compared::differences(trainings);
    let sentences = differences.iter().map(|it| compared::sentence(it, differences.len())).collect();
    let samples = sampled::beside(trainings, &report.sources, &report.images, &report.metrics);
    Tuning { differences, sentences, samples, strips: trainings.iter().flat_map(strips).collect() }
}

/// What a model has made on the way, prompt by prompt: of many steps some, spread evenly.
fn strips(it: &Training) -> Vec<Strip> {
    let texts = it.task.samples.iter().flat_map(|it| &it.texts).enumerate();
    let strip = |(idx, text): (usize, &Text)| {
        let all: Vec<&Frame> = it.frames.iter().filter(|it| it.idx == idx).collect();
        let n = all.len().min(MOST_FRAMES);
        let place = |at: usize| if n > 1 { at * (all.len() - 1) / (n - 1) } else { 0 };
        let frames: Vec<_> = (0..n).map(|at| all[place(at)]).map(|it| (it.step, it.path.clone())).collect();
        (n > 0).then(|| Strip { model: it.name.clone(), prompt: text.prompt.clone(), frames })
    };
    texts.filter_map(strip).collect()
}

fn model(it: &Training) -> TrainedModel {
    let curve = |name: &str| it.curves.iter().find(|curve| curve.name == name);
    let n_done = curve("loss").and_then(|it| it.points.last()).map_or(0, |it| it.0);
    let held_out = curve("held_out").map(finite).unwrap_or_default();
    let out = comes_out(&it.task, &held_out);
    let rate = curve("images_per_s").map(finite).unwrap_or_default();
    let memory = curve(MEMORY_GIB).map(finite).unwrap_or_default();
    TrainedModel {
        name: it.name.clone(),
        base: it.base.clone(),
        part: it.task.part(),
        state: it.state,
        n_done,
        n_steps: it.task.steps.into(),
        settings: settings(&it.task, out),
        n_pictures: it.n_pictures,
        left_out: it.left_out.iter().map(|(content, why)| format!("{}: {why}", content.short())).collect(),
        parts: parts(it, out),
        held_out: held_out.first().zip(at(&held_out, out)).map(|(first, last)| (first.1, last)),
        images_per_s: quantile(&rate.iter().map(|it| it.1).collect::<Vec<_>>(), 0.5).ok(),
        most_gib: memory.iter().map(|it| it.1).reduce(f64::max),
        loss: drawn(curve("loss")),
        looks: drawn(curve("held_out")),
    }
}

/// The step whose weights come out, of the looks so far; none before the first look.
fn comes_out(task: &Finetune, looks: &[(u64, f64)]) -> Option<u64> {
    match task.rhythm.keep {
        Keep::Last => looks.last().map(|it| it.0),
        Keep::Best => looks.iter().filter(|it| it.0 > 0).min_by(|a, b| a.1.total_cmp(&b.1)).map(|it| it.0),
    }
}

/// The value of a curve after this step, or its last one.
fn at(points: &[(u64, f64)], step: Option<u64>) -> Option<f64> {
    let found = points.iter().find(|it| Some(it.0) == step).or(points.last());
    found.map(|it| it.1)
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

/// The parts of the loss on what is held out, before the first step and after the one whose weights come out.
fn parts(it: &Training, out: Option<u64>) -> Vec<LossPart> {
    let part = |curve: &Curve| {
        let name = curve.name.strip_prefix("held_out/")?;
        let points = finite(curve);
        let (first, last) = points.first().zip(at(&points, out))?;
        Some(LossPart { name: name.to_owned(), first: first.1, last })
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
fn settings(task: &Finetune, out: Option<u64>) -> Vec<(String, String)> {
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
    if let (Keep::Best, Some(step)) = (task.rhythm.keep, out) {
        add("Comes out", format!("the best of the looks, after step {step}"));
    }
    if let Some(ema) = task.ema {
        add("Running mean", format!("{ema}; it is what is looked at and what comes out"));
    }
    if task.home == Home::Host {
        add("Optimiser", "in the machine's memory".to_owned());
    }
    settings
}
