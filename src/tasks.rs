//! The work itself. A task sees its payload and its inputs, never the queue or the database.

pub mod evaluate;
pub mod pool;

use std::ffi::OsString;

use serde::{Deserialize, Serialize};

use crate::image::Rgb;
use crate::job::Hash;
use crate::job::outcome::{Made, PoolInput, Scored, SetScored};
use crate::job::task::Task;

/// What the agent looked up for a task.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Inputs {
    /// Where files of these contents were seen; any of them may be gone or changed.
    pub files: Vec<(Hash, OsString)>,
    /// The scores that a pool is computed from.
    pub scores: Vec<PoolInput>,
}

/// What a task made.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// A picture was scored.
    Evaluated {
        /// The picture.
        made: Made,
        /// A small JPEG of it, in base64.
        preview: String,
        /// Its scores, in the order in which they were asked for.
        scores: Vec<Scored>,
    },
    /// A set was scored.
    Pooled {
        /// Its scores.
        scores: Vec<SetScored>,
    },
}

/// Why a task did not work.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The machine's fault: try again, perhaps elsewhere.
    #[error("{0:#}")]
    Retry(anyhow::Error),
    /// The task's fault: trying again cannot help.
    #[error("{0:#}")]
    Fatal(anyhow::Error),
}

/// What a slot keeps from one task to the next.
#[derive(Default)]
pub struct Memory {
    /// The file decoded last: most tasks in a row are about the same one.
    decoded: Option<(Hash, Rgb)>,
}

/// Does a task.
///
/// # Errors
/// Whatever kept it from being done, and whose fault it is.
pub fn run(task: &Task, inputs: &Inputs, memory: &mut Memory) -> Result<Output, TaskError> {
    match task {
        Task::Evaluate(task) => evaluate::run(task, inputs, memory),
        Task::Pool(task) => pool::run(task, inputs),
    }
}
