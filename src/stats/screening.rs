//! Which raters answer unlike all others: the screening of ITU-R BT.500.

use std::collections::{BTreeMap, BTreeSet};

/// One rating: of which presentation, by which rater.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Vote {
    /// The presentation's number.
    pub presentation: usize,
    /// The rater's number.
    pub rater: usize,
    /// The rating.
    pub value: f64,
}

/// What the screening found of one rater.
#[derive(Clone, Copy, PartialEq, Debug, serde::Serialize)]
pub struct Screened {
    /// The rater's number.
    pub rater: usize,
    /// How many presentations were rated.
    pub n: usize,
    /// How many of them far above the others' ratings.
    pub n_above: usize,
    /// How many far below.
    pub n_below: usize,
    /// Whether the rater is to be left out.
    pub rejected: bool,
}

/// Screens raters as BT.500 (annex 1, 2.3.1) does: a rating is far out where it lies two standard deviations from the
/// presentation's mean, √20 where the ratings of the presentation are not normal (kurtosis outside 2 to 4). A rater is
/// rejected with more than 5 % of ratings far out, about as many above as below: such raters are neither strict nor
/// kind, but careless. Presentations with fewer than two ratings say nothing.
pub fn screen(votes: &[Vote]) -> Vec<Screened> {
    let mut by_presentation: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for it in votes {
        by_presentation.entry(it.presentation).or_default().push(it.value);
    }
    let limits: BTreeMap<usize, (f64, f64)> =
        by_presentation.iter().filter_map(|(presentation, values)| Some((*presentation, limits(values)?))).collect();
    let raters: BTreeSet<usize> = votes.iter().map(|it| it.rater).collect();
    raters
        .into_iter()
        .map(|rater| {
            let of_rater = votes.iter().filter(|it| it.rater == rater);
            let judged: Vec<(f64, (f64, f64))> =
                of_rater.filter_map(|it| Some((it.value, *limits.get(&it.presentation)?))).collect();
            let n = judged.len();
            let n_above = judged.iter().filter(|(value, (_, high))| value >= high).count();
            let n_below = judged.iter().filter(|(value, (low, _))| value <= low).count();
            let n_out = n_above + n_below;
            let skew = n_above.abs_diff(n_below) as f64 / n_out.max(1) as f64;
            Screened { rater, n, n_above, n_below, rejected: n_out as f64 > 0.05 * n as f64 && skew < 0.3 }
        })
        .collect()
}

/// Below and above which a rating of a presentation is far out.
fn limits(values: &[f64]) -> Option<(f64, f64)> {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let moment = |power: i32| values.iter().map(|it| (it - mean).powi(power)).sum::<f64>() / n;
    let variance = moment(2);
    if values.len() < 2 || variance <= 0.0 {
        return None;
    }
    let kurtosis = moment(4) / (variance * variance);
    let spread = (variance * n / (n - 1.0)).sqrt();
    let reach = spread * if (2.0..=4.0).contains(&kurtosis) { 2.0 } else { 20.0_f64.sqrt() };
    Some((mean - reach, mean + reach))
}
