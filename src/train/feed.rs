//! From examples to batches: in which order, with which noise.

use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::order::{Order, starts};
use super::random::{Purpose, Stream};
use super::timesteps::{Density, Levels, Weighting};
use super::transformer::Batch;
use super::wlf::Target;

/// One image to learn from, on the CPU.
#[derive(Clone, Debug)]
pub struct Example {
    /// Its latent [C, h, w], scaled for the transformer.
    pub latent: Tensor,
    /// Its text's states [L, joint].
    pub context: Tensor,
    /// Its pooled text [P].
    pub pooled: Tensor,
}

/// What there is to learn from.
pub trait Examples {
    /// How many there are.
    fn count(&self) -> usize;

    /// One of them, as it is shown in a pass over all.
    ///
    /// # Errors
    /// It cannot be read.
    fn example(&self, idx: usize, pass: usize) -> Result<Example>;

    /// What people call it.
    fn name(&self, idx: usize) -> String {
        idx.to_string()
    }

    /// Examples of one class fit into one batch: the class is that of its shape.
    fn class(&self, _idx: usize) -> usize {
        0
    }

    /// The picture that it is of: several may be views of one, and those stand together.
    fn picture(&self, idx: usize) -> String {
        idx.to_string()
    }
}

/// A batch of what is held out, all of one picture.
#[derive(Clone, Debug)]
pub struct Look<B> {
    /// The picture.
    pub of: String,
    /// How many samples the batch has.
    pub n: usize,
    /// The samples.
    pub batch: B,
}

/// Where the batches of a run come from.
pub trait Source {
    /// What is shown at a time.
    type Batch;

    /// The batches of a step (counted from 0) on one of `n_ranks`.
    ///
    /// # Errors
    /// An example that cannot be read, or has another shape than those beside it.
    fn batches(&mut self, step: usize, rank: usize, n_ranks: usize) -> Result<Vec<Self::Batch>>;

    /// What people call the examples that [`batches`](Self::batches) shows.
    fn shown(&mut self, step: usize, rank: usize, n_ranks: usize) -> Vec<String>;

    /// Every example, at `n_levels` noise levels where it has any, the same each time.
    ///
    /// # Errors
    /// Those of [`batches`](Self::batches).
    fn all(&self, n_levels: usize) -> Result<Vec<Look<Self::Batch>>>;
}

impl Source for Feed<'_> {
    type Batch = Batch;

    fn batches(&mut self, step: usize, rank: usize, n_ranks: usize) -> Result<Vec<Batch>> {
        Feed::batches(self, step, rank, n_ranks)
    }

    fn shown(&mut self, step: usize, rank: usize, n_ranks: usize) -> Vec<String> {
        Feed::shown(self, step, rank, n_ranks).into_iter().map(|it| self.examples.name(it)).collect()
    }

    fn all(&self, n_levels: usize) -> Result<Vec<Look<Batch>>> {
        Feed::all(self, n_levels)
    }
}

impl Examples for Vec<Example> {
    fn count(&self) -> usize {
        self.len()
    }

    fn example(&self, idx: usize, _: usize) -> Result<Example> {
        Ok(self[idx].clone())
    }

    fn class(&self, idx: usize) -> usize {
        let shape = self[idx].latent.shape();
        self.iter().position(|it| it.latent.shape() == shape).unwrap_or(idx)
    }
}

/// How batches are drawn.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Drawing {
    /// All chance comes from it.
    pub seed: u64,
    /// Images of one batch.
    pub batch: usize,
    /// Batches of one step, on each rank.
    pub accumulate: usize,
    /// Which noise levels are drawn how often.
    pub density: Density,
    /// How much they count.
    pub weighting: Weighting,
}

/// Examples and the noise that is put on them.
pub struct Feed<'a> {
    drawing: Drawing,
    levels: Levels,
    examples: &'a dyn Examples,
    device: Device,
    order: Order,
}

impl<'a> Feed<'a> {
    /// Of these examples.
    ///
    /// # Errors
    /// There are none, or batches of none.
    pub fn new(drawing: Drawing, levels: Levels, examples: &'a dyn Examples, device: &Device) -> Result<Self> {
        ensure!(examples.count() > 0, "there is nothing to learn from");
        ensure!(drawing.batch > 0 && drawing.accumulate > 0, "a step without images");
        let classes: Vec<usize> = (0..examples.count()).map(|it| examples.class(it)).collect();
        let order = Order::new(drawing.seed, &classes, drawing.batch);
        Ok(Self { drawing, levels, examples, device: device.clone(), order })
    }

    /// The batches of a step (counted from 0) on one of `n_ranks`. Each pass shows every example once, in an order of
    /// its own; a step's images are the same however many ranks share them.
    ///
    /// # Errors
    /// An example that cannot be read, or has another shape than those beside it.
    pub fn batches(&mut self, step: usize, rank: usize, n_ranks: usize) -> Result<Vec<Batch>> {
        let Drawing { seed, batch, accumulate, density, weighting } = self.drawing.clone();
        let whole = batch * accumulate * n_ranks;
        let mut batches = Vec::with_capacity(accumulate);
        for first in starts(batch, accumulate, rank, n_ranks) {
            let mut drawn = Vec::with_capacity(batch);
            for place in first..first + batch {
                let (idx, pass) = self.order.at(step * whole + place);
                let mut random = Stream::new(seed, Purpose::Noise, step as u64, place as u64);
                let (sigma, timestep) = self.levels.at(density.draw(&mut random));
                drawn.push(Shown { idx, pass, sigma, timestep, weight: weighting.at(sigma), random });
            }
            batches.push(self.batch(drawn)?);
        }
        Ok(batches)
    }

    /// Which examples [`batches`](Self::batches) shows.
    pub fn shown(&mut self, step: usize, rank: usize, n_ranks: usize) -> Vec<usize> {
        let Drawing { batch, accumulate, .. } = self.drawing;
        let first = step * batch * accumulate * n_ranks;
        let places = starts(batch, accumulate, rank, n_ranks).flat_map(|it| first + it..first + it + batch);
        places.map(|it| self.order.at(it).0).collect()
    }

    /// Every example `n_levels` times, at levels spread evenly over those that are trained on, with the same noise each
    /// time: what is held out is looked at in this way. A batch is of one picture, and no larger than those of a step.
    ///
    /// # Errors
    /// Those of [`batches`](Self::batches).
    pub fn all(&self, n_levels: usize) -> Result<Vec<Look<Batch>>> {
        let mut looks = Vec::new();
        for (of, idxs) in by_picture(self.examples.count(), |idx| self.examples.picture(idx)) {
            let mut shown = self.levelled(&idxs, n_levels).into_iter().peekable();
            while shown.peek().is_some() {
                let batch: Vec<Shown> = shown.by_ref().take(self.drawing.batch).collect();
                looks.push(Look { of: of.clone(), n: batch.len(), batch: self.batch(batch)? });
            }
        }
        Ok(looks)
    }

    /// These examples at `n_levels` levels each.
    fn levelled(&self, idxs: &[usize], n_levels: usize) -> Vec<Shown> {
        let mut shown: Vec<Shown> = Vec::new();
        for (idx, level) in idxs.iter().flat_map(|idx| (0..n_levels).map(move |level| (*idx, level))) {
            let (sigma, timestep) = self.levels.at((level as f64 + 0.5) / n_levels as f64);
            let random = Stream::new(self.drawing.seed, Purpose::HeldOut, idx as u64, level as u64);
            shown.push(Shown { idx, pass: 0, sigma, timestep, weight: 1.0, random });
        }
        shown
    }

    fn batch(&self, shown: Vec<Shown>) -> Result<Batch> {
        let (mut latents, mut noises, mut contexts, mut pooled) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut sigmas, mut weights, mut timesteps) = (Vec::new(), Vec::new(), Vec::new());
        for mut it in shown {
            let example = self
                .examples
                .example(it.idx, it.pass)
                .with_context(|| format!("read example {}", self.examples.name(it.idx)))?;
            let shape = example.latent.shape().clone();
            noises.push(Tensor::from_vec(it.random.normals(shape.elem_count()), shape, &Device::Cpu)?);
            latents.push(example.latent);
            contexts.push(example.context);
            pooled.push(example.pooled);
            sigmas.push(it.sigma);
            weights.push(it.weight);
            timesteps.push(it.timestep);
        }
        let stack = |parts: &[Tensor], what: &str| -> Result<Tensor> {
            let stacked =
                Tensor::stack(parts, 0).with_context(|| format!("the {what} of one batch differ in shape"))?;
            Ok(stacked.to_device(&self.device)?)
        };
        Ok(Batch {
            target: Target { x0: stack(&latents, "latents")?, noise: stack(&noises, "noises")?, sigmas, weights },
            timesteps,
            context: stack(&contexts, "texts")?,
            pooled: stack(&pooled, "pooled texts")?,
        })
    }
}

/// The examples of each picture, those that stand together as one.
pub(super) fn by_picture(n: usize, picture: impl Fn(usize) -> String) -> Vec<(String, Vec<usize>)> {
    let mut found: Vec<(String, Vec<usize>)> = Vec::new();
    for idx in 0..n {
        let of = picture(idx);
        match found.last_mut() {
            Some(last) if last.0 == of => last.1.push(idx),
            _ => found.push((of, vec![idx])),
        }
    }
    found
}

/// One example in one batch.
struct Shown {
    idx: usize,
    pass: usize,
    sigma: f32,
    timestep: f32,
    weight: f32,
    random: Stream,
}
