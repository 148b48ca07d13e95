//! Trains a part of a model: from its last checkpoint, if it has one, to a file of the trained part.

mod desk;
mod kept;
mod sampler;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, anyhow};
use candle_core::{DType, Device};
use safetensors::SafeTensorError;

use self::desk::{Desk, Watch};
use self::kept::Kept;
use self::sampler::Sampler;
use super::inputs::Inputs;
use super::memory::{Memory, classed};
use super::shards::Shards;
use super::supervisor::Supervisor;
use super::{Output, TaskError, Trained};
use crate::gpu;
use crate::job::Hash;
use crate::job::task::finetune::{Finetune, Objective};
use crate::models::package::Package;
use crate::models::vae::Vae;
use crate::models::weights::Weights;
use crate::models::{schedule, sd3, vae};
use crate::train::autoencoder::{Reconstruction, moments};
use crate::train::checkpoint::{Keeper, Run};
use crate::train::exchange::Alone;
use crate::train::feed::{Drawing, Feed, Source};
use crate::train::lora::Adapters;
use crate::train::objective;
use crate::train::parameters::Parameters;
use crate::train::pictures::{self, PictureFeed};
use crate::train::session::{self, Ending, Keep};
use crate::train::timesteps::Levels;
use crate::train::trainer::{Settings, Snapshot, Trainer};
use crate::train::transformer::{Compared, FIXED, FlowMatching};
use crate::train::{part, session::Watcher};

/// So many squares say how a trained autoencoder's latents are scaled.
const MOST_MEASURED: usize = 256;

/// Trains, and goes on from the newest checkpoint that is whole.
///
/// # Errors
/// The model or what is learnt from is not here, a checkpoint is of something else, the loss is not finite (which step,
/// which pictures), memory ran out, the disk is full; it was asked to stop, and has saved itself.
pub fn run(
    task: &Finetune,
    inputs: &Inputs,
    memory: &mut Memory,
    supervisor: &mut dyn Supervisor,
) -> Result<Output, TaskError> {
    let (found, device) = memory.untouched(&task.model, task.part(), inputs)?;
    let (shown, held) = (Shards::open(&task.data, inputs, false)?, Shards::open(&task.held_out, inputs, true)?);
    if shown.len() == 0 {
        let why = shown.left_out().first().map(|it| format!("; of the first: {}", it.1)).unwrap_or_default();
        let n = shown.left_out().len();
        return Err(TaskError::Fatal(anyhow!("there is nothing to learn from: {n} pictures are left out{why}")));
    }
    let work = Work { task, inputs, base: &found.package, device, shown: &shown, held: &held };
    let desk = Desk::new(supervisor, task, work.device.clone());
    let trained = match &task.objective {
        Objective::Flow { .. } => work.transformer(&desk),
        Objective::Reconstruction { .. } => work.autoencoder(&desk),
    };
    let (snapshot, adapters, changes) = trained.map_err(fault)?;
    let path = Path::new(&inputs.scratch).join("trained");
    let written = std::fs::create_dir_all(&inputs.scratch).map_err(anyhow::Error::from).and_then(|()| {
        part::write(&path, &found.package, task.part(), &snapshot, adapters.as_ref(), task.dtype, &changes)
    });
    written.map_err(fault)?;
    let left_out = shown.left_out().iter().chain(held.left_out()).cloned().collect();
    let n_pictures = shown.len();
    Ok(Output::Trained(Trained { file: path.into_os_string(), n_pictures, left_out, held_out: desk.held_out() }))
}

/// Whose fault it is that training ended.
fn fault(error: anyhow::Error) -> TaskError {
    let error = match error.downcast::<TaskError>() {
        Ok(said) => return said,
        Err(error) => error,
    };
    // A full disk may be another machine's alone.
    let is_disk = |it: &(dyn std::error::Error + 'static)| {
        it.is::<std::io::Error>() || matches!(it.downcast_ref(), Some(SafeTensorError::IoError(_)))
    };
    if error.chain().any(is_disk) { TaskError::Retry(error) } else { classed(error) }
}

/// A snapshot of the end, the adapters that it is of, and what changes in the component's config.
type End = (Snapshot, Option<Adapters>, BTreeMap<String, serde_json::Value>);

/// All that a run is made of.
struct Work<'a> {
    task: &'a Finetune,
    inputs: &'a Inputs,
    base: &'a Package,
    device: Device,
    shown: &'a Shards<'a>,
    held: &'a Shards<'a>,
}

impl Work<'_> {
    fn transformer(&self, desk: &Desk<'_>) -> anyhow::Result<End> {
        let task = self.task;
        let Objective::Flow { loss, density, weighting } = &task.objective else {
            anyhow::bail!("a transformer learns to flow")
        };
        loss.n_levels()?;
        let config = sd3::Config::read(&self.base.config("transformer"))?;
        let levels = Levels::new(&schedule::Config::read(&self.base.config("scheduler"))?);
        let asked = asked(|it| sd3::Sd3::load(&config, it).map(drop))?;
        let weights = Weights::open(&self.base.weights("transformer")?, &self.device, DType::F32)?;
        let dtype = gpu::dtype(task.dtype);
        let adapters = task.lora.map(|it| {
            let rank = it.rank as usize;
            Adapters { alpha: it.alpha, ..Adapters::of_attention(rank) }
        });
        let start = match &adapters {
            None => Parameters::whole(&asked, &weights, dtype, |it| it == FIXED)?,
            Some(adapters) => Parameters::adapted(&asked, &weights, dtype, adapters.clone(), task.seed)?,
        };
        drop(weights);
        let learnt = FlowMatching { config, loss: loss.clone(), recompute: task.recompute };
        // Held-out losses of models that learn in different ways are to be comparable.
        let objective = Compared::plainly(learnt);
        let mut trainer = Trainer::new(objective, start, self.settings(), &Alone)?;
        let drawing = Drawing {
            seed: task.seed,
            batch: task.batch as usize,
            accumulate: task.accumulate as usize,
            density: *density,
            weighting: *weighting,
        };
        let mut feed = Feed::new(drawing.clone(), levels.clone(), self.shown, &self.device)?;
        let held = (self.held.len() > 0).then(|| Feed::new(drawing, levels, self.held, &self.device)).transpose()?;
        desk.name(loss.names());
        let snapshot = self.go(&mut trainer, &mut feed, held.as_ref(), desk)?;
        Ok((snapshot, adapters, BTreeMap::new()))
    }

    fn autoencoder(&self, desk: &Desk<'_>) -> anyhow::Result<End> {
        let task = self.task;
        let Objective::Reconstruction { divergence, rescale } = task.objective else {
            anyhow::bail!("an autoencoder learns to give back")
        };
        let config = vae::Config::read(&self.base.config("vae"))?;
        let asked = asked(|it| Vae::load(&config, it).map(drop))?;
        let weights = Weights::open(&self.base.weights("vae")?, &self.device, DType::F32)?;
        let start = Parameters::whole(&asked, &weights, gpu::dtype(task.dtype), |_| false)?;
        drop(weights);
        let latent = (config.latent_channels, config.factor());
        let objective = Reconstruction { config, divergence };
        let mut trainer = Trainer::new(objective, start, self.settings(), &Alone)?;
        let drawing =
            pictures::Drawing { seed: task.seed, batch: task.batch as usize, accumulate: task.accumulate as usize };
        let mut feed = PictureFeed::new(drawing, self.shown, latent, &self.device)?;
        let held =
            (self.held.len() > 0).then(|| PictureFeed::new(drawing, self.held, latent, &self.device)).transpose()?;
        desk.name(vec!["square".to_owned(), "divergence".to_owned()]);
        let snapshot = self.go(&mut trainer, &mut feed, held.as_ref(), desk)?;
        let mut changes = BTreeMap::new();
        if rescale {
            let n = self.shown.len().min(MOST_MEASURED);
            let measured: Vec<_> = feed.all(1)?.into_iter().take(n).map(|it| it.batch).collect();
            // What is scaled is what comes out.
            trainer.restore(&snapshot)?;
            let (mean, deviation) =
                trainer.as_it_comes_out(&mut Alone, |it| moments(it.objective(), it.parameters(), &measured))?;
            changes.insert("shift_factor".to_owned(), mean.into());
            changes.insert("scaling_factor".to_owned(), (1.0 / deviation).into());
        }
        Ok((snapshot, None, changes))
    }

    /// Runs to the end of the steps.
    fn go<O: objective::Objective, S: Source<Batch = O::Batch>>(
        &self,
        trainer: &mut Trainer<O>,
        feed: &mut S,
        held: Option<&S>,
        desk: &Desk<'_>,
    ) -> anyhow::Result<Snapshot> {
        let task = self.task;
        let spares_best = task.rhythm.keep == Keep::Best;
        let mut kept = Kept::new(desk, self.inputs, identity(task)?, task.keep_last, spares_best);
        let sampler = Sampler::new(task, self.inputs, self.base, &self.device);
        let mut watch = Watch { desk, sampler };
        for (content, why) in self.shown.left_out().iter().chain(self.held.left_out()) {
            watch.told(&format!("picture {} is left out: {why}", content.short()));
        }
        let steps = (task.rhythm, task.steps as usize);
        let ending = session::run(trainer, feed, held, &mut kept, steps, &mut Alone, &mut watch)?;
        desk.flush();
        match ending {
            Ending::Done => match kept.best()? {
                Some((step, loss)) => {
                    desk.comes_out(loss);
                    watch.told(&format!("the weights after step {step} come out: their held-out loss is {loss:.6}"));
                    kept.at(step)
                }
                None => trainer.snapshot(&mut Alone),
            },
            Ending::Stopped => Err(TaskError::Stopped.into()),
        }
    }

    fn settings(&self) -> Settings {
        let task = self.task;
        Settings {
            n_steps: task.steps as usize,
            rate: task.rate,
            adamw: task.adamw,
            clip: task.clip,
            ema: task.ema,
            home: task.home,
        }
    }
}

/// The names and shapes of the tensors that a model is made of.
fn asked(load: impl FnOnce(&Weights) -> candle_core::Result<()>) -> anyhow::Result<Vec<(String, Vec<usize>)>> {
    let blueprint = Weights::blueprint();
    load(&blueprint)?;
    Ok(blueprint.asked())
}

/// What a checkpoint must be of to be continued: the task, told apart into model, data and settings.
fn identity(task: &Finetune) -> anyhow::Result<Run> {
    let settings = serde_json::to_value(task.essence())?;
    let settings = settings.as_object().context("a task is an object")?.clone();
    let settings = settings.into_iter().filter(|it| !["model", "data", "held_out"].contains(&it.0.as_str()));
    let data = Hash::of_value(&(&task.data, &task.held_out));
    Ok(Run { model: task.model, data, settings: settings.collect() })
}
