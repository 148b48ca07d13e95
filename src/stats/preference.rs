//! Choices between two: win rates with intervals, the sign test, position bias, a metric's two-way accuracy.

use statrs::distribution::{ContinuousCDF, Normal};
use statrs::function::gamma::ln_gamma;

use super::{Defined, Interval, Undefined};

/// How often one side won, lost, or neither.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct Tally {
    /// The side won.
    pub wins: u64,
    /// Neither did.
    pub ties: u64,
    /// The other side won.
    pub losses: u64,
}

impl Tally {
    /// All of them.
    pub fn n(&self) -> u64 {
        self.wins + self.ties + self.losses
    }

    /// The share that the side won, ties for one half.
    pub fn win_rate(&self) -> Defined {
        if self.n() == 0 { Err(Undefined::TooFew) } else { Ok(self.score() / self.n() as f64) }
    }

    fn score(&self) -> f64 {
        self.wins as f64 + self.ties as f64 / 2.0
    }

    /// Wilson's interval of the win rate.
    pub fn interval(&self, level: f64) -> Defined<Interval> {
        wilson(self.score(), self.n() as f64, level)
    }

    /// The two-sided exact sign test that wins and losses are equally likely; ties say nothing about it.
    pub fn sign_test(&self) -> Defined {
        sign_test(self.wins, self.losses)
    }

    /// The same seen from the other side.
    pub fn turned(&self) -> Self {
        Self { wins: self.losses, ties: self.ties, losses: self.wins }
    }
}

/// Wilson's score interval (1927) of a share of `n`, of which `successes` may be a half number where ties count half.
pub fn wilson(successes: f64, n: f64, level: f64) -> Defined<Interval> {
    if n <= 0.0 {
        return Err(Undefined::TooFew);
    }
    let z = Normal::standard().inverse_cdf(0.5 + level / 2.0);
    let share = successes / n;
    let spread = 1.0 + z * z / n;
    let centre = (share + z * z / (2.0 * n)) / spread;
    let reach = z / spread * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
    Ok(Interval { low: (centre - reach).max(0.0), high: (centre + reach).min(1.0) })
}

/// The two-sided exact binomial test that both outcomes are equally likely.
pub fn sign_test(one: u64, other: u64) -> Defined {
    let n = one + other;
    if n == 0 {
        return Err(Undefined::TooFew);
    }
    let fewer = one.min(other);
    if 2 * fewer == n {
        return Ok(1.0);
    }
    // The largest term, and from it the others downwards.
    let ln_choose = ln_gamma((n + 1) as f64) - ln_gamma((fewer + 1) as f64) - ln_gamma((n - fewer + 1) as f64);
    let largest = (ln_choose - n as f64 * std::f64::consts::LN_2).exp();
    let (mut term, mut sum) = (1.0, 1.0);
    for k in (1..=fewer).rev() {
        term *= k as f64 / (n - k + 1) as f64;
        sum += term;
        if term < sum * 1e-18 {
            break;
        }
    }
    Ok((2.0 * largest * sum).min(1.0))
}

/// Whether a judge prefers what it is shown first.
#[derive(Clone, Debug, serde::Serialize)]
pub struct PositionBias {
    /// Decisive answers that chose what was shown first.
    pub n_first: u64,
    /// Decisive answers of which the order is known.
    pub n: u64,
    /// The share of the first; 0.5 is no bias.
    pub rate: Defined,
    /// Its interval (Wilson).
    pub interval: Defined<Interval>,
    /// The two-sided exact test against 0.5.
    pub p: Defined,
}

/// The bias of a judge that chose what it saw first `n_first` times out of `n`.
pub fn position_bias(n_first: u64, n: u64, level: f64) -> PositionBias {
    PositionBias {
        n_first,
        n,
        rate: if n == 0 { Err(Undefined::TooFew) } else { Ok(n_first as f64 / n as f64) },
        interval: wilson(n_first as f64, n as f64, level),
        p: sign_test(n_first, n - n_first),
    }
}

/// How often a metric prefers what judges prefer.
#[derive(Clone, Debug, serde::Serialize)]
pub struct TwoWay {
    /// Choices that it agrees with, those where it sees no difference for one half.
    pub score: f64,
    /// Decisive choices.
    pub n: u64,
    /// The share; 0.5 is chance.
    pub accuracy: Defined,
    /// Its interval (Wilson).
    pub interval: Defined<Interval>,
}

/// The two-alternative accuracy of a metric. Each pair is how much better the metric finds the first, and whether the
/// first was chosen.
pub fn two_way_accuracy(pairs: &[(f64, bool)], level: f64) -> TwoWay {
    let agrees = |(better, chosen): &(f64, bool)| match better.partial_cmp(&0.0) {
        Some(std::cmp::Ordering::Greater) => f64::from(u8::from(*chosen)),
        Some(std::cmp::Ordering::Less) => f64::from(u8::from(!*chosen)),
        _ => 0.5,
    };
    let score: f64 = pairs.iter().map(agrees).sum();
    let n = pairs.len() as f64;
    TwoWay {
        score,
        n: pairs.len() as u64,
        accuracy: if pairs.is_empty() { Err(Undefined::TooFew) } else { Ok(score / n) },
        interval: wilson(score, n, level),
    }
}
