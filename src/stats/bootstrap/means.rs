//! Intervals of many means at once: columns of equal length share their draws, so that each number is drawn once for all.

use std::collections::BTreeMap;

use super::{Bootstrap, MIN_UNITS};
use crate::stats::Interval;
use crate::stats::describe::quantile_of_sorted;

/// So many columns are summed at a time: what the processor adds side by side, and few enough to stay in its caches.
pub const LANES: usize = 8;

impl Bootstrap {
    /// [`Bootstrap::bca_of_mean`] of each column, to the bit, in less time than one by one.
    pub fn bca_of_means(&self, columns: &[&[f64]]) -> Vec<Option<Interval>> {
        let is_drawn = |it: &&[f64]| {
            it.len() >= MIN_UNITS && it.iter().all(|it| it.is_finite()) && it.iter().any(|value| *value != it[0])
        };
        let drawn: Vec<&[f64]> = columns.iter().copied().filter(is_drawn).collect();
        let mut distributions = self.means(&drawn).into_iter();
        columns
            .iter()
            .map(|values| {
                if !is_drawn(values) {
                    return self.bca_of_mean(values);
                }
                let distribution = self.sorted(distributions.next()?.into_iter().map(Some).collect())?;
                self.bca_of_drawn_mean(values, &distribution)
            })
            .collect()
    }

    /// [`Bootstrap::percentile`] of the mean of each column, to the bit, in less time than one by one.
    pub fn percentile_of_means(&self, columns: &[&[f64]]) -> Vec<Option<Interval>> {
        let tail = (1.0 - self.level) / 2.0;
        let drawn: Vec<&[f64]> = columns.iter().copied().filter(|it| it.len() >= MIN_UNITS).collect();
        let mut distributions = self.means(&drawn).into_iter();
        columns
            .iter()
            .map(|values| {
                if values.len() < MIN_UNITS {
                    return None;
                }
                let sorted = self.sorted(distributions.next()?.into_iter().map(Some).collect())?;
                Some(Interval { low: quantile_of_sorted(&sorted, tail), high: quantile_of_sorted(&sorted, 1.0 - tail) })
            })
            .collect()
    }

    /// The mean of every resample of each column, in the order of drawing.
    fn means(&self, columns: &[&[f64]]) -> Vec<Vec<f64>> {
        let mut by_length: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (idx, it) in columns.iter().enumerate() {
            by_length.entry(it.len()).or_default().push(idx);
        }
        let mut means = vec![Vec::new(); columns.len()];
        for (n, of_length) in by_length {
            let blocks: Vec<Vec<[f64; LANES]>> = of_length
                .chunks(LANES)
                .map(|some| {
                    let row =
                        |unit: usize| std::array::from_fn(|lane| some.get(lane).map_or(0.0, |it| columns[*it][unit]));
                    (0..n).map(row).collect()
                })
                .collect();
            let resamples = self.replicates(&[n], |drawn| {
                blocks.iter().flat_map(|it| sums(it, drawn)).map(|it| it / n as f64).collect::<Vec<f64>>()
            });
            for (place, idx) in of_length.into_iter().enumerate() {
                means[idx] = resamples.iter().map(|it| it[place]).collect();
            }
        }
        means
    }
}

/// The sums over the drawn units, each in the order of drawing.
fn sums(block: &[[f64; LANES]], drawn: &[usize]) -> [f64; LANES] {
    // What a sum of floating-point numbers starts from: −0 changes none of them.
    let mut sums = [-0.0; LANES];
    for &unit in drawn {
        let row = &block[unit];
        for lane in 0..LANES {
            sums[lane] += row[lane];
        }
    }
    sums
}
