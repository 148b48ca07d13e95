//! From a sweep and its files to cells, jobs and edges.

use std::collections::{BTreeSet, HashMap, HashSet};

use anyhow::{Context, bail, ensure};
use rayon::prelude::*;

use super::expand::{Recipe, recipes};
use super::{Cell, Edge, EdgeKind, Job, Plan, asking, making, patches, rehearse, training};
use crate::job::Hash;
use crate::job::task::{Evaluate, MetricId, Picture, Pool, Step, Task};
use crate::metrics::{self, Metric, Needs};
use crate::sweep::{Inventory, SourceFile, Sweep, networks};

/// Expands a sweep. Looks at nothing but its arguments.
///
/// # Errors
/// Two sources of one name; and what a parsed sweep and its scanned inventory cannot be: an
/// inventory of another sweep, damage that is made of itself.
pub fn plan(sweep: &Sweep, inventory: &Inventory) -> anyhow::Result<Plan> {
    let (n_blocks, n_scanned) = (sweep.images.len(), inventory.blocks.len());
    ensure!(n_blocks == n_scanned, "the sweep has {n_blocks} [[images]] blocks, its inventory {n_scanned}");
    let recipes = recipes(sweep)?;
    let references = References::new(sweep, inventory, &recipes);
    // Hashing is most of the work, and no source needs another's.
    let scored: Vec<Vec<(Cell, Vec<Job>)>> = recipes
        .par_iter()
        .enumerate()
        .map(|(source, recipe)| cells(source, recipe, sweep, inventory, &references))
        .collect::<anyhow::Result<_>>()?;
    let n_recipes = recipes.len();
    let captions = asking::captions(sweep, inventory)?;
    let n_cells = scored.iter().map(Vec::len).sum::<usize>();
    let mut plan = Plan {
        name: sweep.name.clone(),
        on_failure: sweep.on_failure,
        priority: sweep.priority,
        max_running: sweep.max_running,
        limits: sweep.limits.clone(),
        sources: recipes.iter().map(|it| it.source.clone()).collect(),
        cells: Vec::with_capacity(n_cells),
        jobs: Vec::with_capacity(n_cells),
        edges: Vec::with_capacity(n_cells),
        trainings: Vec::new(),
        asking: Vec::new(),
    };
    let mut by_key: HashMap<Hash, usize> = HashMap::with_capacity(n_cells);
    let models = training::place(sweep, inventory, &mut plan, &mut by_key)?;
    let made = making::sources(sweep, inventory, &models, &references, &captions)?;
    plan.cells.reserve(made.iter().map(|it| it.cells.len()).sum::<usize>());
    let patched = patches::sources(sweep, inventory, &recipes, &made)?;
    // Judges look at every picture once more.
    let looks = (!sweep.judge.is_empty()).then(|| asking::Looks::new(sweep, inventory, &recipes, &made));
    asking::place_captions(sweep, captions, &mut plan, &mut by_key);
    let makers = making::place(&made, &mut plan, &mut by_key);
    asking::join_prompts(&mut plan, &by_key);
    for (mut cell, jobs) in scored.into_iter().flatten() {
        cell.jobs = jobs.into_iter().map(|job| place(&mut plan.jobs, &mut by_key, job)).collect();
        plan.cells.push(cell);
    }
    for (source_idx, source) in made.into_iter().enumerate() {
        plan.sources.push(source.source);
        for (cell_idx, cell) in source.cells.into_iter().enumerate() {
            let jobs =
                cell.evaluations.into_iter().map(|job| place(&mut plan.jobs, &mut by_key, job)).collect::<Vec<_>>();
            let parent = makers[source_idx][cell_idx];
            plan.edges.extend(jobs.iter().map(|&child| Edge { parent, child, kind: EdgeKind::Needs }));
            plan.cells.push(Cell { source: n_recipes + source_idx, jobs, ..cell.cell });
        }
    }
    for source in patched {
        let place_of_source = plan.sources.len();
        plan.sources.push(source.source);
        for it in source.cells {
            let jobs =
                it.evaluations.into_iter().map(|job| place(&mut plan.jobs, &mut by_key, job)).collect::<Vec<_>>();
            if let Some((source, cell)) = it.made {
                let parent = makers[source][cell];
                plan.edges.extend(jobs.iter().map(|&child| Edge { parent, child, kind: EdgeKind::Needs }));
            }
            plan.cells.push(Cell { source: place_of_source, jobs, ..it.cell });
        }
    }
    rehearse::add(sweep, &mut plan, &mut by_key);
    training::tie(&mut plan, &by_key);
    let mut seen = HashSet::with_capacity(plan.sources.len());
    if let Some(twice) = plan.sources.iter().find(|it| !seen.insert(it.name.as_str())) {
        bail!("two sources are called `{}`: give a block another name", twice.name);
    }
    for cells in plan.cells.chunk_by(|a, b| a.source == b.source) {
        let Some(task) = pool(cells, &plan.jobs, &sweep.evaluate.metrics) else { continue };
        let job = Job {
            key: task.key(),
            task,
            subject: None,
            reference: None,
            affinity: None,
            megapixels: 0.0,
            needs: sweep.evaluate.needs.clone(),
        };
        let child = place(&mut plan.jobs, &mut by_key, job);
        plan.sources[cells[0].source].set = Some(child);
        let parents = cells.iter().filter_map(|it| alone(it, &plan.jobs).map(|it| it.0)).collect::<Vec<_>>();
        plan.edges.extend(parents.into_iter().map(|parent| Edge { parent, child, kind: EdgeKind::After }));
    }
    if let Some(looks) = looks {
        asking::judge(sweep, &looks, &makers, &mut plan, &mut by_key)?;
    }
    plan.edges.sort_unstable_by_key(|it| (it.child, it.parent));
    plan.edges.dedup();
    Ok(plan)
}

/// The index of the job: a new one, or that of equal work.
pub(super) fn place(jobs: &mut Vec<Job>, by_key: &mut HashMap<Hash, usize>, job: Job) -> usize {
    *by_key.entry(job.key).or_insert_with(|| {
        jobs.push(job);
        jobs.len() - 1
    })
}

/// A block, as index into [`Sweep::images`], and the sizes of the crops that its pictures went through.
type Undamaged = (usize, Vec<u32>);

/// Undamaged pictures with their keys, each hashed once for all that are compared with them.
pub(super) struct References<'a> {
    /// The picture of each file.
    pictures: HashMap<Undamaged, Vec<(Picture, Hash)>>,
    /// The index of each sample of the block that undamaged sources are compared with.
    by_sample: HashMap<&'a str, usize>,
}

impl<'a> References<'a> {
    fn new(sweep: &Sweep, inventory: &'a Inventory, recipes: &[Recipe]) -> Self {
        let mut pictures = HashMap::new();
        let generated = (!sweep.generate.is_empty()).then(|| of_generated(sweep)).flatten();
        for from in recipes.iter().filter_map(|it| compared_with(it, sweep)).chain(generated) {
            pictures.entry(from).or_insert_with_key(|(block, crops)| {
                let steps: Vec<Step> = crops.iter().map(|&size| Step::Crop { size }).collect();
                let picture = |it: &SourceFile| Picture::of_file(it.content, steps.clone());
                inventory.blocks[*block].iter().map(picture).map(|it| (it.clone(), it.key())).collect()
            });
        }
        let files = sweep.evaluate.reference.map_or(&[][..], |it| &inventory.blocks[it]);
        Self { pictures, by_sample: files.iter().enumerate().map(|(idx, it)| (it.sample.as_str(), idx)).collect() }
    }

    /// What the generated picture of a sample is compared with, if anything, and its key.
    pub(super) fn of_generated(&self, sweep: &Sweep, sample: &str) -> Option<&(Picture, Hash)> {
        self.pictures.get(&of_generated(sweep)?)?.get(*self.by_sample.get(sample)?)
    }
}

/// The block and the crops of the pictures that generated ones are compared with.
fn of_generated(sweep: &Sweep) -> Option<Undamaged> {
    let block = sweep.evaluate.reference.filter(|_| compares(sweep))?;
    Some((block, sweep.images[block].crop.into_iter().collect()))
}

/// Whether any metric compares. Where none does, references stay out of the tasks and their keys.
pub(super) fn compares(sweep: &Sweep) -> bool {
    sweep.evaluate.metrics.iter().any(|it| it.needs == Needs::Reference)
}

/// The metrics by which one job scores a picture.
pub(super) struct Batch {
    /// What they look through.
    network: Option<Hash>,
    metrics: Vec<MetricId>,
    compares: bool,
}

/// The metrics that fit a picture — with a reference or without, in a file of its own or not —, job by job: those that need
/// no network, then those of each.
///
/// # Errors
/// A network that was not looked up.
pub(super) fn wanted(
    sweep: &Sweep,
    inventory: &Inventory,
    has_reference: bool,
    is_file: bool,
) -> anyhow::Result<Vec<Batch>> {
    let mut batches: Vec<(Option<&str>, Batch)> = Vec::new();
    let fits = |it: &&&Metric| match it.needs {
        Needs::Pixels => true,
        Needs::File => is_file,
        Needs::Reference => has_reference,
    };
    for metric in sweep.evaluate.metrics.iter().filter(fits) {
        let of = metrics::network(metric).map(|it| it.metric);
        let place = match batches.iter().position(|it| it.0 == of) {
            Some(place) => place,
            None => {
                let package = networks::of(metric, &sweep.evaluate.networks);
                let found =
                    package.map(|it| inventory.networks.get(it).with_context(|| format!("`{it}` was not looked up")));
                let network = found.transpose()?.map(|it| it.hash);
                batches.push((of, Batch { network, metrics: Vec::new(), compares: false }));
                batches.len() - 1
            }
        };
        let batch = &mut batches[place].1;
        batch.metrics.push(metric.id());
        batch.compares |= metric.needs == Needs::Reference;
    }
    batches.sort_by_key(|it| it.0);
    Ok(batches.into_iter().map(|it| it.1).collect())
}

/// The jobs that score a picture, whose key is `key`.
pub(super) fn evaluations(
    sweep: &Sweep,
    batches: &[Batch],
    picture: &Picture,
    key: Hash,
    reference: Option<&(Picture, Hash)>,
    megapixels: f32,
) -> Vec<Job> {
    let job = |batch: &Batch| {
        let reference = reference.filter(|_| batch.compares);
        let task = Task::Evaluate(Evaluate {
            picture: picture.clone(),
            reference: reference.map(|it| it.0.clone()),
            metrics: batch.metrics.clone(),
            network: batch.network,
            max_pixels: sweep.evaluate.max_pixels,
        });
        let needs = if batch.network.is_some() { &sweep.evaluate.network_needs } else { &sweep.evaluate.needs };
        Job {
            key: task.key(),
            task,
            subject: Some(key),
            reference: reference.map(|it| it.1),
            // A slot has one network in memory, and one picture.
            affinity: batch.network.or(Some(picture.content)),
            megapixels,
            needs: needs.clone(),
        }
    };
    batches.iter().map(job).collect()
}

/// The block and the crops of the pictures that a source's are compared with: damage with what it
/// was done to, other sources with the sweep's reference, which is compared with nothing.
fn compared_with(recipe: &Recipe, sweep: &Sweep) -> Option<Undamaged> {
    if !compares(sweep) {
        None
    } else if recipe.damaged {
        Some((recipe.root, crops(&recipe.steps)))
    } else {
        let block = sweep.evaluate.reference.filter(|&it| it != recipe.root)?;
        Some((block, sweep.images[block].crop.into_iter().collect()))
    }
}

/// The cells of one source, each with the job that scores it.
fn cells(
    source: usize,
    recipe: &Recipe,
    sweep: &Sweep,
    inventory: &Inventory,
    references: &References,
) -> anyhow::Result<Vec<(Cell, Vec<Job>)>> {
    let files = &inventory.blocks[recipe.root];
    let is_file = recipe.steps.is_empty();
    let (alone, compared) = (wanted(sweep, inventory, false, is_file)?, wanted(sweep, inventory, true, is_file)?);
    let from = compared_with(recipe, sweep).map(|it| &references.pictures[&it]);
    let cell = |(idx, file): (usize, &SourceFile)| {
        let picture = Picture::of_file(file.content, recipe.steps.clone());
        let key = picture.key();
        let idx = if recipe.damaged { Some(idx) } else { references.by_sample.get(file.sample.as_str()).copied() };
        let reference = from.and_then(|from| Some(&from[idx?]));
        let batches = if reference.is_some() { &compared } else { &alone };
        let jobs = evaluations(sweep, batches, &picture, key, reference, megapixels(file, &recipe.steps));
        let (sample, path, caption) = (file.sample.clone(), Some(file.path.clone()), file.caption.clone());
        (Cell { source, sample, key, jobs: Vec::new(), path, caption }, jobs)
    };
    Ok(files.iter().enumerate().map(cell).collect())
}

/// The crops among the steps: they keep a picture and its damaged likeness the same size.
fn crops(steps: &[Step]) -> Vec<u32> {
    let size = |it: &Step| match it {
        Step::Crop { size } => Some(*size),
        _ => None,
    };
    steps.iter().filter_map(size).collect()
}

pub(super) fn megapixels(file: &SourceFile, steps: &[Step]) -> f32 {
    let (width, height) = file.size.unwrap_or_default();
    let side = crops(steps).into_iter().min().unwrap_or(u32::MAX);
    (f64::from(width.min(side)) * f64::from(height.min(side)) / 1e6) as f32
}

/// The job that scores a cell by metrics that need no network.
fn alone<'a>(cell: &Cell, jobs: &'a [Job]) -> Option<(usize, &'a Evaluate)> {
    cell.jobs.iter().find_map(|&it| match &jobs[it].task {
        Task::Evaluate(task) if task.network.is_none() => Some((it, task)),
        _ => None,
    })
}

/// The set scores of one source, of those metrics that its pictures are scored by.
fn pool(cells: &[Cell], jobs: &[Job], wanted: &[&'static Metric]) -> Option<Task> {
    let asked: Vec<&Evaluate> = cells.iter().filter_map(|it| alone(it, jobs).map(|it| it.1)).collect();
    let pooled = wanted.iter().filter(|it| it.pooled).map(|it| it.id());
    let metrics: Vec<MetricId> = pooled.filter(|it| asked.iter().any(|task| task.metrics.contains(it))).collect();
    if metrics.is_empty() {
        return None;
    }
    let pictures: BTreeSet<Hash> = cells.iter().filter(|it| alone(it, jobs).is_some()).map(|it| it.key).collect();
    Some(Task::Pool(Pool { metrics, pictures: pictures.into_iter().collect() }))
}
