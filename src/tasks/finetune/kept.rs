//! A run's checkpoints with the agent: the newest, and the best of them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::desk::Desk;
use crate::tasks::inputs::{Inputs, Saved};
use crate::tasks::supervisor::Checkpoint;
use crate::train::checkpoint::{self, Keeper, Run};
use crate::train::trainer::Snapshot;

/// What an attempt tells the next one of a checkpoint.
#[derive(Serialize, Deserialize)]
struct Meta {
    /// The loss on what is held out, if that was looked at.
    held_out: Option<f64>,
    /// Of all checkpoints so far: the step and the loss of the one with the least.
    #[serde(default)]
    best: Option<(u64, f64)>,
}

/// The best checkpoint so far.
struct Best {
    step: u64,
    loss: f64,
    /// Its file: the store's, or a second name for it.
    file: PathBuf,
}

/// Keeps checkpoints with the agent.
pub(super) struct Kept<'a, 'b> {
    desk: &'a Desk<'b>,
    inputs: &'a Inputs,
    run: Run,
    keep_last: u32,
    /// None where the last weights are to come out.
    best: Option<Best>,
    spares_best: bool,
}

impl<'a, 'b> Kept<'a, 'b> {
    /// The checkpoints of this run, of which the `keep_last` newest stay, and the best one if it is wanted.
    pub(super) fn new(desk: &'a Desk<'b>, inputs: &'a Inputs, run: Run, keep_last: u32, spares_best: bool) -> Self {
        Self { desk, inputs, run, keep_last, best: None, spares_best }
    }

    /// The newest checkpoint that is whole, with the best one up to there, which must be whole as well: whoever goes on
    /// from a later one would not have it.
    fn found(&self) -> (Option<&'a Saved>, Option<Best>) {
        let inputs = self.inputs;
        if !self.spares_best {
            return (inputs.resume(), None);
        }
        for it in inputs.saved.iter().filter(|it| it.is_whole()) {
            let best = serde_json::from_value::<Meta>(it.meta.clone()).ok().and_then(|meta| meta.best);
            let Some((step, loss)) = best else { return (Some(it), None) };
            match inputs.saved.iter().find(|of| of.step == step).filter(|of| of.step == it.step || of.is_whole()) {
                Some(of) => return (Some(it), Some(Best { step, loss, file: PathBuf::from(&of.path) })),
                None => eprintln!("the best checkpoint, of step {step}, is gone: not going on after step {}", it.step),
            }
        }
        (None, None)
    }
}

impl Keeper for Kept<'_, '_> {
    fn newest(&mut self) -> Result<(Option<Snapshot>, Vec<String>)> {
        let (newest, best) = self.found();
        let snapshot = newest.map(|it| checkpoint::read(Path::new(&it.path), &self.run)).transpose()?;
        self.best = best;
        self.desk.begin_after(snapshot.as_ref().map(|it| it.n_done as u64))?;
        // What is damaged has been said by whoever looked for a whole one.
        Ok((snapshot, Vec::new()))
    }

    fn save(&mut self, snapshot: &Snapshot, held_out: Option<f64>) -> Result<()> {
        fs::create_dir_all(&self.inputs.scratch)?;
        let scratch = Path::new(&self.inputs.scratch);
        let file = scratch.join("checkpoint");
        checkpoint::write(&file, snapshot, &self.run, held_out)?;
        let step = snapshot.n_done as u64;
        if let Some(loss) = held_out.filter(|_| self.spares_best)
            && self.best.as_ref().is_none_or(|it| loss < it.loss)
        {
            // The agent takes the file away.
            let name = scratch.join("best");
            match fs::remove_file(&name) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
            let named = fs::hard_link(&file, &name).or_else(|_| fs::copy(&file, &name).map(drop));
            named.context("keep a second name of the best checkpoint")?;
            self.best = Some(Best { step, loss, file: name });
        }
        let best = self.best.as_ref().map(|it| (it.step, it.loss));
        let meta = serde_json::to_value(Meta { held_out, best })?;
        let spare = best.map(|it| it.0);
        self.desk.keep(&Checkpoint { file: &file, step, meta: &meta, keep_last: self.keep_last, spare })?;
        Ok(())
    }

    fn best(&self) -> Result<Option<(usize, f64)>> {
        Ok(self.best.as_ref().map(|it| (it.step as usize, it.loss)))
    }

    fn at(&self, step: usize) -> Result<Snapshot> {
        let best = self.best.as_ref().filter(|it| it.step == step as u64);
        let best = best.with_context(|| format!("the checkpoint of step {step} was not kept"))?;
        checkpoint::read(&best.file, &self.run)
    }
}
