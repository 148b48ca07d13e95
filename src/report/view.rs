//! What a report says, as one plain value: computed first, pinned by tests, then rendered.

mod board;
mod opinions;
mod paper;
mod relation;
mod tuning;

use serde::Serialize;

pub use self::board::{Entrant, Lead, Standing};
pub use self::opinions::{
    Basis, By, JudgeRow, OpinionRow, OpinionTable, Opinions, PairComparison, Preference, StrengthTable, Unpaired,
};
pub use self::paper::{EffortRow, PaperColumn, PaperRow, PaperTable, PaperValue, SizeRow, Sizes};
pub use self::relation::{Correlation, Fit, How, Point, Relation, RelationRow};
pub use self::tuning::{Beside, LossDifference, Strip, Tuning};
use super::history::Nights;
use crate::job::task::MetricId;
use crate::job::task::making::Part;
use crate::job::{Hash, State};
use crate::metrics::Better;
use crate::stats::bootstrap::Bootstrap;
use crate::stats::{Interval, Undefined};
use crate::store::findings::{Failure, Making, Rung, Spending};

/// A report before it is rendered. `report.json` is its JSON.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The sweep and how its work went.
    pub run: Run,
    /// What the numbers say, in plain sentences.
    pub conclusions: Vec<Conclusion>,
    /// The metrics that have scores; other parts refer to them by index.
    pub metrics: Vec<Column>,
    /// The sources in the order of the sweep; other parts refer to them by index.
    pub sources: Vec<SourceRow>,
    /// Scores of whole sources.
    pub set_scores: Vec<SetColumn>,
    /// Models against each other, the best mean rank first; then pictures that nobody made.
    pub entrants: Vec<Entrant>,
    /// Who leads by which main metric; none with fewer than two models.
    pub leads: Vec<Lead>,
    /// Models compared two by two, metric by metric.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub comparisons: Vec<PairComparison>,
    /// Models that have no sample in common, set against set.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unpaired: Vec<Unpaired>,
    /// What people and machine judges say of the pictures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opinions: Option<Opinions>,
    /// What machines were asked, and what that cost.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub asked: Vec<Spending>,
    /// The paper's tables for which there is something of ours.
    pub paper: Vec<PaperTable>,
    /// What making pictures took, by entrant and device.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub efforts: Vec<EffortRow>,
    /// How large the pictures of data sets are.
    pub sizes: Option<Sizes>,
    /// Ladders of known damage.
    pub ladders: Vec<Ladder>,
    /// GLCM Score against compression ratio, where both were computed.
    pub relation: Option<Relation>,
    /// Samples for the gallery, those on which metrics disagree most first.
    pub samples: Vec<Sample>,
    /// Scores that are undefined or were not computed.
    pub gaps: Vec<Gap>,
    /// What a reader of some scores should know, such as pixels that they leave out.
    pub remarks: Vec<Gap>,
    /// Jobs that ended without a result.
    pub failures: Vec<Failure>,
    /// Every image: what it is made of.
    pub images: Vec<ImageRow>,
    /// How intervals were made.
    pub bootstrap: Bootstrap,
    /// The night against those before it, where a definition asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nights: Option<Nights>,
    /// The models that the sweep trains.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trainings: Vec<TrainedModel>,
    /// What training them came to, over seeds and held-out pictures.
    #[serde(skip_serializing_if = "Tuning::is_empty")]
    pub tuning: Tuning,
}

/// A model that the sweep trains.
#[derive(Clone, Debug, Serialize)]
pub struct TrainedModel {
    /// What the sweep calls it.
    pub name: String,
    /// What it starts from.
    pub base: String,
    /// Which part of it is trained.
    pub part: Part,
    /// The state of the job that trains it.
    pub state: State,
    /// Steps done.
    pub n_done: u64,
    /// Steps in all.
    pub n_steps: u64,
    /// How it is trained: names and values.
    pub settings: Vec<(String, String)>,
    /// How many pictures were learnt from; none before the end.
    pub n_pictures: Option<u32>,
    /// Pictures that could not be decoded: hash and reason.
    pub left_out: Vec<String>,
    /// The held-out loss before the first step and of the weights that come out; none where nothing is held out.
    pub held_out: Option<(f64, f64)>,
    /// The parts of the held-out loss.
    pub parts: Vec<LossPart>,
    /// The median speed.
    pub images_per_s: Option<f64>,
    /// The most memory that was in use.
    pub most_gib: Option<f64>,
    /// The loss by step.
    pub loss: TrainingCurve,
    /// The held-out loss by step.
    pub looks: TrainingCurve,
}

/// A part of a held-out loss.
#[derive(Clone, Debug, Serialize)]
pub struct LossPart {
    /// Such as `HH1`.
    pub name: String,
    /// Before the first step.
    pub first: f64,
    /// Of the weights that come out.
    pub last: f64,
}

/// A curve as it is drawn.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TrainingCurve {
    /// Steps and values.
    pub points: Vec<(u64, f64)>,
    /// How many points that were reported are in one of these.
    pub n_in_one: usize,
}

/// The sweep and how its work went.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// The sweep's id.
    pub sweep: String,
    /// Its name.
    pub name: String,
    /// The sweep file.
    pub definition: String,
    /// When it was enqueued, RFC 3339.
    pub enqueued_at: String,
    /// When the numbers were read, RFC 3339.
    pub read_at: String,
    /// Program and version.
    pub program: String,
    /// Who worked on it.
    pub machines: Vec<String>,
    /// Seconds of work over all attempts.
    pub busy_seconds: f64,
    /// Jobs by state.
    pub jobs: Vec<(State, u64)>,
}

/// One sentence, and how it is to be taken.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Conclusion {
    /// How it is to be taken.
    pub tone: Tone,
    /// The sentence.
    pub text: String,
}

/// How a sentence is to be taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tone {
    /// As it should be.
    Right,
    /// Not as it should be.
    Wrong,
    /// The data do not decide.
    Unclear,
    /// A fact.
    Plain,
}

/// A metric that has scores.
#[derive(Clone, Debug, Serialize)]
pub struct Column {
    /// Metric, variant and version.
    pub id: MetricId,
    /// What people call it, with its variant where that is not the default.
    pub label: String,
    /// Its unit, or nothing.
    pub unit: String,
    /// Which way is better; unknown for metrics that this version of the program does not have.
    pub better: Option<Better>,
    /// What it measures.
    pub about: String,
    /// Whether it stands for its metric: the default variant, or the first one that has scores.
    pub main: bool,
}

/// A source and its scores.
#[derive(Clone, Debug, Serialize)]
pub struct SourceRow {
    /// Its name.
    pub name: String,
    /// The model that it stands for.
    pub model: Option<String>,
    /// Its place on a ladder.
    pub rung: Option<Rung>,
    /// How a model makes its pictures; none for pictures that exist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub making: Option<Making>,
    /// Of generated images: how many have a prompt of which some encoder's limit cut something off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n_truncated: Option<usize>,
    /// Sources of one family are shown in one colour: its ladder, or itself.
    pub family: usize,
    /// How many images it has.
    pub n_images: usize,
    /// One for each of [`Report::metrics`].
    pub cells: Vec<Cell>,
}

/// The scores of one source by one metric.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    /// How many images have a value.
    pub n: usize,
    /// How many have none because it is undefined.
    pub n_undefined: usize,
    /// How many were not scored.
    pub n_missing: usize,
    /// The mean of the values.
    pub mean: Result<f64, Undefined>,
    /// The interval of the mean, BCa bootstrap over images.
    pub interval: Option<Interval>,
    /// Their standard deviation.
    pub sd: Result<f64, Undefined>,
    /// Lower quartile, median, upper quartile.
    pub quartiles: Option<[f64; 3]>,
    /// The values, in the order of the images.
    pub values: Vec<f64>,
}

/// A set score over all sources.
#[derive(Clone, Debug, Serialize)]
pub struct SetColumn {
    /// Which metric.
    pub id: MetricId,
    /// What people call it.
    pub label: String,
    /// Its unit, or nothing.
    pub unit: String,
    /// Which way is better.
    pub better: Option<Better>,
    /// One for each of [`Report::sources`].
    pub cells: Vec<Option<SetCell>>,
}

/// The set score of one source.
#[derive(Clone, Debug, Serialize)]
pub struct SetCell {
    /// Its value.
    pub value: Option<f64>,
    /// Why it has none.
    pub why: Option<String>,
    /// Over how many images.
    pub n: u64,
    /// Its interval, percentile bootstrap over samples.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Interval>,
    /// Why a value has no interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_interval: Option<String>,
}

/// A ladder of known damage.
#[derive(Clone, Debug, Serialize)]
pub struct Ladder {
    /// Such as `crops blur`.
    pub name: String,
    /// The undamaged source's name.
    pub of: String,
    /// The kind of damage.
    pub kind: String,
    /// What is varied.
    pub parameter: String,
    /// From no damage, where that source is there, to the worst.
    pub rungs: Vec<RungRow>,
    /// One for each of [`Report::metrics`].
    pub results: Vec<LadderResult>,
}

/// One rung.
#[derive(Clone, Debug, Serialize)]
pub struct RungRow {
    /// Index into [`Report::sources`].
    pub source: usize,
    /// The parameter's value; none for the undamaged source.
    pub level: Option<f64>,
}

/// What one metric makes of one ladder.
#[derive(Clone, Debug, Serialize)]
pub struct LadderResult {
    /// The scores of each sample along the ladder.
    pub lines: Vec<Line>,
    /// The mean over samples on each rung.
    pub means: Vec<Result<f64, Undefined>>,
    /// Mean over samples of the rank correlation of severity with badness: 1 is the right order, −1 the reverse.
    pub agreement: Result<f64, Undefined>,
    /// Its interval, percentile bootstrap over samples.
    pub interval: Option<Interval>,
    /// How many samples it is over.
    pub n: usize,
    /// How many of them stand in exactly the right order.
    pub n_perfect: usize,
    /// How many stand in exactly the reverse order.
    pub n_reversed: usize,
    /// What that comes to.
    pub verdict: Verdict,
}

/// One sample's scores along a ladder.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// The sample.
    pub sample: String,
    /// One for each rung.
    pub values: Vec<Option<f64>>,
    /// Rank correlation of severity with badness.
    pub agreement: Result<f64, Undefined>,
}

/// Whether a metric orders a ladder as it should.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The whole interval is above 0: more damage, worse scores.
    Right,
    /// The whole interval is below 0: more damage, better scores.
    Wrong,
    /// The interval holds 0.
    Unclear,
    /// There is no correlation or no interval.
    Undefined,
}

/// A sample and its place in the gallery.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// Its name.
    pub name: String,
    /// 1 − the mean rank correlation between metrics over its images: 0 when all order them equally.
    pub disagreement: Option<f64>,
    /// Indices into [`Report::images`], in the order of the sources.
    pub images: Vec<usize>,
}

/// Scores that are not there, or of which there is something to be known.
#[derive(Clone, Debug, Serialize)]
pub struct Gap {
    /// Index into [`Report::metrics`].
    pub metric: usize,
    /// Index into [`Report::sources`].
    pub source: usize,
    /// Why, or what.
    pub why: String,
    /// Of which samples.
    pub samples: Vec<String>,
}

/// One image: what it is made of.
#[derive(Clone, Debug, Serialize)]
pub struct ImageRow {
    /// Index into [`Report::sources`].
    pub source: usize,
    /// What pairs it with others; a second image of one source and name gets a number.
    pub sample: String,
    /// Size in pixels.
    pub size: Option<(u32, u32)>,
    /// The hash of the recipe.
    pub key: Hash,
    /// The hash of the file.
    pub content: Hash,
    /// The prompt it was generated of; of a model's pictures that were made elsewhere, what the sweep's captions say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// What is said that it shows, where no model made it: by the sweep's files first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub captions: Vec<Caption>,
    /// One for each of [`Report::metrics`].
    pub scores: Vec<Option<f64>>,
}

/// What is said that a picture shows.
#[derive(Clone, Debug, Serialize)]
pub struct Caption {
    /// The machine that says so; none for the sweep's own files.
    pub by: Option<String>,
    /// What it shows.
    pub text: String,
}
