//! Two columns of numbers, sorted once, so that the coefficients of thousands of resamples need no sorting.

use super::correlation::pearson;
use super::describe::finite;
use super::logistic::{Logistic, standardised};
use super::{Defined, Undefined};

/// Two columns. Resamples are given as `counts`: how often each pair was drawn.
#[derive(Clone, Debug)]
pub struct Columns {
    x: Vec<f64>,
    y: Vec<f64>,
    by_x: Order,
    by_y: Order,
    fit: Defined<Logistic>,
}

/// The units in the order of their values.
#[derive(Clone, Debug)]
struct Order {
    /// Unit by unit.
    units: Vec<usize>,
    /// Where each run of equal values ends in `units`.
    ends: Vec<usize>,
    /// The run that each unit is in.
    run_of: Vec<usize>,
}

impl Order {
    fn of(values: &[f64]) -> Self {
        let mut units: Vec<usize> = (0..values.len()).collect();
        units.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
        let mut run_of = vec![0; values.len()];
        let mut ends = Vec::new();
        for run in units.chunk_by(|&a, &b| values[a] == values[b]) {
            run.iter().for_each(|&it| run_of[it] = ends.len());
            ends.push(ends.last().unwrap_or(&0) + run.len());
        }
        Self { units, ends, run_of }
    }

    /// How often each run was drawn.
    fn totals(&self, counts: &[u32]) -> Vec<u64> {
        let mut first = 0;
        self.ends
            .iter()
            .map(|&end| {
                self.units[std::mem::replace(&mut first, end)..end].iter().map(|&it| u64::from(counts[it])).sum()
            })
            .collect()
    }

    /// The mean rank of each run less the mean of all ranks.
    fn centred_ranks(&self, totals: &[u64], n: u64) -> Vec<f64> {
        let mut before = 0;
        totals
            .iter()
            .map(|&total| {
                let rank = before as f64 + total as f64 / 2.0;
                before += total;
                rank - n as f64 / 2.0
            })
            .collect()
    }
}

fn pairs(n: u64) -> u64 {
    n * n.saturating_sub(1) / 2
}

impl Columns {
    /// Both columns, sorted; needs two pairs.
    pub fn new(x: &[f64], y: &[f64]) -> Defined<Self> {
        assert_eq!(x.len(), y.len(), "a correlation is of pairs");
        if x.len() < 2 {
            return Err(Undefined::TooFew);
        }
        finite(x)?;
        finite(y)?;
        let centred = |values: &[f64]| standardised(values).unwrap_or_else(|_| vec![0.0; values.len()]);
        Ok(Self { by_x: Order::of(x), by_y: Order::of(y), fit: Logistic::fit(x, y), x: centred(x), y: centred(y) })
    }

    /// How many pairs there are.
    pub fn len(&self) -> usize {
        self.x.len()
    }

    /// Never: there are two pairs at least.
    pub fn is_empty(&self) -> bool {
        self.x.is_empty()
    }

    /// Every pair once.
    pub fn all(&self) -> Vec<u32> {
        vec![1; self.x.len()]
    }

    /// How often each pair is among those `drawn`.
    pub fn counts(&self, drawn: impl IntoIterator<Item = usize>) -> Vec<u32> {
        let mut counts = vec![0; self.x.len()];
        drawn.into_iter().for_each(|it| counts[it] += 1);
        counts
    }

    /// Pearson's r of a resample; none where a side does not vary.
    pub fn pearson(&self, counts: &[u32]) -> Option<f64> {
        weighted_pearson(&self.x, &self.y, counts)
    }

    /// Spearman's ρ of a resample.
    pub fn spearman(&self, counts: &[u32]) -> Option<f64> {
        let (x_totals, y_totals) = (self.by_x.totals(counts), self.by_y.totals(counts));
        let n = x_totals.iter().sum();
        let (x_ranks, y_ranks) = (self.by_x.centred_ranks(&x_totals, n), self.by_y.centred_ranks(&y_totals, n));
        let squares = |totals: &[u64], ranks: &[f64]| -> f64 {
            totals.iter().zip(ranks).map(|(total, rank)| *total as f64 * rank * rank).sum()
        };
        let span = squares(&x_totals, &x_ranks).sqrt() * squares(&y_totals, &y_ranks).sqrt();
        let product: f64 = (0..counts.len())
            .map(|it| f64::from(counts[it]) * x_ranks[self.by_x.run_of[it]] * y_ranks[self.by_y.run_of[it]])
            .sum();
        (span > 0.0).then(|| (product / span).clamp(-1.0, 1.0))
    }

    /// Kendall's τ-b of a resample, in O(n log n): pairs are counted in a Fenwick tree over y while x rises.
    pub fn kendall(&self, counts: &[u32]) -> Option<f64> {
        let n_runs = self.by_y.ends.len();
        let mut tree = vec![0_i64; n_runs + 1];
        let (mut n_before, mut first) = (0_i64, 0);
        let mut concordant_less_discordant = 0_i64;
        for &end in &self.by_x.ends {
            let run = &self.by_x.units[first..end];
            for &unit in run.iter().filter(|&&it| counts[it] > 0) {
                let place = self.by_y.run_of[unit];
                let below = sum_of_first(&tree, place);
                let above = n_before - sum_of_first(&tree, place + 1);
                concordant_less_discordant += i64::from(counts[unit]) * (below - above);
            }
            for &unit in run.iter().filter(|&&it| counts[it] > 0) {
                let mut place = self.by_y.run_of[unit] + 1;
                while place <= n_runs {
                    tree[place] += i64::from(counts[unit]);
                    place += place & place.wrapping_neg();
                }
                n_before += i64::from(counts[unit]);
            }
            first = end;
        }
        let n_pairs = pairs(n_before.unsigned_abs());
        let tied = |order: &Order| -> u64 { order.totals(counts).into_iter().map(pairs).sum() };
        let (x_pairs, y_pairs) = (n_pairs - tied(&self.by_x), n_pairs - tied(&self.by_y));
        if x_pairs == 0 || y_pairs == 0 {
            return None;
        }
        let tau = concordant_less_discordant as f64 / (x_pairs as f64).sqrt() / (y_pairs as f64).sqrt();
        Some(tau.clamp(-1.0, 1.0))
    }

    /// Pearson's r of y with the logistic fit of it, fitted to the resample; starts from the fit of all pairs.
    pub fn fitted_pearson(&self, counts: &[u32]) -> Option<f64> {
        let start = self.fit.ok()?;
        let again = start.fit_again(&self.x, &self.y, counts).ok()?;
        let fitted: Vec<f64> = self.x.iter().map(|it| again.of_standardised(*it)).collect();
        weighted_pearson(&fitted, &self.y, counts)
    }

    /// The logistic fit of y on x.
    pub fn fit(&self) -> Defined<Logistic> {
        self.fit
    }
}

/// The sum of the first `n` leaves of a Fenwick tree.
fn sum_of_first(tree: &[i64], mut n: usize) -> i64 {
    let mut sum = 0;
    while n > 0 {
        sum += tree[n];
        n &= n - 1;
    }
    sum
}

/// Pearson's r of values near zero with a spread near one, each as often as `counts` says.
fn weighted_pearson(x: &[f64], y: &[f64], counts: &[u32]) -> Option<f64> {
    let drawn = || (0..counts.len()).filter(|&it| counts[it] > 0);
    let first = drawn().next()?;
    if drawn().all(|it| x[it] == x[first]) || drawn().all(|it| y[it] == y[first]) {
        return None;
    }
    let n: f64 = counts.iter().map(|it| f64::from(*it)).sum();
    let mean = |values: &[f64]| drawn().map(|it| f64::from(counts[it]) * values[it]).sum::<f64>() / n;
    let (x_mean, y_mean) = (mean(x), mean(y));
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for it in drawn() {
        let (dx, dy, weight) = (x[it] - x_mean, y[it] - y_mean, f64::from(counts[it]));
        xx += weight * dx * dx;
        yy += weight * dy * dy;
        xy += weight * dx * dy;
    }
    let r = xy / (xx.sqrt() * yy.sqrt());
    r.is_finite().then(|| r.clamp(-1.0, 1.0))
}

/// Pearson's r of y with the logistic fit of it on x; needs five pairs and variation on both sides.
pub fn fitted_pearson(x: &[f64], y: &[f64]) -> Defined {
    let fit = Logistic::fit(x, y)?;
    let fitted: Vec<f64> = x.iter().map(|it| fit.at(*it)).collect();
    pearson(&fitted, y)
}
