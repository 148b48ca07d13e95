//! The work itself. A task sees its payload and its inputs, never the queue or the database.

pub mod evaluate;
pub mod finetune;
pub mod generate;
pub mod inputs;
pub mod latents;
pub mod memory;
pub mod pool;
pub mod reconstruct;
pub mod rehearse;
mod shards;
pub mod shown;
pub mod supervisor;

use std::ffi::OsString;

use serde::{Deserialize, Serialize};

use crate::job::Hash;
use crate::job::outcome::{Made, Scored, SetScored};
use crate::job::task::Task;
use crate::judge::parse::Verdict;

pub use inputs::Inputs;
pub use memory::Memory;
pub use supervisor::Supervisor;

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
    /// A part of a model was trained.
    Trained(Trained),
    /// A set was scored.
    Pooled {
        /// Its scores.
        scores: Vec<SetScored>,
    },
    /// Pictures are ready to be sent; the agent asks about them.
    Ready {
        /// JPEG files in the scratch folder, in the order in which they are shown.
        files: Vec<OsString>,
    },
    /// A judge has answered. No slot says this: the agent does.
    Judged {
        /// One verdict for each aspect; choices are by the order in which the pictures were shown.
        verdicts: Vec<Verdict>,
        /// The exact version of the judge, where it is known.
        snapshot: Option<String>,
    },
    /// A captioner has answered. No slot says this: the agent does.
    Captioned {
        /// The caption.
        text: String,
        /// The exact version of the captioner, where it is known.
        snapshot: Option<String>,
    },
    /// A rehearsal is over.
    Rehearsed {
        /// The file that it made, in the scratch folder.
        file: Option<OsString>,
        /// Its scores.
        scores: Vec<Scored>,
    },
}

/// What training came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Trained {
    /// The trained part, in the scratch folder.
    pub file: OsString,
    /// How many pictures were learnt from.
    pub n_pictures: usize,
    /// Pictures that could not be decoded, held out or not: the hashes of their files, and why.
    pub left_out: Vec<(Hash, String)>,
    /// The loss on what is held out, after the last look; none where nothing is.
    pub held_out: Option<f64>,
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
    /// Memory ran out, the machine's or the GPU's: try again once where there is more.
    #[error("{0:#}")]
    Memory(anyhow::Error),
    /// It ended because it was asked to ([`Supervisor::stop_asked`]), and has saved what it had.
    #[error("stopped as asked")]
    Stopped,
}

/// Does a task, under the eyes of `supervisor`.
///
/// # Errors
/// Whatever kept it from being done, and whose fault it is.
pub fn run(
    task: &Task,
    inputs: &Inputs,
    memory: &mut Memory,
    supervisor: &mut dyn Supervisor,
) -> Result<Output, TaskError> {
    match task {
        Task::Encode(task) => generate::encode(task, inputs, memory),
        Task::Denoise(task) => generate::denoise(task, inputs, memory, supervisor),
        Task::Decode(task) => generate::decode(task, inputs, memory, supervisor),
        Task::Reconstruct(task) => reconstruct::run(task, inputs, memory),
        Task::Prepare(task) => latents::run(task, inputs, memory, supervisor),
        Task::Finetune(task) => finetune::run(task, inputs, memory, supervisor),
        Task::Evaluate(task) => evaluate::run(task, inputs, memory),
        Task::Pool(task) => pool::run(task, inputs),
        Task::Judge(task) => shown::judge(task, inputs),
        Task::Caption(task) => shown::caption(task, inputs),
        Task::Rehearse(task) => rehearse::run(task, inputs, supervisor),
    }
}
