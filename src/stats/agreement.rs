//! How far raters agree beyond chance: Cohen's and Fleiss' κ, Krippendorff's α.

use super::correlation::ranks;
use super::{Defined, Undefined};

/// What kind of numbers ratings are: what a difference between two of them means.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Names: equal or not.
    Nominal,
    /// An order.
    Ordinal,
    /// A scale with equal steps.
    Interval,
}

/// Cohen's κ (1960) of two raters who both put the same things into categories. Undefined where both use one and the
/// same category throughout.
pub fn cohen_kappa(first: &[usize], second: &[usize]) -> Defined {
    assert_eq!(first.len(), second.len(), "both raters judge the same things");
    if first.is_empty() {
        return Err(Undefined::TooFew);
    }
    let n = first.len() as f64;
    let n_categories = first.iter().chain(second).max().map_or(0, |it| it + 1);
    let mut shares = vec![(0.0, 0.0); n_categories];
    for (a, b) in first.iter().zip(second) {
        shares[*a].0 += 1.0 / n;
        shares[*b].1 += 1.0 / n;
    }
    let seen = first.iter().zip(second).filter(|(a, b)| a == b).count() as f64 / n;
    let by_chance: f64 = shares.iter().map(|(a, b)| a * b).sum();
    beyond_chance(seen, by_chance)
}

/// Fleiss' κ (1971) of `counts[unit][category]`: how many raters put a unit into a category, the same number of raters
/// for every unit, two at least.
pub fn fleiss_kappa(counts: &[Vec<usize>]) -> Defined {
    let Some(n_raters) = counts.first().map(|it| it.iter().sum::<usize>()) else { return Err(Undefined::TooFew) };
    if counts.iter().any(|it| it.iter().sum::<usize>() != n_raters) {
        return Err(Undefined::Uneven);
    }
    if n_raters < 2 {
        return Err(Undefined::TooFew);
    }
    let (n, raters) = (counts.len() as f64, n_raters as f64);
    let n_categories = counts.iter().map(Vec::len).max().unwrap_or(0);
    let shares = (0..n_categories).map(|category| {
        counts.iter().filter_map(|it| it.get(category)).map(|it| *it as f64).sum::<f64>() / (n * raters)
    });
    let by_chance: f64 = shares.map(|it| it * it).sum();
    let squares: f64 = counts.iter().flatten().map(|it| (*it as f64).powi(2)).sum();
    let seen = (squares - n * raters) / (n * raters * (raters - 1.0));
    beyond_chance(seen, by_chance)
}

fn beyond_chance(seen: f64, by_chance: f64) -> Defined {
    if 1.0 - by_chance < 1e-15 { Err(Undefined::Constant) } else { Ok((seen - by_chance) / (1.0 - by_chance)) }
}

/// Krippendorff's α (2011) of `units`, each with the ratings that it got from whomever; units with fewer than two tell
/// nothing and are left out. Undefined where all ratings are equal.
pub fn krippendorff_alpha(units: &[Vec<f64>], level: Level) -> Defined {
    let units: Vec<&Vec<f64>> = units.iter().filter(|it| it.len() > 1).collect();
    let all: Vec<f64> = units.iter().flat_map(|it| it.iter().copied()).collect();
    if all.is_empty() {
        return Err(Undefined::TooFew);
    }
    super::describe::finite(&all)?;
    let mut values = if level == Level::Interval {
        // Near zero, squares keep their digits.
        let centre = super::describe::mean(&all)?;
        all.iter().map(|it| it - centre).collect()
    } else {
        // The ordinal difference of two values, the number of ratings between them and half of those at them, is that
        // of their mean ranks; and categories are equal where these are.
        ranks(&all)
    };
    if values.iter().all(|it| *it == values[0]) {
        return Err(Undefined::Constant);
    }
    let disagreement = if level == Level::Nominal { unequal_pairs } else { square_differences };
    let n = values.len() as f64;
    let mut seen = 0.0;
    let mut first = 0;
    for unit in &units {
        let last = first + unit.len();
        seen += disagreement(&mut values[first..last]) / (unit.len() - 1) as f64;
        first = last;
    }
    Ok(1.0 - seen * (n - 1.0) / disagreement(&mut values))
}

/// The sum of squared differences over all ordered pairs.
fn square_differences(values: &mut [f64]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    2.0 * n * values.iter().map(|it| (it - mean).powi(2)).sum::<f64>()
}

/// How many ordered pairs are unequal; sorts.
fn unequal_pairs(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let n = values.len() as f64;
    n * n - values.chunk_by(|a, b| a == b).map(|it| (it.len() as f64).powi(2)).sum::<f64>()
}
