//! What one sweep found: everything that a report is computed from, as one plain value.

use serde::{Deserialize, Serialize};

use crate::job::task::finetune::Finetune;
use crate::job::task::{MetricId, Picture};
use crate::job::{Hash, JobId, State};
use crate::labels::{Rating, Verdict};
pub use crate::plan::{Making, Rung};
pub use crate::store::asking::Spending;

/// A sweep and all that is known of it at one moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Findings {
    /// The sweep's id, such as `demo-3f9a2c01`.
    pub sweep: String,
    /// Its name.
    pub name: String,
    /// The sweep file as it was enqueued.
    pub definition: String,
    /// When it was enqueued, RFC 3339, UTC.
    pub enqueued_at: String,
    /// When this was read, RFC 3339, UTC.
    pub read_at: String,
    /// `jobctl` version, with its commit where known.
    pub program: String,
    /// The machines that worked on it: "host: what they are", sorted.
    pub machines: Vec<String>,
    /// Seconds of work over all attempts.
    pub busy_seconds: f64,
    /// Jobs by state; states without jobs are absent.
    pub jobs: Vec<(State, u64)>,
    /// What is compared, in the order of the sweep.
    pub sources: Vec<Source>,
    /// One per cell.
    pub images: Vec<Image>,
    /// All their scores.
    pub scores: Vec<Score>,
    /// Scores of whole sources.
    pub set_scores: Vec<SetScore>,
    /// What was said of the pictures, a number each.
    #[serde(default)]
    pub ratings: Vec<Rating>,
    /// What was said of two of them.
    #[serde(default)]
    pub verdicts: Vec<Verdict>,
    /// What machines were asked, block by block, and what that cost.
    #[serde(default)]
    pub asked: Vec<Spending>,
    /// What is said that pictures of data sets show.
    #[serde(default)]
    pub captions: Vec<Caption>,
    /// What making pictures took.
    #[serde(default)]
    pub efforts: Vec<Effort>,
    /// What did not work, and why.
    pub failures: Vec<Failure>,
    /// The models that it trains.
    #[serde(default)]
    pub trainings: Vec<Training>,
}

/// A model that a sweep trains.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Training {
    /// What the sweep calls it.
    pub name: String,
    /// What it starts from.
    pub base: String,
    /// The job that trains it.
    pub job: JobId,
    /// The job's state.
    pub state: State,
    /// How it is trained, without the keys of what it learns from.
    pub task: Finetune,
    /// How many pictures were learnt from, once the job is done.
    pub n_pictures: Option<u32>,
    /// Pictures that could not be decoded, and why.
    pub left_out: Vec<(Hash, String)>,
    /// Pictures that were made on the way, by prompt and step.
    #[serde(default)]
    pub frames: Vec<Frame>,
    /// What it is looked at with: models of one hash have the same held-out latents and texts.
    #[serde(default = "nothing")]
    pub looked_at: Hash,
    /// Its curves so far.
    pub curves: Vec<Curve>,
}

/// A picture that a training job has made on the way.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Frame {
    /// Which of the task's texts it shows.
    pub idx: usize,
    /// After how many steps.
    pub step: u64,
    /// Its file.
    pub path: std::path::PathBuf,
}

/// Numbers that a training job has reported.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Curve {
    /// Such as `loss`, `loss/HH1`, `held_out`.
    pub name: String,
    /// Steps done, and the value; none where it was not finite.
    pub points: Vec<(u64, Option<f64>)>,
}

/// A set of images that is compared with others as one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Source {
    /// Such as `photos` or `crops blur sigma=0.5`.
    pub name: String,
    /// The model that its pictures stand for, if the sweep says so.
    pub model: Option<String>,
    /// Its place on a ladder of known damage.
    pub rung: Option<Rung>,
    /// How a model makes its pictures; none for pictures that exist.
    #[serde(default)]
    pub making: Option<Making>,
}

/// One cell's picture.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Image {
    /// Index into [`Findings::sources`].
    pub source: usize,
    /// What pairs it with other sources' images: the path below its folder, without extension.
    pub sample: String,
    /// The recipe's hash.
    pub key: Hash,
    /// The recipe.
    pub picture: Picture,
    /// Size in pixels; absent where it was never decoded.
    pub size: Option<(u32, u32)>,
    /// The file it comes from, where this machine knows one.
    pub path: Option<std::path::PathBuf>,
    /// The hash of that file's bytes.
    pub content: Hash,
    /// The prompt it was generated of.
    #[serde(default)]
    pub prompt: Option<String>,
    /// How many tokens of the prompt the limits of CLIP-L, OpenCLIP-G and T5 cut off; empty where that means nothing.
    #[serde(default)]
    pub n_cut: Vec<u32>,
    /// What it is a reconstruction of.
    #[serde(default)]
    pub original: Option<Original>,
    /// A small JPEG of it, where there is one.
    pub preview: Option<std::path::PathBuf>,
}

/// The original of a reconstruction.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Original {
    /// Its recipe.
    pub picture: Picture,
    /// The file it comes from, where this machine knows one.
    pub path: Option<std::path::PathBuf>,
}

/// One score of one image.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Score {
    /// Index into [`Findings::images`].
    pub image: usize,
    /// Which metric.
    pub metric: MetricId,
    /// The value; none where it is undefined.
    pub value: Option<f64>,
    /// Why it is undefined.
    pub why: Option<String>,
    /// What a reader of the value should know.
    pub note: Option<String>,
}

/// One score of a whole source.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SetScore {
    /// Index into [`Findings::sources`].
    pub source: usize,
    /// Which metric.
    pub metric: MetricId,
    /// The value; none where it is undefined.
    pub value: Option<f64>,
    /// Why it is undefined.
    pub why: Option<String>,
    /// How many images it was computed over.
    pub n: u64,
}

/// What is said that a picture shows which no model made.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Caption {
    /// Index into [`Findings::images`].
    pub image: usize,
    /// The machine that says so; none for the sweep's own files.
    pub by: Option<String>,
    /// What it shows.
    pub text: String,
}

/// What making a picture took, as far as its jobs have measured it.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Effort {
    /// Index into [`Findings::images`].
    pub image: usize,
    /// Seconds of a step of denoising: the median without the first. Both velocities of guidance are one step.
    pub step_s: Option<f64>,
    /// The most memory in use meanwhile, in GiB: of the GPU by whatever process, on a CPU of the slot's process.
    pub denoise_gib: Option<f64>,
    /// The same while the picture was decoded.
    pub decode_gib: Option<f64>,
    /// The GPU that denoised it, or what the machine is.
    pub device: Option<String>,
}

/// A job that ended without a result.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// The job.
    pub job: JobId,
    /// Its kind.
    pub kind: String,
    /// Failed, cancelled or skipped.
    pub state: State,
    /// Which source's picture it was about: index into [`Findings::sources`].
    pub source: Option<usize>,
    /// Which sample.
    pub sample: Option<String>,
    /// What went wrong.
    pub error: String,
    /// How often it was tried.
    pub n_attempts: u32,
    /// Whether its last attempt ran out of memory.
    #[serde(default)]
    pub out_of_memory: bool,
}

/// What findings say that were written before it was known.
fn nothing() -> Hash {
    Hash([0; 32])
}
