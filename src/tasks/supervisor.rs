//! What a running task says to its agent, and hears from it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::TaskError;

/// The agent, as a task sees it.
pub trait Supervisor {
    /// The task has done so many of so many steps.
    fn progress(&mut self, done: usize, of: usize);

    /// Whether the task should save what it has and end soon, with [`TaskError::Stopped`]: its job was cancelled, or
    /// its machine is wanted back. Asked often: once a step. Only tasks that [save](crate::job::task::Task::saves)
    /// are asked; others are killed.
    fn stop_asked(&self) -> bool;

    /// Keeps a checkpoint: stores the file, which must be in the scratch folder, and notes it for the next attempt.
    /// Afterwards the task may delete or overwrite the file. A checkpoint of the same step is replaced, and of all
    /// checkpoints the `keep_last` newest stay, and the spared one. Waits while the store or Postgres are out of reach.
    ///
    /// # Errors
    /// The attempt is over: its lease is lost, or the file cannot be read.
    fn keep(&mut self, checkpoint: &Checkpoint<'_>) -> Result<(), TaskError>;

    /// Says where the attempt begins: after `step`, if it goes on from a checkpoint, else at the beginning. Points and
    /// checkpoints of later steps, which an earlier attempt has left, are dropped. Once an attempt, before any of its own.
    ///
    /// # Errors
    /// The attempt is over: its lease is lost.
    fn begin_after(&mut self, step: Option<u64>) -> Result<(), TaskError>;

    /// Shows a picture that was made on the way: stores the file, which must be in the scratch folder. One of the same step
    /// and place is replaced. Waits while the store or Postgres are out of reach.
    ///
    /// # Errors
    /// The attempt is over: its lease is lost, or the file cannot be read.
    fn show(&mut self, sample: &Sample<'_>) -> Result<(), TaskError>;

    /// Adds points to curves. They are sent on at once, so a task gathers the points of some steps first.
    fn points(&mut self, points: &[Point]);

    /// Adds one point to a curve.
    fn point(&mut self, name: &str, step: u64, value: f64) {
        self.points(&[Point::new(name, step, value)]);
    }
}

/// A checkpoint that is to be kept.
#[derive(Clone, Copy, Debug)]
pub struct Checkpoint<'a> {
    /// The file, in the scratch folder.
    pub file: &'a Path,
    /// How many steps are done.
    pub step: u64,
    /// What the task wants to know when it goes on from here.
    pub meta: &'a serde_json::Value,
    /// How many checkpoints of the job stay, this one among them; at least 1.
    pub keep_last: u32,
    /// The step of one that stays however old it gets.
    pub spare: Option<u64>,
}

/// A picture that shows how far a run is.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// The file, in the scratch folder: a PNG.
    pub file: &'a Path,
    /// How many steps are done.
    pub step: u64,
    /// Which of the step's pictures it is.
    pub idx: usize,
}

/// A point of a curve: the loss after a step, say.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Point {
    /// The curve: `loss`, `gradient_norm`.
    pub name: String,
    /// After how many steps.
    pub step: u64,
    /// The value; none where it is not a finite number.
    pub value: Option<f64>,
}

impl Point {
    /// A point; a value that is not finite has none.
    pub fn new(name: &str, step: u64, value: f64) -> Self {
        Self { name: name.to_owned(), step, value: value.is_finite().then_some(value) }
    }
}

/// No agent: nobody listens, nothing is kept.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Supervisor for Alone {
    fn progress(&mut self, _: usize, _: usize) {}

    fn stop_asked(&self) -> bool {
        false
    }

    fn keep(&mut self, _: &Checkpoint<'_>) -> Result<(), TaskError> {
        Ok(())
    }

    fn begin_after(&mut self, _: Option<u64>) -> Result<(), TaskError> {
        Ok(())
    }

    fn show(&mut self, _: &Sample<'_>) -> Result<(), TaskError> {
        Ok(())
    }

    fn points(&mut self, _: &[Point]) {}
}
