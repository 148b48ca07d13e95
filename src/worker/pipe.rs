//! What an agent and its slots say to each other: one JSON value a line.

use std::ffi::OsString;

use serde::{Deserialize, Serialize};

use crate::job::task::Task;
use crate::tasks::supervisor::Point;
use crate::tasks::{Inputs, Output};

/// From the agent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Do this.
    Do(Box<Work>),
    /// Save what there is of the work, and end it soon.
    Stop,
    /// The answer to [`Reply::Keep`], [`Reply::Show`] and [`Reply::Begin`].
    Noted {
        /// Why it was not noted: the attempt is over.
        error: Option<String>,
    },
}

/// A task with what belongs to it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Work {
    /// What to do.
    pub task: Task,
    /// What the agent looked up for it.
    pub inputs: Inputs,
}

/// From the slot: how it goes. One of [`Reply::Done`], [`Reply::Failed`] and [`Reply::Stopped`] ends each work.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The task is not done yet.
    Progress {
        /// Steps done.
        done: usize,
        /// Steps in all.
        of: usize,
    },
    /// Points of curves.
    Points(Vec<Point>),
    /// The attempt begins here; the slot waits for [`Request::Noted`].
    Begin {
        /// After which step it goes on from a checkpoint; none begins at the beginning.
        after: Option<u64>,
    },
    /// Keep this checkpoint; the slot waits for [`Request::Noted`].
    Keep(Keep),
    /// Store this picture; the slot waits for [`Request::Noted`].
    Show {
        /// The file, in the scratch folder.
        file: OsString,
        /// How many steps are done.
        step: u64,
        /// Which of the step's pictures it is.
        idx: usize,
    },
    /// The task is done.
    Done(Box<Output>),
    /// The task was not done.
    Failed {
        /// Whose fault it is.
        fault: Fault,
        /// Why.
        error: String,
    },
    /// The task has ended because it was asked to, and saved what it had.
    Stopped,
}

/// A checkpoint that a slot wants kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Keep {
    /// The file, in the scratch folder.
    pub file: OsString,
    /// How many steps are done.
    pub step: u64,
    /// What the task wants to know when it goes on from there.
    pub meta: serde_json::Value,
    /// How many checkpoints of the job stay.
    pub keep_last: u32,
    /// The step of one that stays however old it gets.
    #[serde(default)]
    pub spare: Option<u64>,
}

/// Whose fault it is that a task was not done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Its own: trying again cannot help.
    Task,
    /// The machine's.
    Machine,
    /// The machine's, which has too little memory.
    Memory,
}

/// The line that a slot prints after each task, behind everything that the task has printed.
pub const END_OF_LOG: &str = "\u{1e}";
