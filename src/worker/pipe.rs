//! What an agent and its slots say to each other: one JSON value a line.

use serde::{Deserialize, Serialize};

use crate::job::task::Task;
use crate::tasks::{Inputs, Output};

/// From the agent: do this.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// What to do.
    pub task: Task,
    /// What the agent looked up for it.
    pub inputs: Inputs,
}

/// From the slot: how it went. One reply follows each request, after any number of [`Reply::Progress`].
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
    /// The task is done.
    Done(Box<Output>),
    /// The task was not done.
    Failed {
        /// Whether it may work another time or elsewhere.
        retry: bool,
        /// Why.
        error: String,
    },
}

/// The line that a slot prints after each task, behind everything that the task has printed.
pub const END_OF_LOG: &str = "\u{1e}";
