//! From a sweep and its files to cells, jobs and edges.

use std::collections::{BTreeSet, HashMap};

use anyhow::ensure;

use super::expand::{Recipe, recipes};
use super::{Cell, Edge, EdgeKind, Job, Plan};
use crate::job::Hash;
use crate::job::task::{Evaluate, MetricId, Picture, Pool, Step, Task};
use crate::metrics::{Metric, Needs};
use crate::sweep::{Inventory, SourceFile, Sweep};

/// Expands a sweep. Looks at nothing but its arguments.
///
/// # Errors
/// An inventory of another sweep, two sources of one name, damage that is made of itself:
/// none of which a parsed sweep and its scanned inventory can be, the second excepted.
pub fn plan(sweep: &Sweep, inventory: &Inventory) -> anyhow::Result<Plan> {
    let (n_blocks, n_scanned) = (sweep.images.len(), inventory.blocks.len());
    ensure!(n_blocks == n_scanned, "the sweep has {n_blocks} [[images]] blocks, its inventory {n_scanned}");
    let recipes = recipes(sweep)?;
    let n_cells = usize::try_from(sweep.n_cells(inventory)).unwrap_or(usize::MAX).min(1 << 24);
    let mut builder = Builder {
        sweep,
        inventory,
        undamaged: HashMap::new(),
        by_sample: HashMap::new(),
        by_picture: HashMap::with_capacity(n_cells),
        cells: Vec::with_capacity(n_cells),
        jobs: Vec::with_capacity(n_cells),
    };
    for (idx, recipe) in recipes.iter().enumerate() {
        builder.add_cells(idx, recipe);
    }
    let mut sources: Vec<_> = recipes.into_iter().map(|it| it.source).collect();
    let Builder { cells, mut jobs, .. } = builder;

    let mut edges = Vec::with_capacity(cells.len());
    let mut sets: HashMap<Hash, usize> = HashMap::new();
    for cells in cells.chunk_by(|a, b| a.source == b.source) {
        let Some(task) = pool(cells, &jobs, &sweep.evaluate.metrics) else { continue };
        let key = task.key();
        let set = *sets.entry(key).or_insert_with(|| {
            jobs.push(Job { key, task, subject: None, reference: None, affinity: None, megapixels: 0.0 });
            jobs.len() - 1
        });
        sources[cells[0].source].set = Some(set);
        edges.extend(cells.iter().filter_map(|it| it.job).map(|parent| Edge {
            parent,
            child: set,
            kind: EdgeKind::After,
        }));
    }
    edges.sort_unstable_by_key(|it| (it.child, it.parent));
    edges.dedup();
    Ok(Plan {
        name: sweep.name.clone(),
        on_failure: sweep.on_failure,
        priority: sweep.priority,
        sources,
        cells,
        jobs,
        edges,
    })
}

struct Builder<'a> {
    sweep: &'a Sweep,
    inventory: &'a Inventory,
    /// For each block and crops: its files' pictures and their keys, which damage is compared with.
    undamaged: HashMap<(usize, Vec<u32>), Vec<(Picture, Hash)>>,
    /// For each block: the index of each sample.
    by_sample: HashMap<usize, HashMap<&'a str, usize>>,
    /// The job of each picture and reference.
    by_picture: HashMap<(Hash, Option<Hash>), usize>,
    cells: Vec<Cell>,
    jobs: Vec<Job>,
}

impl<'a> Builder<'a> {
    fn add_cells(&mut self, source: usize, recipe: &Recipe) {
        let (sweep, inventory) = (self.sweep, self.inventory);
        let wanted = |with_reference: bool| -> Vec<MetricId> {
            let fits = |it: &&&Metric| match it.needs {
                Needs::Pixels => true,
                Needs::File => recipe.steps.is_empty(),
                Needs::Reference => with_reference,
            };
            sweep.evaluate.metrics.iter().filter(fits).map(|it| it.id()).collect()
        };
        let (alone, compared) = (wanted(false), wanted(true));
        // Nothing is compared where no metric compares: the reference stays out of the task and its key.
        let from = if compared.len() == alone.len() {
            None
        } else if recipe.damaged {
            Some((recipe.root, crops(&recipe.steps)))
        } else {
            let block = sweep.evaluate.reference.filter(|&it| it != recipe.root);
            block.map(|it| (it, sweep.images[it].crop.into_iter().collect()))
        };
        if let Some(from) = &from {
            self.prepare(from);
        }
        for (idx, file) in inventory.blocks[recipe.root].iter().enumerate() {
            let picture = Picture { content: file.content, steps: recipe.steps.clone() };
            let key = picture.key();
            let reference = from.as_ref().and_then(|from| {
                let idx =
                    if recipe.damaged { Some(idx) } else { self.by_sample[&from.0].get(file.sample.as_str()).copied() };
                Some(&self.undamaged[from][idx?])
            });
            let reference_key = reference.map(|it| it.1);
            let metrics = if reference.is_some() { &compared } else { &alone };
            let job = (!metrics.is_empty()).then(|| {
                *self.by_picture.entry((key, reference_key)).or_insert_with(|| {
                    let megapixels = megapixels(file, &picture.steps);
                    let task = Task::Evaluate(Evaluate {
                        picture,
                        reference: reference.map(|it| it.0.clone()),
                        metrics: metrics.clone(),
                        max_pixels: sweep.evaluate.max_pixels,
                    });
                    self.jobs.push(Job {
                        key: task.key(),
                        task,
                        subject: Some(key),
                        reference: reference_key,
                        affinity: Some(file.content),
                        megapixels,
                    });
                    self.jobs.len() - 1
                })
            });
            self.cells.push(Cell {
                source,
                sample: file.sample.clone(),
                key,
                job,
                path: file.path.clone(),
                caption: file.caption.clone(),
            });
        }
    }

    /// Hashes the references of a block once for all sources that are compared with them.
    fn prepare(&mut self, from: &(usize, Vec<u32>)) {
        let files = &self.inventory.blocks[from.0];
        self.by_sample
            .entry(from.0)
            .or_insert_with(|| files.iter().enumerate().map(|(idx, it)| (it.sample.as_str(), idx)).collect());
        if !self.undamaged.contains_key(from) {
            let steps: Vec<Step> = from.1.iter().map(|&size| Step::Crop { size }).collect();
            let pictures = files.iter().map(|it| {
                let picture = Picture { content: it.content, steps: steps.clone() };
                let key = picture.key();
                (picture, key)
            });
            self.undamaged.insert(from.clone(), pictures.collect());
        }
    }
}

/// The crops among the steps: they keep a picture and its damaged likeness the same size.
fn crops(steps: &[Step]) -> Vec<u32> {
    let size = |it: &Step| match it {
        Step::Crop { size } => Some(*size),
        _ => None,
    };
    steps.iter().filter_map(size).collect()
}

fn megapixels(file: &SourceFile, steps: &[Step]) -> f32 {
    let (width, height) = file.size.unwrap_or_default();
    let side = crops(steps).into_iter().min().unwrap_or(u32::MAX);
    (f64::from(width.min(side)) * f64::from(height.min(side)) / 1e6) as f32
}

/// The set scores of one source, of those metrics that its pictures are scored by.
fn pool(cells: &[Cell], jobs: &[Job], wanted: &[&'static Metric]) -> Option<Task> {
    let asked: Vec<&Evaluate> = cells
        .iter()
        .filter_map(|it| match &jobs[it.job?].task {
            Task::Evaluate(evaluate) => Some(evaluate),
            Task::Pool(_) => None,
        })
        .collect();
    let pooled = wanted.iter().filter(|it| it.pooled).map(|it| it.id());
    let metrics: Vec<MetricId> = pooled.filter(|it| asked.iter().any(|task| task.metrics.contains(it))).collect();
    if metrics.is_empty() {
        return None;
    }
    let pictures: BTreeSet<Hash> = cells.iter().filter(|it| it.job.is_some()).map(|it| it.key).collect();
    Some(Task::Pool(Pool { metrics, pictures: pictures.into_iter().collect() }))
}
