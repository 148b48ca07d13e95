//! How two columns of numbers go together: Pearson's r, Spearman's ρ and Kendall's τ-b, with ties.

use std::cmp::Ordering;

use statrs::distribution::{ContinuousCDF, Normal};

use super::describe::{finite, mean};
use super::{Defined, Interval, Undefined};

/// Pearson's product-moment correlation; needs two pairs and variation on both sides.
pub fn pearson(x: &[f64], y: &[f64]) -> Defined {
    paired(x, y)?;
    let (x, y) = (unit_direction(x)?, unit_direction(y)?);
    // Rounding can leave the product of two unit vectors a little outside.
    Ok(x.iter().zip(&y).map(|(a, b)| a * b).sum::<f64>().clamp(-1.0, 1.0))
}

/// Spearman's rank correlation: Pearson's of the average ranks.
pub fn spearman(x: &[f64], y: &[f64]) -> Defined {
    paired(x, y)?;
    pearson(&ranks(x), &ranks(y))
}

/// Ranks from 1; equal values share the mean of the ranks that they take up.
pub fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut n_before = 0;
    for run in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let shared = n_before as f64 + (run.len() + 1) as f64 / 2.0;
        run.iter().for_each(|&it| ranks[it] = shared);
        n_before += run.len();
    }
    ranks
}

/// Kendall's τ-b in O(n log n), after Knight (1966): sort by x, then count the exchanges that sort y.
pub fn kendall(x: &[f64], y: &[f64]) -> Defined {
    paired(x, y)?;
    let n_pairs = pairs(x.len());
    let mut points: Vec<(f64, f64)> = x.iter().copied().zip(y.iter().copied()).collect();
    points.sort_by(|a, b| order(a.0, b.0).then(order(a.1, b.1)));

    let tied_x: u64 = points.chunk_by(|a, b| a.0 == b.0).map(|it| pairs(it.len())).sum();
    let tied_both: u64 = points.chunk_by(|a, b| a == b).map(|it| pairs(it.len())).sum();
    let mut y: Vec<f64> = points.iter().map(|it| it.1).collect();
    let n_discordant = sort_counting_exchanges(&mut y);
    let tied_y: u64 = y.chunk_by(|a, b| a == b).map(|it| pairs(it.len())).sum();
    if tied_x == n_pairs || tied_y == n_pairs {
        return Err(Undefined::Constant);
    }

    let concordant_less_discordant =
        n_pairs as f64 - tied_x as f64 - tied_y as f64 + tied_both as f64 - 2.0 * n_discordant as f64;
    let tau = concordant_less_discordant / ((n_pairs - tied_x) as f64).sqrt() / ((n_pairs - tied_y) as f64).sqrt();
    Ok(tau.clamp(-1.0, 1.0))
}

/// The interval of a Pearson correlation `r` over `n` independent pairs by Fisher's transformation; needs four pairs.
pub fn fisher_interval(r: f64, n: usize, level: f64) -> Defined<Interval> {
    if n < 4 {
        return Err(Undefined::TooFew);
    }
    let z = Normal::standard().inverse_cdf(0.5 + level / 2.0) / ((n - 3) as f64).sqrt();
    Ok(Interval { low: (r.atanh() - z).tanh(), high: (r.atanh() + z).tanh() })
}

fn paired(x: &[f64], y: &[f64]) -> Defined<()> {
    assert_eq!(x.len(), y.len(), "a correlation is of pairs");
    if x.len() < 2 {
        return Err(Undefined::TooFew);
    }
    finite(x)?;
    finite(y)
}

/// The deviations from the mean, scaled to length 1.
fn unit_direction(values: &[f64]) -> Defined<Vec<f64>> {
    // Asked of the values themselves: the mean of equal numbers need not be that number.
    if values.iter().all(|it| *it == values[0]) {
        return Err(Undefined::Constant);
    }
    let mean = mean(values)?;
    let mut direction: Vec<f64> = values.iter().map(|it| it - mean).collect();
    // Scaled by the largest first: squares of tiny or huge deviations would leave the range of f64.
    let largest = direction.iter().fold(0.0, |most: f64, it| most.max(it.abs()));
    if largest == 0.0 {
        return Err(Undefined::Constant);
    }
    direction.iter_mut().for_each(|it| *it /= largest);
    let length = direction.iter().map(|it| it * it).sum::<f64>().sqrt();
    direction.iter_mut().for_each(|it| *it /= length);
    Ok(direction)
}

/// Finite numbers have an order, in which 0 and −0 are equal.
fn order(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).expect("values were found finite")
}

fn pairs(n: usize) -> u64 {
    let n = n as u64;
    n * n.saturating_sub(1) / 2
}

/// Sorts `values` by merging and returns how many pairs stood in the wrong order.
fn sort_counting_exchanges(values: &mut [f64]) -> u64 {
    let middle = values.len() / 2;
    if middle == 0 {
        return 0;
    }
    let mut n_exchanges = sort_counting_exchanges(&mut values[..middle]);
    n_exchanges += sort_counting_exchanges(&mut values[middle..]);

    let (left, right) = (values[..middle].to_vec(), values[middle..].to_vec());
    let (mut i, mut j) = (0, 0);
    for slot in values.iter_mut() {
        let take_right = i == left.len() || (j < right.len() && right[j] < left[i]);
        if take_right {
            *slot = right[j];
            j += 1;
            n_exchanges += (left.len() - i) as u64;
        } else {
            *slot = left[i];
            i += 1;
        }
    }
    n_exchanges
}
