//! What a sweep makes with models: from `[[generate]]` and `[[reconstruct]]` blocks to sources, cells and jobs.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Context;

use super::asking::{Captioned, size_after};
use super::build::{self, References, compares, evaluations, megapixels, wanted};
use super::training::Models;
use super::{Cell, Edge, EdgeKind, Job, Making, Plan, Source};
use crate::job::Hash;
use crate::job::needs::Needs;
use crate::job::task::asking::Words;
use crate::job::task::making::{Decode, Denoise, Encode, Part, Precision, Reconstruct, Settings};
use crate::job::task::{Picture, Step, Task};
use crate::sweep::making::{Generate, GeneratePoint, Prompts, Reconstruct as Block, ReconstructPoint};
use crate::sweep::{Inventory, SourceFile, Sweep};

/// A source that a model makes.
pub(super) struct Made {
    pub(super) source: Source,
    /// The block that it is a point of, by its name.
    pub(super) block: String,
    pub(super) cells: Vec<MadeCell>,
}

/// One picture of such a source.
pub(super) struct MadeCell {
    /// Its cell; the caller says which source's it is and which job scores it.
    pub(super) cell: Cell,
    /// Its width and height in pixels, where they are known.
    pub(super) size: Option<(u32, u32)>,
    /// What it ought to show: its prompt.
    pub(super) words: Option<Words>,
    /// The jobs that make it by stages, each of which needs all of the stage before: the last has one job.
    stages: Vec<Vec<Job>>,
    /// The jobs that score it.
    pub(super) evaluations: Vec<Job>,
}

impl MadeCell {
    /// Its picture.
    pub(super) fn picture(&self) -> Picture {
        let last = self.stages.last().and_then(|it| it.last()).expect("every picture is made by a job");
        Picture::of_job(last.key)
    }
}

/// Every source that models make, in the sweep's order.
pub(super) fn sources(
    sweep: &Sweep,
    inventory: &Inventory,
    models: &Models,
    references: &References,
    captions: &[Vec<Captioned>],
) -> anyhow::Result<Vec<Made>> {
    let mut sources = Vec::new();
    for (idx, block) in sweep.generate.iter().enumerate() {
        let prompts: Vec<(&str, Words)> = match block.prompts {
            Prompts::Caption(caption) => {
                let of = captions.get(caption).with_context(|| format!("`{}` has no captions", block.name))?;
                let limit = block.limit.unwrap_or(usize::MAX);
                of.iter().take(limit).map(|it| (it.sample.as_str(), Words::Caption(it.job.key))).collect()
            }
            _ => {
                let read =
                    inventory.prompts.get(idx).with_context(|| format!("no prompts were read for `{}`", block.name))?;
                read.iter().map(|it| (it.sample.as_str(), Words::Text(it.text.clone()))).collect()
            }
        };
        for point in block.points() {
            sources.push(generated(sweep, inventory, block, &point, &prompts, models, references)?);
        }
    }
    for block in &sweep.reconstruct {
        for point in block.points() {
            sources.push(reconstructed(sweep, block, &point, inventory, models)?);
        }
    }
    Ok(sources)
}

/// Places the jobs that make pictures, stage by stage over all sources, so that whoever takes them in their order
/// loads each part of a package once. Returns the job that makes each source's each cell.
pub(super) fn place(made: &[Made], plan: &mut Plan, by_key: &mut HashMap<Hash, usize>) -> Vec<Vec<usize>> {
    let mut parents: Vec<Vec<Vec<usize>>> = made.iter().map(|it| vec![Vec::new(); it.cells.len()]).collect();
    let n_stages = made.iter().flat_map(|it| &it.cells).map(|it| it.stages.len()).max().unwrap_or(0);
    for stage in 0..n_stages {
        for (source, parents) in made.iter().zip(&mut parents) {
            for (cell, parents) in source.cells.iter().zip(parents) {
                let Some(jobs) = cell.stages.get(stage) else { continue };
                let mut placed = Vec::with_capacity(jobs.len());
                for job in jobs {
                    let child = build::place(&mut plan.jobs, by_key, job.clone());
                    plan.edges.extend(parents.iter().map(|&parent| Edge { parent, child, kind: EdgeKind::Needs }));
                    placed.push(child);
                }
                *parents = placed;
            }
        }
    }
    let last = |it: Vec<usize>| it.last().copied().expect("every picture is made by a job");
    parents.into_iter().map(|cells| cells.into_iter().map(last).collect()).collect()
}

fn generated(
    sweep: &Sweep,
    inventory: &Inventory,
    block: &Generate,
    point: &GeneratePoint,
    prompts: &[(&str, Words)],
    models: &Models,
    references: &References,
) -> anyhow::Result<Made> {
    let model = &block.model.values[point.model];
    let package = models.get(model)?;
    let [text, denoiser, vae] = [Part::Text, Part::Denoiser, Part::Vae].map(|it| package.part(model, it));
    let (text, denoiser, vae) = (text?, denoiser?, vae?);
    let (width, height) = block.size.values[point.size];
    let negative = (point.guidance > 1.0).then(|| point.negative.clone());
    let megapixels = (f64::from(width) * f64::from(height) / 1e6) as f32;
    let needs = Arc::new(block.wants.needs(point.dtype == Precision::Bf16));
    let encode = |prompt: &str, caption: Option<Hash>| {
        let (t5_tokens, dtype) = (point.t5_tokens, point.dtype);
        let task = Encode { model: text, prompt: prompt.to_owned(), caption, t5_tokens, dtype };
        job(Task::Encode(task), None, 0.0, &needs)
    };
    let without = negative.as_deref().map(|it| encode(it, None));
    let (alone, compared) = (wanted(sweep, inventory, false, true)?, wanted(sweep, inventory, true, true)?);
    let cells = prompts.iter().map(|(sample, words)| {
        let (prompt, caption) = match words {
            Words::Text(text) => (text.as_str(), None),
            Words::Caption(key) => ("", Some(*key)),
        };
        let with = encode(prompt, caption);
        let denoise = Task::Denoise(Denoise {
            model: denoiser,
            prompt: with.key,
            negative: without.as_ref().map(|it| it.key),
            width,
            height,
            steps: point.steps,
            guidance: point.guidance,
            seed: point.seed,
            dtype: point.dtype,
        });
        let decode = Task::Decode(Box::new(Decode {
            model: vae,
            latent: denoise.key(),
            partition: point.partition,
            format: point.format,
            dtype: point.dtype,
            settings: Settings {
                prompt: prompt.to_owned(),
                caption,
                encoded: with.key,
                negative: negative.clone(),
                width,
                height,
                steps: point.steps,
                guidance: point.guidance,
                seed: point.seed,
                t5_tokens: point.t5_tokens,
                text,
                denoiser,
            },
        }));
        let picture = Picture::of_job(decode.key());
        let subject = Some(picture.key());
        let reference = references.of_generated(sweep, sample);
        let batches = if reference.is_some() { &compared } else { &alone };
        let evaluations = evaluations(sweep, batches, &picture, picture.key(), reference, megapixels);
        let encodes = [with].into_iter().chain(without.clone()).collect();
        MadeCell {
            cell: cell(sample, &picture, None, (!prompt.is_empty()).then_some(prompt)),
            size: Some((width, height)),
            words: Some(words.clone()),
            stages: vec![
                encodes,
                vec![job(denoise, subject, megapixels, &needs)],
                vec![job(decode, subject, megapixels, &needs)],
            ],
            evaluations,
        }
    });
    let making = Making::Generated {
        model: model.clone(),
        width,
        height,
        steps: point.steps,
        guidance: point.guidance,
        negative: negative.clone(),
        seed: point.seed,
        t5_tokens: point.t5_tokens,
        dtype: point.dtype,
        partition: point.partition,
        format: point.format,
    };
    let name = format!("{}{}", block.name, point.label);
    let source = Source { name, model: Some(model.clone()), rung: None, making: Some(making), set: None };
    Ok(Made { source, block: block.name.clone(), cells: cells.collect() })
}

fn reconstructed(
    sweep: &Sweep,
    block: &Block,
    point: &ReconstructPoint,
    inventory: &Inventory,
    models: &Models,
) -> anyhow::Result<Made> {
    let model = &block.model.values[point.model];
    let package = models.get(model)?;
    let vae = package.part(model, Part::Vae)?;
    let images = sweep.images.get(block.of).with_context(|| format!("`{}` is of no [[images]] block", block.name))?;
    let batches = wanted(sweep, inventory, compares(sweep), true)?;
    let needs = Arc::new(block.wants.needs(point.dtype == Precision::Bf16));
    let cells = inventory.blocks[block.of].iter().map(|file| {
        let original = Picture::of_file(file.content, original_steps(file, images.crop, package.factor));
        let key = original.key();
        let megapixels = megapixels(file, &original.steps);
        let task = Task::Reconstruct(Reconstruct {
            model: vae,
            picture: original.clone(),
            latent: point.latent,
            partition: point.partition,
            dtype: point.dtype,
        });
        let picture = Picture::of_job(task.key());
        let subject = Some(picture.key());
        let reference = compares(sweep).then(|| (original.clone(), key));
        MadeCell {
            cell: cell(&file.sample, &picture, Some(file), file.caption.as_deref()),
            size: file.size.map(|it| size_after(it, &original.steps)),
            words: file.caption.clone().map(Words::Text),
            stages: vec![vec![job(task, subject, megapixels, &needs)]],
            evaluations: evaluations(sweep, &batches, &picture, picture.key(), reference.as_ref(), megapixels),
        }
    });
    let making = Making::Reconstructed {
        model: model.clone(),
        of: images.name.clone(),
        latent: point.latent,
        partition: point.partition,
        dtype: point.dtype,
    };
    let name = format!("{}{}", block.name, point.label);
    let source = Source { name, model: None, rung: None, making: Some(making), set: None };
    Ok(Made { source, block: block.name.clone(), cells: cells.collect() })
}

/// The crop of the pictures' block, and what takes a side off that the autoencoder does not divide.
fn original_steps(file: &SourceFile, crop: Option<u32>, factor: u32) -> Vec<Step> {
    let mut steps: Vec<Step> = crop.map(|size| Step::Crop { size }).into_iter().collect();
    let side = |it: u32| it.min(crop.unwrap_or(u32::MAX));
    let fits = file
        .size
        .is_some_and(|(width, height)| side(width).is_multiple_of(factor) && side(height).is_multiple_of(factor));
    if !fits {
        steps.push(Step::Trim { unit: factor });
    }
    steps
}

/// A job that makes something of the picture `subject`.
fn job(task: Task, subject: Option<Hash>, megapixels: f32, needs: &Arc<Needs>) -> Job {
    Job { key: task.key(), affinity: task.model(), task, subject, reference: None, megapixels, needs: needs.clone() }
}

fn cell(sample: &str, picture: &Picture, file: Option<&SourceFile>, caption: Option<&str>) -> Cell {
    Cell {
        source: 0,
        sample: sample.to_owned(),
        key: picture.key(),
        jobs: Vec::new(),
        path: file.map(|it| it.path.clone()),
        caption: caption.map(str::to_owned),
    }
}
