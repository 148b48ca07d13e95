//! A sweep expanded: its cells, the jobs that they need and how the jobs depend on each other.

mod asking;
mod build;
mod expand;
mod making;
mod patches;
mod rehearse;
mod training;
mod trim;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::job::Hash;
use crate::job::needs::Needs;
use crate::job::task::Task;
use crate::job::task::making::{FileFormat, Latent, Part, Partition, Precision};
use crate::judge::cost::{PictureTokens, Prices, Tokens};
use crate::sweep::OnFailure;

pub use build::plan;

/// What a sweep comes to. Equal sweeps over equal files have equal plans.
#[derive(Clone, PartialEq, Debug)]
pub struct Plan {
    /// The sweep's name.
    pub name: String,
    /// What a failed job means for the rest.
    pub on_failure: OnFailure,
    /// Jobs of a higher priority are claimed first.
    pub priority: i16,
    /// So many of its jobs may run at a time; none for as many as will.
    pub max_running: Option<u32>,
    /// How long one attempt may take, by kind, where the sweep says so.
    pub limits: BTreeMap<String, Duration>,
    /// What is compared: the `[[images]]` blocks, then each point of the `[[damage]]`, `[[generate]]` and
    /// `[[reconstruct]]` blocks, then the `[[patches]]` of each of them.
    pub sources: Vec<Source>,
    /// One for each source and sample, source by source.
    pub cells: Vec<Cell>,
    /// The jobs: captions, what makes pictures, stage by stage, then evaluations, pools and what judges. No two have one key.
    pub jobs: Vec<Job>,
    /// Which job waits for which; parents stand before their children.
    pub edges: Vec<Edge>,
    /// The models that it trains, in the order of the `[[finetune]]` blocks.
    pub trainings: Vec<Training>,
    /// The `[[judge]]` and `[[caption]]` blocks: what may be spent on which jobs.
    pub asking: Vec<Asking>,
}

/// A model that a sweep trains.
#[derive(Clone, PartialEq, Debug)]
pub struct Training {
    /// What the sweep calls it: the block's name, and the values of what varies.
    pub name: String,
    /// Which part of it is trained.
    pub part: Part,
    /// What it starts from, as the sweep names it.
    pub base: String,
    /// The key of the job that trains it.
    pub key: Hash,
}

/// A block that asks a machine: how fast, and for how much. None of it is in a key.
#[derive(Clone, PartialEq, Debug)]
pub struct Asking {
    /// The block's name.
    pub name: String,
    /// The kind of its jobs.
    pub kind: &'static str,
    /// Who is asked.
    pub model: String,
    /// At most so many requests a minute.
    pub requests_per_minute: Option<f64>,
    /// At most so many tokens a minute.
    pub tokens_per_minute: Option<f64>,
    /// At most so many US dollars in all.
    pub budget: Option<f64>,
    /// What tokens cost.
    pub prices: Option<Prices>,
    /// Whether the prices are assumed, not the sweep's own.
    pub assumed: bool,
    /// What a picture counts as.
    pub pictures: PictureTokens,
    /// Whether that is assumed: neither the sweep nor our own table says it.
    pub pictures_assumed: bool,
    /// The share of the price that answers from batch files cost.
    pub batch: f64,
    /// The keys of its jobs, and the tokens that each is likely to take.
    pub requests: Vec<(Hash, Tokens)>,
}

/// A set of pictures that is compared with others as one.
#[derive(Clone, PartialEq, Debug)]
pub struct Source {
    /// Such as `photos` or `crops blur sigma=0.5`; no two of a plan are equal.
    pub name: String,
    /// The model that its pictures stand for, if the sweep says so; damaged pictures stand for none.
    pub model: Option<String>,
    /// Its place on a ladder of known damage.
    pub rung: Option<Rung>,
    /// How a model makes its pictures; none for pictures that exist.
    pub making: Option<Making>,
    /// The job that scores it as a set: index into [`Plan::jobs`].
    pub set: Option<usize>,
}

/// A source's place on a ladder of known damage.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Rung {
    /// The ladder's name: that of its block, `crops blur`.
    pub ladder: String,
    /// The undamaged source's name.
    pub of: String,
    /// `blur`, `resize`, `jpeg` or `noise`.
    pub kind: String,
    /// What is varied: `sigma`, `factor`, `quality`.
    pub parameter: String,
    /// Its value.
    pub level: f64,
    /// The same, signed so that more is worse: `-quality` for JPEG, else the level.
    pub severity: f64,
}

/// How a model makes a source's pictures.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Making {
    /// Of prompts.
    Generated {
        /// The package, as the sweep names it.
        model: String,
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
        /// Steps of the schedule.
        steps: u32,
        /// Classifier-free guidance.
        guidance: f64,
        /// The negative prompt; none without guidance.
        negative: Option<String>,
        /// Seed of the noise.
        seed: u64,
        /// How many tokens T5 takes.
        t5_tokens: u32,
        /// What the models compute in.
        dtype: Precision,
        /// How the strided end of the decoder is computed.
        partition: Partition,
        /// How pictures are written.
        format: FileFormat,
    },
    /// Of other pictures, through an autoencoder.
    Reconstructed {
        /// The package, as the sweep names it.
        model: String,
        /// The originals' source.
        of: String,
        /// Which latent stands for a picture.
        latent: Latent,
        /// How the strided end of the decoder is computed.
        partition: Partition,
        /// What the autoencoder computes in.
        dtype: Precision,
    },
}

/// One point of a sweep: one picture of one source.
#[derive(Clone, PartialEq, Debug)]
pub struct Cell {
    /// Index into [`Plan::sources`].
    pub source: usize,
    /// What pairs it with other sources' cells.
    pub sample: String,
    /// Its picture's key.
    pub key: Hash,
    /// The jobs that score it: indices into [`Plan::jobs`]. First that of the metrics that need no network, then one for each
    /// network; none where nothing is left to score.
    pub jobs: Vec<usize>,
    /// The file that the picture is made from, absolute; none for what a model makes of a prompt.
    pub path: Option<PathBuf>,
    /// What the picture shows, where somebody said so: the prompt of what a model makes.
    pub caption: Option<String>,
}

/// One job to be.
#[derive(Clone, PartialEq, Debug)]
pub struct Job {
    /// Its task's key.
    pub key: Hash,
    /// What it does.
    pub task: Task,
    /// The key of the picture that it makes or scores.
    pub subject: Option<Hash>,
    /// The key of the picture that it is compared with.
    pub reference: Option<Hash>,
    /// The content of the picture that it decodes, or the part of a package that it loads: a slot that has it in
    /// memory takes the job sooner.
    pub affinity: Option<Hash>,
    /// Size of the picture, 10^6 pixels; 0 where unknown.
    pub megapixels: f32,
    /// What it asks of a slot.
    pub needs: Arc<Needs>,
}

/// One job waits for another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Edge {
    /// Index into [`Plan::jobs`].
    pub parent: usize,
    /// Index into [`Plan::jobs`].
    pub child: usize,
    /// What the child waits for.
    pub kind: EdgeKind,
}

/// What a child waits for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum EdgeKind {
    /// The parent's result: without it the child cannot run.
    Needs,
    /// The parent's end, however it ends.
    After,
}

impl Plan {
    /// The hash of all that the sweep asks for: its name, sources, pictures, tasks, and what its blocks that ask are called.
    /// Where the files lie and in which hurry they are does not matter.
    pub fn key(&self) -> Hash {
        let mut hasher = blake3::Hasher::new();
        hash_text(&mut hasher, &self.name);
        hasher.update(&(self.sources.len() as u64).to_le_bytes());
        for source in &self.sources {
            hash_text(&mut hasher, &source.name);
            hash_text(&mut hasher, source.model.as_deref().unwrap_or_default());
        }
        hasher.update(&(self.cells.len() as u64).to_le_bytes());
        for cell in &self.cells {
            hasher.update(&(cell.source as u64).to_le_bytes());
            hash_text(&mut hasher, &cell.sample);
            hasher.update(&cell.key.0);
        }
        for job in &self.jobs {
            hasher.update(&job.key.0);
        }
        // Those that train none keep the key that they had before any did.
        for it in &self.trainings {
            hash_text(&mut hasher, &it.name);
            hasher.update(&it.key.0);
        }
        // Under another name a block has a budget of its own.
        for block in &self.asking {
            hash_text(&mut hasher, &block.name);
        }
        Hash(*hasher.finalize().as_bytes())
    }

    /// How long one attempt of a task may take.
    pub fn limit(&self, task: &Task) -> Duration {
        self.limits.get(task.kind()).copied().unwrap_or_else(|| task.limit())
    }

    /// How many jobs of each kind it has.
    pub fn counts(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for job in &self.jobs {
            *counts.entry(job.task.kind()).or_default() += 1;
        }
        counts
    }
}

/// Its length comes first, so that no two sequences of texts look alike.
fn hash_text(hasher: &mut blake3::Hasher, text: &str) {
    hasher.update(&(text.len() as u64).to_le_bytes());
    hasher.update(text.as_bytes());
}
