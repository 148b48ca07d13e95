//! What people and machine judges say, beside what metrics say: correlations, preferences, strengths, comparisons.

use serde::Serialize;

use crate::labels::JudgeKind;
use crate::labels::agreement::Agreement;
use crate::stats::bradley_terry::{Outcomes, Strengths};
use crate::stats::logistic::Logistic;
use crate::stats::paired::Comparison;
use crate::stats::preference::{PositionBias, Tally, TwoWay};
use crate::stats::study::Coefficients;
use crate::stats::{Defined, Interval};

/// Everything that was said of the pictures.
#[derive(Clone, Debug, Serialize)]
pub struct Opinions {
    /// Each metric against each judge's opinions of each aspect.
    pub correlations: Vec<OpinionTable>,
    /// Side against side, by aspect and judge.
    pub preferences: Vec<Preference>,
    /// One strength for each side, by aspect and judge; where three sides were compared at least.
    pub strengths: Vec<StrengthTable>,
    /// How judges answered.
    pub judges: Vec<JudgeRow>,
    /// How far raters agree.
    pub agreement: Agreement,
    /// Labels that could not be used, and why.
    pub unused: Vec<(usize, String)>,
}

/// Who judges: all people together, or one machine.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct By {
    /// What kind.
    pub kind: JudgeKind,
    /// `people`, or the machine's name with the variant of its prompts.
    pub name: String,
}

/// What an opinion of a picture is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// The mean of its ratings.
    Ratings,
    /// The share of choices that it won, ties for one half.
    Choices,
}

/// Metrics against one judge's opinions: the paper's Table 1.
#[derive(Clone, Debug, Serialize)]
pub struct OpinionTable {
    /// Whose opinions.
    pub by: By,
    /// Of what.
    pub aspect: String,
    /// What they are.
    pub basis: Basis,
    /// Whether they are of parts of pictures, scored by themselves.
    pub patches: bool,
    /// How many raters.
    pub n_raters: usize,
    /// One for each metric that has scores of them, the best SRCC first.
    pub rows: Vec<OpinionRow>,
}

/// One metric against opinions.
#[derive(Clone, Debug, Serialize)]
pub struct OpinionRow {
    /// Index into [`super::Report::metrics`].
    pub metric: usize,
    /// Whether the score was taken with a minus, as lower is better.
    pub turned: bool,
    /// Pictures, or parts of them.
    pub n: usize,
    /// Whether several pictures are of one sample, and were drawn together.
    pub clustered: bool,
    /// The coefficients.
    pub coefficients: Coefficients,
    /// The p-value that its SRCC is that of the first row's, paired bootstrap over the pictures that both have, Holm's
    /// adjustment over the table; none for the first.
    pub p_first: Option<f64>,
    /// Of choices: how often the metric prefers what the judge does.
    pub two_way: Option<TwoWay>,
    /// The logistic curve.
    pub fit: Option<Logistic>,
    /// Score, turned if need be, and opinion of each picture.
    pub points: Vec<(f64, f64)>,
}

/// How often one side was preferred to another: a row of the paper's Figure 6.
#[derive(Clone, Debug, Serialize)]
pub struct Preference {
    /// On what.
    pub aspect: String,
    /// By whom.
    pub by: By,
    /// The side that wins are of.
    pub first: String,
    /// The other.
    pub second: String,
    /// Wins, ties and losses of the first.
    pub tally: Tally,
    /// Ties among them that are answers which turned with the order shown.
    pub n_turned: usize,
    /// Samples.
    pub n_samples: usize,
    /// (wins + ties / 2) / n.
    pub win_rate: Defined,
    /// Its interval: Wilson's, or where a sample has several answers a bootstrap over samples.
    pub interval: Option<Interval>,
    /// Whether the interval is the bootstrap's.
    pub clustered: bool,
    /// The two-sided exact sign test, ties left out.
    pub p: Defined,
    /// The same with Holm's adjustment over all rows.
    pub p_holm: Option<f64>,
}

/// Strengths of several sides.
#[derive(Clone, Debug, Serialize)]
pub struct StrengthTable {
    /// On what.
    pub aspect: String,
    /// By whom.
    pub by: By,
    /// The sides.
    pub sides: Vec<String>,
    /// How often which was preferred to which.
    pub outcomes: Outcomes,
    /// Bradley and Terry's model with Davidson's ties.
    pub strengths: Defined<Strengths>,
    /// The intervals of the logarithms of the strengths, from the observed information.
    pub intervals: Vec<Interval>,
}

/// How a judge answered.
#[derive(Clone, Debug, Serialize)]
pub struct JudgeRow {
    /// Who.
    pub by: By,
    /// Answers.
    pub n: usize,
    /// Answers that say nothing of it.
    pub n_invalid: usize,
    /// Pairs that were asked in both orders.
    pub n_both: usize,
    /// Those among them where the answer turned with the order.
    pub n_turned: usize,
    /// Whether it prefers what is shown first.
    pub position: PositionBias,
}

/// Two entrants that have no sample in common, compared by one metric: set against set.
#[derive(Clone, Debug, Serialize)]
pub struct Unpaired {
    /// Index into [`super::Report::entrants`].
    pub first: usize,
    /// Index into [`super::Report::entrants`].
    pub second: usize,
    /// Index into [`super::Report::metrics`].
    pub metric: usize,
    /// How many samples each has.
    pub n: [usize; 2],
    /// The mean of each.
    pub means: [f64; 2],
    /// The first's less the second's.
    pub difference: f64,
    /// Its interval: percentile bootstrap, each set drawn for itself; none where one has fewer than three.
    pub interval: Option<Interval>,
    /// Two-sided, from the same resamples: how often the sign turns.
    pub p: Option<f64>,
    /// The same with Holm's adjustment over all of these.
    pub p_holm: Option<f64>,
}

/// Two entrants compared by one metric, sample by sample and seed by seed.
#[derive(Clone, Debug, Serialize)]
pub struct PairComparison {
    /// Index into [`super::Report::entrants`].
    pub first: usize,
    /// Index into [`super::Report::entrants`].
    pub second: usize,
    /// Index into [`super::Report::metrics`].
    pub metric: usize,
    /// Whether seeds were paired too; else each sample counts with the mean of its seeds.
    pub by_seed: bool,
    /// The first less the second.
    pub comparison: Comparison,
    /// The p-value of Wilcoxon's test with Holm's adjustment over all comparisons shown.
    pub p_holm: Option<f64>,
}
