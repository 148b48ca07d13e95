//! The work itself. A task sees its payload and its inputs, never the queue or the database.

pub mod evaluate;
pub mod generate;
pub mod inputs;
pub mod memory;
pub mod pool;
pub mod reconstruct;

use std::ffi::OsString;

use serde::{Deserialize, Serialize};

use crate::job::outcome::{Made, Scored, SetScored};
use crate::job::task::Task;

pub use inputs::Inputs;
pub use memory::Memory;

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
    /// A file was made.
    Made {
        /// Where it is, in the scratch folder.
        file: OsString,
        /// Width and height of a picture, in pixels.
        size: Option<(u32, u32)>,
        /// Of an encoded prompt: tokens that the limits of CLIP-L, OpenCLIP-G and T5 cut off.
        n_cut: Option<[usize; 3]>,
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

/// Does a task; `progress` hears how far it is, as steps done and steps in all.
///
/// # Errors
/// Whatever kept it from being done, and whose fault it is.
pub fn run(
    task: &Task,
    inputs: &Inputs,
    memory: &mut Memory,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Output, TaskError> {
    match task {
        Task::Encode(task) => generate::encode(task, inputs, memory),
        Task::Denoise(task) => generate::denoise(task, inputs, memory, progress),
        Task::Decode(task) => generate::decode(task, inputs, memory),
        Task::Reconstruct(task) => reconstruct::run(task, inputs, memory),
        Task::Evaluate(task) => evaluate::run(task, inputs, memory),
        Task::Pool(task) => pool::run(task, inputs),
    }
}
