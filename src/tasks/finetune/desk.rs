//! Between a run and its agent: curves, and the wish to stop.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use candle_core::Device;

use super::sampler::Sampler;
use crate::gpu::usage;
use crate::job::task::finetune::{Finetune, PICTURE};
use crate::job::task::making::MEMORY_GIB;
use crate::tasks::TaskError;
use crate::tasks::supervisor::{Checkpoint, Point, Sample, Supervisor};
use crate::train::parameters::Parameters;
use crate::train::session::Watcher;
use crate::train::trainer::{Looked, Step};

/// A curve has about so many points at most; each is the mean over the steps since the one before.
const MOST_POINTS: usize = 4_000;
/// So many pictures that are held out have a curve each, at most.
const MOST_PICTURES: usize = 1_000;
/// Points travel so often.
const PAUSE: Duration = Duration::from_secs(1);

/// What a run and its checkpoints share.
pub(super) struct Desk<'a>(RefCell<Inside<'a>>);

struct Inside<'a> {
    supervisor: &'a mut dyn Supervisor,
    /// The parts of the loss.
    names: Vec<String>,
    n_steps: usize,
    /// Images of a step.
    n_images: usize,
    /// A point every so many steps, and at every checkpoint.
    every: usize,
    save_every: usize,
    device: Device,
    /// Sums over the steps since the last point: what curves show, and seconds.
    sums: Sums,
    points: Vec<Point>,
    sent: Instant,
    held_out: Option<f64>,
}

#[derive(Default)]
struct Sums {
    n: usize,
    loss: f64,
    bands: Vec<f64>,
    norm: f64,
    seconds: f64,
}

impl<'a> Desk<'a> {
    /// For a task that runs on this device.
    pub(super) fn new(supervisor: &'a mut dyn Supervisor, task: &Finetune, device: Device) -> Self {
        let n_steps = task.steps as usize;
        Self(RefCell::new(Inside {
            supervisor,
            names: Vec::new(),
            n_steps,
            n_images: (task.batch * task.accumulate) as usize,
            every: n_steps.div_ceil(MOST_POINTS).max(1),
            save_every: task.rhythm.save_every.max(1),
            device,
            sums: Sums::default(),
            points: Vec::new(),
            sent: Instant::now(),
            held_out: None,
        }))
    }

    /// Says what the parts of the loss are called.
    pub(super) fn name(&self, names: Vec<String>) {
        self.0.borrow_mut().names = names;
    }

    /// Notes the loss on what is held out of the weights that come out, where those are not the last.
    pub(super) fn comes_out(&self, loss: f64) {
        self.0.borrow_mut().held_out = Some(loss);
    }

    /// The loss on what is held out of the weights that come out.
    pub(super) fn held_out(&self) -> Option<f64> {
        self.0.borrow().held_out
    }

    /// Sends the points on.
    pub(super) fn flush(&self) {
        self.0.borrow_mut().flush();
    }

    /// Says where the attempt begins.
    pub(super) fn begin_after(&self, step: Option<u64>) -> Result<(), TaskError> {
        self.0.borrow_mut().supervisor.begin_after(step)
    }

    /// Shows a picture that was made on the way.
    pub(super) fn show(&self, sample: &Sample<'_>) -> Result<(), TaskError> {
        self.0.borrow_mut().supervisor.show(sample)
    }

    /// Keeps a checkpoint. A later attempt goes on with the curves up to there: they go first.
    pub(super) fn keep(&self, checkpoint: &Checkpoint<'_>) -> Result<(), TaskError> {
        let mut inside = self.0.borrow_mut();
        inside.flush();
        inside.supervisor.keep(checkpoint)
    }
}

impl Inside<'_> {
    fn flush(&mut self) {
        if !self.points.is_empty() {
            self.supervisor.points(&std::mem::take(&mut self.points));
        }
        self.sent = Instant::now();
    }

    fn add(&mut self, step: &Step, seconds: f64) {
        let sums = &mut self.sums;
        sums.n += 1;
        sums.loss += step.loss;
        sums.bands.resize(step.bands.len(), 0.0);
        sums.bands.iter_mut().zip(&step.bands).for_each(|(sum, it)| *sum += it);
        sums.norm += step.norm;
        sums.seconds += seconds;
        let is_due = step.step.is_multiple_of(self.every) || step.step.is_multiple_of(self.save_every);
        if !is_due && step.step < self.n_steps {
            return;
        }
        let sums = std::mem::take(&mut self.sums);
        let (n, at) = (sums.n as f64, step.step as u64);
        let mut add = |name: &str, value: f64| self.points.push(Point::new(name, at, value));
        add("loss", sums.loss / n);
        add("gradient_norm", sums.norm / n);
        add("learning_rate", step.rate);
        add("images_per_s", n * self.n_images as f64 / sums.seconds);
        if self.names.len() > 1 {
            for (name, sum) in self.names.iter().zip(&sums.bands) {
                add(&format!("loss/{name}"), sum / n);
            }
        }
        if let Some(bytes) = usage::now(&self.device) {
            add(MEMORY_GIB, usage::gib(bytes));
        }
        if self.sent.elapsed() > PAUSE {
            self.flush();
        }
    }
}

/// Watches a run.
pub(super) struct Watch<'a, 'b> {
    pub(super) desk: &'a Desk<'b>,
    /// None where no pictures are made on the way.
    pub(super) sampler: Option<Sampler<'a>>,
}

impl Watcher for Watch<'_, '_> {
    fn stepped(&mut self, step: &Step, seconds: f64) {
        let mut desk = self.desk.0.borrow_mut();
        let n_steps = desk.n_steps;
        desk.add(step, seconds);
        desk.supervisor.progress(step.step, n_steps);
    }

    fn looked(&mut self, step: usize, looked: &Looked) {
        let losses = &looked.losses;
        let mut desk = self.desk.0.borrow_mut();
        desk.held_out = losses.first().copied();
        let names = if desk.names.len() > 1 { desk.names.clone() } else { Vec::new() };
        let parts = names.into_iter().map(|it| format!("held_out/{it}"));
        let names = std::iter::once("held_out".to_owned()).chain(parts);
        let points: Vec<Point> = names.zip(losses).map(|(name, it)| Point::new(&name, step as u64, *it)).collect();
        desk.points.extend(points);
        // Of more there is no need to know each one's: their mean is certain.
        let pictures =
            looked.pictures.iter().take(if looked.pictures.len() > MOST_PICTURES { 0 } else { MOST_PICTURES });
        desk.points.extend(pictures.map(|(of, it)| Point::new(&format!("{PICTURE}{of}"), step as u64, *it)));
        eprintln!("step {step}: the loss on what is held out is {:.6}", losses.first().copied().unwrap_or(f64::NAN));
    }

    fn wants_rest(&self, step: usize) -> bool {
        self.sampler.as_ref().is_some_and(|it| it.is_due(step))
    }

    fn rests(&mut self, step: usize, parameters: &Parameters) -> anyhow::Result<()> {
        match &self.sampler {
            Some(sampler) => sampler.make(step, parameters, self.desk),
            None => Ok(()),
        }
    }

    fn told(&mut self, text: &str) {
        eprintln!("{text}");
    }

    fn is_stopped(&mut self) -> bool {
        self.desk.0.borrow().supervisor.stop_asked()
    }
}
