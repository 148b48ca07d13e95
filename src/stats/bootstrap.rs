//! Intervals by resampling with a seed: percentile, bias-corrected and accelerated, and by clusters.

mod means;

use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;
use statrs::distribution::{ContinuousCDF, Normal};

pub use self::means::LANES;
use super::Interval;
use super::describe::quantile_of_sorted;

/// Below so many units an interval by resampling would say more about luck than about the data.
pub const MIN_UNITS: usize = 3;
/// So many resamples are drawn by one thread at a time.
const PIECE: usize = 64;

/// How intervals are made: equal settings and equal data give equal intervals on every machine.
#[derive(Clone, Copy, PartialEq, Debug, serde::Serialize)]
pub struct Bootstrap {
    /// How many times the data are drawn again.
    pub n_resamples: usize,
    /// Seed of the drawing; each interval starts from it anew.
    pub seed: u64,
    /// What share of such intervals should hold the truth.
    pub level: f64,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self { n_resamples: 2_000, seed: 4_096, level: 0.95 }
    }
}

impl Bootstrap {
    /// The interval between the outer quantiles of `statistic` over resamples of the units 0 to `n` − 1.
    ///
    /// `statistic` is given the drawn units and may have no value for some draws (all equal, say);
    /// the quantiles are then those of the others. None when there are fewer than [`MIN_UNITS`] units
    /// or when half of the draws have no value.
    pub fn percentile(&self, n: usize, statistic: impl Fn(&[usize]) -> Option<f64> + Sync) -> Option<Interval> {
        let tail = (1.0 - self.level) / 2.0;
        let distribution = self.distribution(n, statistic)?;
        Some(Interval {
            low: quantile_of_sorted(&distribution, tail),
            high: quantile_of_sorted(&distribution, 1.0 - tail),
        })
    }

    /// The bias-corrected and accelerated interval (Efron 1987) of `statistic` over the units 0 to `n` − 1.
    ///
    /// As [`Bootstrap::percentile`]; falls back to it where bias or acceleration have no value.
    pub fn bca(&self, n: usize, statistic: impl Fn(&[usize]) -> Option<f64> + Sync) -> Option<Interval> {
        let all: Vec<usize> = (0..n).collect();
        let estimate = statistic(&all)?;
        let distribution = self.distribution(n, &statistic)?;
        let left_out: Option<Vec<f64>> =
            (0..n).map(|out| statistic(&all.iter().copied().filter(|it| *it != out).collect::<Vec<_>>())).collect();
        self.bca_between(&distribution, estimate, &left_out?)
    }

    /// [`Bootstrap::bca`] of the mean of `values`, without drawing when they are all equal.
    pub fn bca_of_mean(&self, values: &[f64]) -> Option<Interval> {
        let n = values.len();
        if n < MIN_UNITS || values.iter().any(|it| !it.is_finite()) {
            return None;
        }
        if values.iter().all(|it| *it == values[0]) {
            return Some(Interval { low: values[0], high: values[0] });
        }
        let mean = |drawn: &[usize]| Some(drawn.iter().map(|&it| values[it]).sum::<f64>() / drawn.len() as f64);
        self.bca_of_drawn_mean(values, &self.distribution(n, mean)?)
    }

    /// From the means of resamples, sorted.
    fn bca_of_drawn_mean(&self, values: &[f64], distribution: &[f64]) -> Option<Interval> {
        let n = values.len();
        let total: f64 = values.iter().sum();
        let left_out: Vec<f64> = values.iter().map(|it| (total - it) / (n - 1) as f64).collect();
        self.bca_between(distribution, total / n as f64, &left_out)
    }

    /// The percentile interval where units come in clusters that are drawn whole, such as the pictures of one photograph.
    ///
    /// `statistic` is given the units of all drawn clusters. None as for [`Bootstrap::percentile`], of clusters.
    pub fn clustered(
        &self,
        clusters: &[Vec<usize>],
        statistic: impl Fn(&[usize]) -> Option<f64> + Sync,
    ) -> Option<Interval> {
        self.percentile(clusters.len(), |drawn| {
            let units: Vec<usize> = drawn.iter().flat_map(|&it| clusters[it].iter().copied()).collect();
            statistic(&units)
        })
    }

    /// The interval from a `distribution` of resampled values (sorted), the `estimate` from all units
    /// and the estimates with each unit `left_out` in turn.
    pub fn bca_between(&self, distribution: &[f64], estimate: f64, left_out: &[f64]) -> Option<Interval> {
        if distribution.is_empty() || left_out.is_empty() {
            return None;
        }
        let normal = Normal::standard();
        let n_below = distribution.partition_point(|it| *it < estimate);
        let n_up_to = distribution.partition_point(|it| *it <= estimate);
        let bias = normal.inverse_cdf((n_below + n_up_to) as f64 / (2 * distribution.len()) as f64);
        let centre = left_out.iter().sum::<f64>() / left_out.len() as f64;
        let (squares, cubes) = left_out.iter().map(|it| centre - it).fold((0.0, 0.0), |(squares, cubes), influence| {
            (squares + influence * influence, cubes + influence.powi(3))
        });
        let acceleration = cubes / (6.0 * squares.powf(1.5));

        let tail = (1.0 - self.level) / 2.0;
        let place = |p: f64| {
            let shifted = bias + normal.inverse_cdf(p);
            let corrected = normal.cdf(bias + shifted / (1.0 - acceleration * shifted));
            if corrected.is_finite() { corrected } else { p }
        };
        Some(Interval {
            low: quantile_of_sorted(distribution, place(tail)),
            high: quantile_of_sorted(distribution, place(1.0 - tail)),
        })
    }

    /// The sorted values of `statistic` over resamples.
    fn distribution(&self, n: usize, statistic: impl Fn(&[usize]) -> Option<f64> + Sync) -> Option<Vec<f64>> {
        if n < MIN_UNITS {
            return None;
        }
        self.sorted(self.replicates(&[n], statistic))
    }

    /// The values that are finite numbers, sorted; none where they are not even half of all.
    fn sorted(&self, values: Vec<Option<f64>>) -> Option<Vec<f64>> {
        let mut values: Vec<f64> = values.into_iter().flatten().filter(|it| it.is_finite()).collect();
        if values.len() * 2 < self.n_resamples || values.is_empty() {
            return None;
        }
        values.sort_by(f64::total_cmp);
        Some(values)
    }

    /// The interval between the outer quantiles of what [`Bootstrap::replicates`] gave; none where half has no value.
    pub fn between_quantiles(&self, replicates: Vec<Option<f64>>) -> Option<Interval> {
        let tail = (1.0 - self.level) / 2.0;
        let sorted = self.sorted(replicates)?;
        Some(Interval { low: quantile_of_sorted(&sorted, tail), high: quantile_of_sorted(&sorted, 1.0 - tail) })
    }

    /// `statistic` of every resample, in the order of drawing. Units are numbered through all `strata`, of which the
    /// sizes are given; of each stratum as many are drawn as it has. The drawing is split over threads, and gives the
    /// same whatever their number.
    pub fn replicates<T: Send>(&self, strata: &[usize], statistic: impl Fn(&[usize]) -> T + Sync) -> Vec<T> {
        let n: usize = strata.iter().sum();
        let start = Pcg64::seed_from_u64(self.seed);
        let pieces: Vec<Vec<T>> = (0..self.n_resamples.div_ceil(PIECE))
            .into_par_iter()
            .map(|piece| {
                let resamples = piece * PIECE..((piece + 1) * PIECE).min(self.n_resamples);
                let mut rng = start.clone();
                // Each unit takes one number: the stream is entered where this piece begins.
                rng.advance((resamples.start * n) as u128);
                let mut drawn = vec![0; n];
                resamples
                    .map(|_| {
                        let mut first = 0;
                        for &size in strata {
                            drawn[first..first + size].iter_mut().for_each(|it| *it = first + below(&mut rng, size));
                            first += size;
                        }
                        statistic(&drawn)
                    })
                    .collect()
            })
            .collect();
        pieces.into_iter().flatten().collect()
    }
}

/// A number from 0 to `n` − 1, by the high half of a product: the same for ever, whatever the library does.
fn below(rng: &mut Pcg64, n: usize) -> usize {
    ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize
}
