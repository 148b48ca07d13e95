//! One strength for each of several sides from choices between two of them: Bradley and Terry's model with Davidson's ties.

use statrs::distribution::{ContinuousCDF, Normal};

use super::solve::{inverse, solve};
use super::{Defined, Interval, Undefined};

/// More steps than Newton's method needs where there is an answer.
const MOST_STEPS: usize = 100;
/// Beyond such a difference of logarithms a strength is running away: odds of ten million to one.
const FARTHEST: f64 = 16.0;

/// How often each side beat each other one, and how often neither did.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Outcomes {
    /// `wins[a][b]`: a was preferred to b.
    pub wins: Vec<Vec<u64>>,
    /// `ties[a][b]`, the same as `ties[b][a]`.
    pub ties: Vec<Vec<u64>>,
}

impl Outcomes {
    /// No choice yet between `n` sides.
    pub fn new(n: usize) -> Self {
        Self { wins: vec![vec![0; n]; n], ties: vec![vec![0; n]; n] }
    }

    /// Notes that `winner` was preferred to `loser`.
    pub fn win(&mut self, winner: usize, loser: usize) {
        self.wins[winner][loser] += 1;
    }

    /// Notes that neither was preferred.
    pub fn tie(&mut self, one: usize, other: usize) {
        self.ties[one][other] += 1;
        self.ties[other][one] += 1;
    }

    /// How many sides there are.
    pub fn n_sides(&self) -> usize {
        self.wins.len()
    }
}

/// Fitted strengths. P(a beats b) = πa / (πa + πb + ν √(πa πb)), P(tie) = ν √(πa πb) / (the same) (Davidson 1970).
#[derive(Clone, Debug, serde::Serialize)]
pub struct Strengths {
    /// ln π of each side; their mean is 0.
    pub log_strengths: Vec<f64>,
    /// ν: 0 where there was no tie.
    pub tie: f64,
    /// The log likelihood.
    pub log_likelihood: f64,
    /// The covariances of `log_strengths`, row by row, from the observed information.
    #[serde(skip)]
    covariance: Vec<f64>,
}

impl Strengths {
    /// The chances that `a` beats `b`, that neither does, and that `b` beats `a`.
    pub fn chances(&self, a: usize, b: usize) -> [f64; 3] {
        chances((self.log_strengths[a] - self.log_strengths[b]) / 2.0, self.tie)
    }

    /// The interval of ln π of a side (Wald's).
    pub fn interval(&self, side: usize, level: f64) -> Interval {
        let n = self.log_strengths.len();
        let reach =
            Normal::standard().inverse_cdf(0.5 + level / 2.0) * self.covariance[side * n + side].max(0.0).sqrt();
        Interval { low: self.log_strengths[side] - reach, high: self.log_strengths[side] + reach }
    }

    /// The standard error of ln π of `a` less that of `b`.
    pub fn standard_error(&self, a: usize, b: usize) -> f64 {
        let n = self.log_strengths.len();
        let at = |row: usize, col: usize| self.covariance[row * n + col];
        (at(a, a) + at(b, b) - 2.0 * at(a, b)).max(0.0).sqrt()
    }
}

fn chances(half: f64, tie: f64) -> [f64; 3] {
    // Divided by the largest: no power overflows.
    let most = half.abs();
    let (win, loss, tie) = ((half - most).exp(), (-half - most).exp(), tie * (-most).exp());
    let sum = win + loss + tie;
    [win / sum, tie / sum, loss / sum]
}

/// Log likelihood, gradient and negative curvature by ln π of each side, and at the end by ln ν.
struct Slope {
    log_likelihood: f64,
    gradient: Vec<f64>,
    information: Vec<f64>,
}

fn slope(outcomes: &Outcomes, at: &[f64], has_ties: bool) -> Slope {
    let n_sides = outcomes.n_sides();
    let size = n_sides + 1;
    let nu = if has_ties { at[n_sides].exp() } else { 0.0 };
    let mut slope = Slope { log_likelihood: 0.0, gradient: vec![0.0; size], information: vec![0.0; size * size] };
    for a in 0..n_sides {
        for b in 0..a {
            let (wins, losses) = (outcomes.wins[a][b] as f64, outcomes.wins[b][a] as f64);
            let ties = outcomes.ties[a][b] as f64;
            let n = wins + losses + ties;
            if n == 0.0 {
                continue;
            }
            let [win, tie, loss] = chances((at[a] - at[b]) / 2.0, nu);
            let times_ln = |count: f64, chance: f64| if count == 0.0 { 0.0 } else { count * chance.ln() };
            slope.log_likelihood += times_ln(wins, win) + times_ln(losses, loss) + times_ln(ties, tie);
            // By the difference of the two, then by ln ν.
            let by_half = (wins - losses - n * (win - loss)) / 2.0;
            slope.gradient[a] += by_half;
            slope.gradient[b] -= by_half;
            slope.gradient[n_sides] += ties - n * tie;
            let curve = n * (win + loss - (win - loss).powi(2)) / 4.0;
            let cross = -n * (win - loss) * tie / 2.0;
            for (row, col, value) in [
                (a, a, curve),
                (b, b, curve),
                (a, b, -curve),
                (b, a, -curve),
                (a, n_sides, cross),
                (n_sides, a, cross),
                (b, n_sides, -cross),
                (n_sides, b, -cross),
                (n_sides, n_sides, n * tie * (1.0 - tie)),
            ] {
                slope.information[row * size + col] += value;
            }
        }
    }
    // What holds the mean of the strengths at 0; where nothing ties, ν as well.
    for row in 0..n_sides {
        for col in 0..n_sides {
            slope.information[row * size + col] += 1.0;
        }
    }
    if !has_ties {
        slope.gradient[n_sides] = 0.0;
        slope.information[size * size - 1] = 1.0;
    }
    slope
}

/// The strengths of greatest likelihood, by Newton's method. Undefined where fewer than two sides were compared, and
/// where some have no finite strength: one wins or loses always, or two groups never met.
pub fn fit(outcomes: &Outcomes) -> Defined<Strengths> {
    let n_sides = outcomes.n_sides();
    let total = |counts: &Vec<Vec<u64>>| counts.iter().flatten().sum::<u64>();
    let (n_decisive, n_ties) = (total(&outcomes.wins), total(&outcomes.ties) / 2);
    if n_sides < 2 || n_decisive + n_ties == 0 {
        return Err(Undefined::TooFew);
    }
    if n_decisive == 0 {
        return Err(Undefined::Separated);
    }
    let has_ties = n_ties > 0;
    let mut at = vec![0.0; n_sides + 1];
    let mut now = slope(outcomes, &at, has_ties);
    for _ in 0..MOST_STEPS {
        let step = solve(&now.information, &now.gradient).ok_or(Undefined::Separated)?;
        let mut length = 1.0;
        let (next, next_slope) = loop {
            let next: Vec<f64> = at.iter().zip(&step).map(|(at, step)| at + length * step).collect();
            let slope = slope(outcomes, &next, has_ties);
            // The likelihood is concave: a shorter step goes up, until rounding is all that is left.
            if slope.log_likelihood >= now.log_likelihood || length < 1e-9 {
                break (next, slope);
            }
            length /= 2.0;
        };
        let moved = step.iter().fold(0.0, |most: f64, it| most.max((it * length).abs()));
        (at, now) = (next, next_slope);
        let strengths = &at[..n_sides];
        let reach = strengths.iter().fold(0.0, |most: f64, it| most.max(it.abs()));
        if reach > FARTHEST || !reach.is_finite() {
            return Err(Undefined::Separated);
        }
        if moved < 1e-12 {
            let size = n_sides + 1;
            let inverse = inverse(&now.information, size).ok_or(Undefined::Separated)?;
            let shared = 1.0 / (n_sides * n_sides) as f64;
            let covariance =
                (0..n_sides * n_sides).map(|it| inverse[it / n_sides * size + it % n_sides] - shared).collect();
            return Ok(Strengths {
                log_strengths: strengths.to_vec(),
                tie: if has_ties { at[n_sides].exp() } else { 0.0 },
                log_likelihood: now.log_likelihood,
                covariance,
            });
        }
    }
    Err(Undefined::NotConverged)
}
