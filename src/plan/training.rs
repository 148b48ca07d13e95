//! What a sweep trains: from `[[finetune]]` blocks to jobs that encode captions, prepare pictures and train.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use anyhow::Context;

use super::build;
use super::{Edge, EdgeKind, Job, Plan, Training};
use crate::job::Hash;
use crate::job::needs::Needs;
use crate::job::task::Task;
use crate::job::task::finetune::{Bound, Drawn, Finetune, Prepare, Samples, Shown, Text};
use crate::job::task::making::{Encode, Part, Precision};
use crate::metrics;
use crate::sweep::finetune::Point;
use crate::sweep::inventory::{Data, DataFile};
use crate::sweep::networks::{self, Named};
use crate::sweep::{Inventory, Sweep};
use crate::train::data::bucket;

/// So many pictures are prepared by one job.
const SHARD: usize = 64;
/// So many views of a picture that is held out are looked at, at most.
const MOST_HELD_VIEWS: u32 = 4;

/// So many captions of what is held out are samples' prompts, where a sweep names none.
const MOST_SAMPLED: usize = 4;

/// A model that other blocks can use: a package, or one that the sweep trains.
#[derive(Clone, Debug)]
pub(super) struct Model {
    /// Each part by the hash of its files, or by the key of the job that trains it.
    parts: BTreeMap<Part, Hash>,
    /// How many pixels of a picture one of a latent stands for, along each axis.
    pub(super) factor: u32,
    /// Sides that the transformer takes are multiples of this.
    unit: u32,
}

/// The models by the names that the sweep has for them.
pub(super) struct Models(HashMap<String, Model>);

impl Models {
    /// The model of this name.
    pub(super) fn get(&self, name: &str) -> anyhow::Result<&Model> {
        self.0.get(name).with_context(|| format!("the package `{name}` was not looked up"))
    }
}

impl Model {
    /// One of its parts; `name` is what the sweep calls the model.
    pub(super) fn part(&self, name: &str, part: Part) -> anyhow::Result<Hash> {
        self.parts.get(&part).copied().with_context(|| format!("the {} of `{name}` was not hashed", part.word()))
    }
}

/// Places the jobs of all blocks, and says which models the sweep has then.
///
/// # Errors
/// An inventory of another sweep.
pub(super) fn place(
    sweep: &Sweep,
    inventory: &Inventory,
    plan: &mut Plan,
    by_key: &mut HashMap<Hash, usize>,
) -> anyhow::Result<Models> {
    let known = inventory.packages.iter();
    let known =
        known.map(|(name, it)| (name.clone(), Model { parts: it.parts.clone(), factor: it.factor, unit: it.unit }));
    let mut models = Models(known.collect());
    for (idx, block) in sweep.finetune.iter().enumerate() {
        let data = inventory.data.get(idx).with_context(|| format!("no pictures were read for `{}`", block.name))?;
        for point in &block.points {
            let base = models.get(&point.model)?.clone();
            let is_bf16 = point.task.dtype == Precision::Bf16;
            let needs = Arc::new(block.wants.needs(is_bf16));
            let work = Work { point, base: &base, networks: &block.networks, inventory, needs, plan, by_key };
            let key = work.place(data)?;
            let mut model = base;
            model.parts.insert(point.part(), key);
            models.0.insert(point.name.clone(), model);
        }
    }
    Ok(models)
}

/// Makes whatever loads a trained part wait for the job that trains it.
pub(super) fn tie(plan: &mut Plan, by_key: &HashMap<Hash, usize>) {
    let trained: HashMap<Hash, usize> =
        plan.trainings.iter().filter_map(|it| Some((it.key, *by_key.get(&it.key)?))).collect();
    if trained.is_empty() {
        return;
    }
    let parent = |job: &Job| job.task.model().and_then(|it| trained.get(&it).copied());
    let edges = plan.jobs.iter().enumerate();
    let edges = edges.filter_map(|(child, job)| Some(Edge { parent: parent(job)?, child, kind: EdgeKind::Needs }));
    plan.edges.extend(edges.collect::<Vec<_>>());
}

/// One point and where its jobs go.
struct Work<'a> {
    point: &'a Point,
    base: &'a Model,
    networks: &'a [Named],
    inventory: &'a Inventory,
    needs: Arc<Needs>,
    plan: &'a mut Plan,
    by_key: &'a mut HashMap<Hash, usize>,
}

impl Work<'_> {
    /// Places the jobs; the key of the one that trains.
    fn place(mut self, data: &Data) -> anyhow::Result<Hash> {
        let point = self.point;
        let (held_out, learnt) = point.split().of(data);
        let mut parents = Vec::new();
        let texts = [self.texts(&learnt, &mut parents)?, self.texts(&held_out, &mut parents)?];
        let shards = [self.shards(&learnt, true, &mut parents)?, self.shards(&held_out, false, &mut parents)?];
        let samples = self.samples(&held_out, &mut parents)?;
        let ([learnt_texts, held_texts], [learnt_shards, held_shards]) = (texts, shards);
        let task = Task::Finetune(Box::new(Finetune {
            model: self.base.part(&point.model, point.part())?,
            data: Shown { shards: learnt_shards, texts: learnt_texts },
            held_out: Shown { shards: held_shards, texts: held_texts },
            samples,
            ..point.task.clone()
        }));
        let key = task.key();
        let child = self.add(task);
        self.plan.edges.extend(parents.into_iter().map(|parent| Edge { parent, child, kind: EdgeKind::Needs }));
        let (name, base) = (point.name.clone(), point.model.clone());
        self.plan.trainings.push(Training { name, part: point.part(), base, key });
        Ok(key)
    }

    /// The jobs that encode the captions: their keys, picture by picture.
    fn texts(&mut self, pictures: &[&DataFile], parents: &mut Vec<usize>) -> anyhow::Result<Vec<Hash>> {
        let (point, base) = (self.point, self.base);
        if point.part() != Part::Denoiser {
            return Ok(Vec::new());
        }
        let model = base.part(&point.model, Part::Text)?;
        Ok(pictures.iter().map(|it| self.text(model, it.caption.clone(), parents)).collect())
    }

    /// The job that encodes a text: its key.
    fn text(&mut self, model: Hash, prompt: String, parents: &mut Vec<usize>) -> Hash {
        let (t5_tokens, dtype) = (self.point.t5_tokens, self.point.task.dtype);
        let task = Task::Encode(Encode { model, prompt, caption: None, t5_tokens, dtype });
        let key = task.key();
        parents.push(self.add(task));
        key
    }

    /// The pictures that are made on the way, and what encodes their texts.
    fn samples(&mut self, held_out: &[&DataFile], parents: &mut Vec<usize>) -> anyhow::Result<Option<Samples>> {
        let (point, base) = (self.point, self.base);
        let Some(wanted) = &point.samples else { return Ok(None) };
        let model = base.part(&point.model, Part::Text)?;
        let mut prompts = wanted.prompts.clone();
        if prompts.is_empty() {
            prompts = held_out.iter().map(|it| it.caption.clone()).collect();
            prompts.dedup();
            prompts.truncate(MOST_SAMPLED);
        }
        let text = |prompt: String| Text { key: self.text(model, prompt.clone(), parents), prompt };
        let texts: Vec<Text> = prompts.into_iter().map(text).collect();
        let negative = (wanted.guidance > 1.0).then(|| self.text(model, String::new(), parents));
        let vae = base.part(&point.model, Part::Vae)?;
        // One that this sweep trains.
        parents.extend(self.by_key.get(&vae));
        Ok(Some(Samples {
            every: wanted.every,
            texts,
            negative,
            vae,
            side: point.cut.side,
            steps: wanted.steps,
            guidance: wanted.guidance,
            seed: point.task.seed,
        }))
    }

    /// The jobs that prepare the pictures, in shards: their keys.
    fn shards(
        &mut self,
        pictures: &[&DataFile],
        is_learnt: bool,
        parents: &mut Vec<usize>,
    ) -> anyhow::Result<Vec<Hash>> {
        let (point, base) = (self.point, self.base);
        let model = match point.part() {
            Part::Denoiser => Some(base.part(&point.model, Part::Vae)?),
            _ => None,
        };
        let buckets: Vec<_> = point.buckets.iter().map(|it| bucket(point.cut.side, *it, base.unit)).collect();
        let curation = self.curation()?;
        let mut keys = Vec::new();
        for shard in pictures.chunks(SHARD) {
            let mut task = Prepare {
                model,
                pictures: shard.iter().map(|it| it.content).collect(),
                cut: point.cut,
                views: point.views,
                latent: point.latent,
                seed: point.data_seed,
                dtype: if model.is_some() { point.task.dtype } else { Precision::F32 },
                curation: curation.clone(),
                buckets: buckets.clone(),
            };
            if !is_learnt {
                // What is looked at is the same each time, as plain as can be.
                task.cut.flip = false;
                task.views = point.views.min(MOST_HELD_VIEWS);
                task.latent = Drawn::Mean;
            }
            if model.is_none() {
                task.latent = Drawn::Mean;
            }
            let task = Task::Prepare(task);
            keys.push(task.key());
            parents.push(self.add(task));
        }
        Ok(keys)
    }

    /// The bounds, each with what its metric looks through.
    fn curation(&self) -> anyhow::Result<Vec<Bound>> {
        let bound = |it: &Bound| {
            let metric = metrics::find(&it.metric).with_context(|| format!("{} is not in the table", it.metric))?;
            let package = networks::of(metric, self.networks);
            let found =
                package.map(|it| self.inventory.networks.get(it).with_context(|| format!("`{it}` was not looked up")));
            Ok(Bound { network: found.transpose()?.map(|it| it.hash), ..it.clone() })
        };
        self.point.curation.iter().map(bound).collect()
    }

    fn add(&mut self, task: Task) -> usize {
        let (key, affinity) = (task.key(), task.model());
        let needs = self.needs.clone();
        let job = Job { key, task, subject: None, reference: None, affinity, megapixels: 0.0, needs };
        build::place(&mut self.plan.jobs, self.by_key, job)
    }
}
