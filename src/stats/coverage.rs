//! How often intervals hold the truth: studies simulated with a correlation that is known.

use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};
use serde::Serialize;
use statrs::distribution::{ContinuousCDF, Normal};

use super::Interval;
use super::bootstrap::Bootstrap;
use super::columns::Columns;
use super::correlation::fisher_interval;

/// A simulation: pairs from a bivariate normal distribution.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Study {
    /// Pairs of each study.
    pub n: usize,
    /// Pearson's correlation in the population.
    pub rho: f64,
    /// So many studies.
    pub n_studies: usize,
    /// Seed of their data.
    pub seed: u64,
}

/// What share of the studies' intervals held the population's coefficient.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Coverage {
    /// Spearman's ρ, percentile bootstrap.
    pub srcc: f64,
    /// Pearson's r, Fisher's z.
    pub plcc: f64,
    /// Pearson's r after the logistic fit, percentile bootstrap; its truth is Pearson's: the relation is a line.
    pub plcc_fit: f64,
    /// Kendall's τ, percentile bootstrap.
    pub krcc: f64,
    /// The mean of the first column, BCa bootstrap.
    pub mean: f64,
}

impl Study {
    /// Runs it. Study k has the seed `seed` + k for its data and its resamples: the same on every machine.
    pub fn run(&self, bootstrap: &Bootstrap) -> Coverage {
        let tau = 2.0 / std::f64::consts::PI * self.rho.asin();
        let spearman = 6.0 / std::f64::consts::PI * (self.rho / 2.0).asin();
        let truths = [spearman, self.rho, self.rho, tau, 0.0];
        let mut n_held = [0_usize; 5];
        for study in 0..self.n_studies {
            let seed = self.seed + study as u64;
            let (x, y) = pairs(self.n, self.rho, &mut Pcg64::seed_from_u64(seed));
            let intervals = intervals(&x, &y, &Bootstrap { seed: !seed, ..*bootstrap });
            for ((held, interval), truth) in n_held.iter_mut().zip(intervals).zip(truths) {
                *held += usize::from(interval.is_some_and(|it| it.holds(truth)));
            }
        }
        let [srcc, plcc, plcc_fit, krcc, mean] = n_held.map(|it| it as f64 / self.n_studies as f64);
        Coverage { srcc, plcc, plcc_fit, krcc, mean }
    }
}

fn intervals(x: &[f64], y: &[f64], bootstrap: &Bootstrap) -> [Option<Interval>; 5] {
    let Ok(columns) = Columns::new(x, y) else { return [None; 5] };
    let replicates = bootstrap.replicates(&[x.len()], |drawn| {
        let counts = columns.counts(drawn.iter().copied());
        [columns.spearman(&counts), columns.kendall(&counts), columns.fitted_pearson(&counts)]
    });
    let of = |which: usize| bootstrap.between_quantiles(replicates.iter().map(|it| it[which]).collect());
    let fisher = columns.pearson(&columns.all()).and_then(|r| fisher_interval(r, x.len(), bootstrap.level).ok());
    [of(0), fisher, of(2), of(1), bootstrap.bca_of_mean(x)]
}

/// Pairs of normal variables with the correlation `rho`.
fn pairs(n: usize, rho: f64, rng: &mut Pcg64) -> (Vec<f64>, Vec<f64>) {
    let normal = Normal::standard();
    let mut draw = || {
        // The middles of 2^53 equal parts: neither 0 nor 1.
        let uniform = ((rng.next_u64() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        normal.inverse_cdf(uniform)
    };
    (0..n)
        .map(|_| {
            let (x, other) = (draw(), draw());
            (x, rho * x + (1.0 - rho * rho).sqrt() * other)
        })
        .unzip()
}
