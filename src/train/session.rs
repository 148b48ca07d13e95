//! A run from its first step, or from its last checkpoint, to its end or to where it is asked to stop.

use std::time::Instant;

use anyhow::{Context, Result};

use super::checkpoint::Keeper;
use super::exchange::Communicator;
use super::feed::{Look, Source};
use super::objective::Objective;
use super::parameters::Parameters;
use super::trainer::{Looked, Step, Trainer};
pub use crate::job::task::training::{Keep, Rhythm};

/// Who watches a run.
pub trait Watcher {
    /// A step is done, in so many seconds.
    fn stepped(&mut self, step: &Step, seconds: f64);

    /// What is held out was looked at after `step` steps.
    fn looked(&mut self, step: usize, looked: &Looked);

    /// Whether it wants [`rests`](Self::rests) after `step` steps. All ranks must be answered alike.
    fn wants_rest(&self, _step: usize) -> bool {
        false
    }

    /// `step` steps are done, and nothing of them is saved yet: a time to look at what the weights can do that would come
    /// out now. A run that is killed afterwards comes here again.
    ///
    /// # Errors
    /// The run must end.
    fn rests(&mut self, _step: usize, _parameters: &Parameters) -> Result<()> {
        Ok(())
    }

    /// Something that whoever reads the log should know.
    fn told(&mut self, text: &str);

    /// Whether the run should save itself and stop. All ranks must be answered alike.
    fn is_stopped(&mut self) -> bool;
}

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// All steps are done.
    Done,
    /// It was asked to stop, and is saved up to where it was.
    Stopped,
}

/// Runs until `n_steps` are done. Where a checkpoint of this run is kept, it goes on from there, to the same bits as if
/// it had never stopped (on the CPU). Rank 0 keeps the checkpoints; each rank can read them. Where the best weights are
/// to come out, every look that is better than those before it is saved, whatever the rhythm. Looks and rests see the
/// weights that would come out then: the running means, where there are some.
///
/// # Errors
/// A checkpoint of something else, a loss that is not finite (with the images of that step; the checkpoints before it
/// stay), examples that cannot be read, a full disk.
pub fn run<O: Objective, S: Source<Batch = O::Batch>>(
    trainer: &mut Trainer<O>,
    feed: &mut S,
    held_out: Option<&S>,
    keeper: &mut dyn Keeper,
    (rhythm, n_steps): (Rhythm, usize),
    ranks: &mut dyn Communicator,
    watcher: &mut dyn Watcher,
) -> Result<Ending> {
    let (found, damaged) = keeper.newest()?;
    for it in damaged {
        watcher.told(&format!("a checkpoint is left out: {it}"));
    }
    if let Some(snapshot) = found {
        trainer.restore(&snapshot)?;
        watcher.told(&format!("goes on after step {}", snapshot.n_done));
    }
    let looks: Vec<Look<O::Batch>> = held_out.map(|it| it.all(rhythm.n_levels)).transpose()?.unwrap_or_default();
    if trainer.n_done() == 0 {
        pause(trainer, &looks, true, ranks, watcher)?;
    }
    if !looks.is_empty() && trainer.n_done() == n_steps {
        // It died between its last checkpoint and its end: nobody may have heard of the last look.
        watcher.looked(n_steps, &trainer.as_it_comes_out(ranks, |it| it.look(&looks))?);
    }
    let mut best = match rhythm.keep {
        Keep::Last => None,
        Keep::Best => keeper.best()?,
    };
    let mut saved = trainer.n_done();
    while trainer.n_done() < n_steps {
        if watcher.is_stopped() {
            if saved < trainer.n_done() {
                save(trainer, keeper, None, ranks)?;
            }
            return Ok(Ending::Stopped);
        }
        let (step, begun) = (trainer.n_done(), Instant::now());
        let batches = feed.batches(step, ranks.rank(), ranks.n_ranks())?;
        let done = trainer.step(&batches, ranks).with_context(|| {
            let shown = feed.shown(step, ranks.rank(), ranks.n_ranks());
            format!("step {} on images {}", step + 1, shown.join(", "))
        })?;
        trainer.parameters().device().synchronize()?;
        watcher.stepped(&done, begun.elapsed().as_secs_f64());
        let is_last = done.step == n_steps;
        let looks_now = is_last || done.step.is_multiple_of(rhythm.look_every.max(1));
        let loss = pause(trainer, &looks, looks_now, ranks, watcher)?;
        let mut is_best = false;
        if let Some(loss) = loss.filter(|_| rhythm.keep == Keep::Best) {
            is_best = best.is_none_or(|(_, least)| loss < least);
            best = if is_best { Some((done.step, loss)) } else { best };
        }
        if is_last || is_best || done.step.is_multiple_of(rhythm.save_every.max(1)) {
            save(trainer, keeper, loss, ranks)?;
            saved = done.step;
        }
    }
    Ok(Ending::Done)
}

/// What is done between two steps, with the weights that would come out now: a look at what is held out, if it is time for
/// one, and the watcher's rest. Returns the loss, if it is a number.
fn pause<O: Objective>(
    trainer: &Trainer<O>,
    looks: &[Look<O::Batch>],
    looks_now: bool,
    ranks: &mut dyn Communicator,
    watcher: &mut dyn Watcher,
) -> Result<Option<f64>> {
    let step = trainer.n_done();
    let (looks_now, rests) = (looks_now && !looks.is_empty(), watcher.wants_rest(step));
    if !looks_now && !rests {
        return Ok(None);
    }
    trainer.as_it_comes_out(ranks, |trainer| {
        let mut loss = None;
        if looks_now {
            let looked = trainer.look(looks)?;
            watcher.looked(step, &looked);
            loss = looked.losses.first().copied().filter(|it| it.is_finite());
        }
        if rests {
            watcher.rests(step, trainer.parameters())?;
        }
        Ok(loss)
    })
}

fn save<O: Objective>(
    trainer: &Trainer<O>,
    keeper: &mut dyn Keeper,
    loss: Option<f64>,
    ranks: &mut dyn Communicator,
) -> Result<()> {
    let snapshot = trainer.snapshot(ranks)?;
    if ranks.rank() == 0 {
        keeper.save(&snapshot, loss)?;
    }
    Ok(())
}
