//! The logistic fit with its two linear parameters solved for (Golub and Pereyra 1973): what is left is ln k and e
//! of 1 / (1 + exp(−(k x + e))), and curves that are nearly lines (k → 0) or exponentials (e → ±∞) are as easy as others.

use super::sigmoid;
use crate::stats::{Defined, Undefined};

/// How well is well enough.
#[derive(Clone, Copy)]
pub(super) struct Effort {
    /// Steps that explain less of y's variance than this are idle.
    tolerance: f64,
    /// So many idle ones in a row end the fit.
    patience: usize,
    /// No more steps than this.
    most_steps: usize,
}

pub(super) const FINE: Effort = Effort { tolerance: 1e-13, patience: 3, most_steps: 1_000 };
/// For resamples, whose spread is far wider than what is left to gain.
pub(super) const COARSE: Effort = Effort { tolerance: 1e-7, patience: 1, most_steps: 100 };

/// What a fit may still gain when its steps run out.
const ENOUGH: f64 = 1e-8;
/// ln k of the widest and the narrowest curve, x in standard deviations: a line, and a step, to nine digits.
const RATES: (f64, f64) = (-9.0, 12.0);
/// How far k x + e may lie from 0 for all x: an exponential to six digits, and r² to twelve.
const BEYOND: f64 = 15.0;

/// Sums over the pairs at one e and ln k.
struct Fit {
    /// The share of y's variance that is left.
    rest: f64,
    /// What the sigmoid is multiplied with.
    slope: f64,
    /// y where the sigmoid is 0.
    base: f64,
    /// Half the gradient of what is left, downwards, by e and ln k.
    downhill: [f64; 2],
    /// Gauss and Newton's curvature.
    curvature: [f64; 3],
}

/// The pairs that were drawn, with what does not change.
struct Pairs<'a> {
    x: &'a [f64],
    y: &'a [f64],
    weights: &'a [u32],
    n: f64,
    y_mean: f64,
    y_square: f64,
    /// The largest |x|.
    x_reach: f64,
    x_mean: f64,
}

impl Pairs<'_> {
    fn drawn(&self) -> impl Iterator<Item = (f64, f64, f64)> {
        let pairs = self.x.iter().zip(self.y).zip(self.weights).filter(|it| *it.1 > 0);
        pairs.map(|((x, y), weight)| (*x, *y, f64::from(*weight)))
    }

    fn limit(&self, log_rate: f64) -> f64 {
        BEYOND + log_rate.exp() * self.x_reach
    }

    fn bounded(&self, at: [f64; 2]) -> [f64; 2] {
        let log_rate = at[1].clamp(RATES.0, RATES.1);
        let limit = self.limit(log_rate);
        [at[0].clamp(-limit, limit), log_rate]
    }

    /// Where most data lie above the middle, the curve is mirrored: 1 − s is small there, and exact.
    fn is_mirrored(&self, at: [f64; 2]) -> bool {
        at[1].exp() * self.x_mean + at[0] > 0.0
    }

    fn fit(&self, at: [f64; 2]) -> Option<Fit> {
        let rate = at[1].exp();
        let sign = if self.is_mirrored(at) { -1.0 } else { 1.0 };
        // Means first, then products of what is left of them: nothing large cancels.
        let mut means = [0.0; 3];
        let mut rows = Vec::with_capacity(self.x.len());
        for (x, y, weight) in self.drawn() {
            let s = sigmoid(sign * (rate * x + at[0]));
            let steep = sign * s * (1.0 - s);
            let row = [s, steep, steep * rate * x];
            for (mean, value) in means.iter_mut().zip(row) {
                *mean += weight * value / self.n;
            }
            rows.push((row, y - self.y_mean, weight));
        }
        let (mut ss, mut sy) = (0.0, 0.0);
        for (row, y, weight) in &mut rows {
            for (value, mean) in row.iter_mut().zip(means) {
                *value -= mean;
            }
            ss += *weight * row[0] * row[0];
            sy += *weight * row[0] * *y;
        }
        if !(ss > 0.0 && ss.is_finite()) {
            return None;
        }
        let slope = sy / ss;
        let shares = [1, 2].map(|it| rows.iter().map(|(row, _, weight)| weight * row[0] * row[it]).sum::<f64>() / ss);
        let mut fit =
            Fit { rest: 0.0, slope, base: self.y_mean - slope * means[0], downhill: [0.0; 2], curvature: [0.0; 3] };
        for (row, y, weight) in &rows {
            let miss = y - slope * row[0];
            // The part of each derivative that the linear parameters cannot take up.
            let by = [0, 1].map(|it| slope * (row[it + 1] - shares[it] * row[0]));
            fit.rest += weight * miss * miss;
            fit.downhill[0] += weight * by[0] * miss;
            fit.downhill[1] += weight * by[1] * miss;
            fit.curvature[0] += weight * by[0] * by[0];
            fit.curvature[1] += weight * by[0] * by[1];
            fit.curvature[2] += weight * by[1] * by[1];
        }
        fit.rest /= self.y_square;
        Some(fit)
    }
}

/// The best (upper, lower, middle, width) near a middle and width, over standardised columns.
pub(super) fn polish(start: [f64; 2], x: &[f64], y: &[f64], weights: &[u32], effort: Effort) -> Defined<[f64; 4]> {
    let mut pairs = Pairs {
        x,
        y,
        weights,
        n: weights.iter().map(|it| f64::from(*it)).sum(),
        y_mean: 0.0,
        y_square: 0.0,
        x_reach: 0.0,
        x_mean: 0.0,
    };
    let (mut y_sum, mut x_sum, mut reach, mut range) = (0.0, 0.0, 0.0_f64, (f64::INFINITY, f64::NEG_INFINITY));
    for (x, y, weight) in pairs.drawn() {
        y_sum += weight * y;
        x_sum += weight * x;
        reach = reach.max(x.abs());
        range = (range.0.min(x), range.1.max(x));
    }
    (pairs.y_mean, pairs.x_mean, pairs.x_reach) = (y_sum / pairs.n, x_sum / pairs.n, reach);
    pairs.y_square = pairs.drawn().map(|(_, y, weight)| weight * (y - pairs.y_mean).powi(2)).sum();
    if pairs.y_square.is_nan() || pairs.y_square <= 0.0 || range.0 >= range.1 {
        return Err(Undefined::Constant);
    }
    let mut at = pairs.bounded([-start[0] / start[1], -start[1].ln()]);
    let mut now = pairs.fit(at).ok_or(Undefined::NotConverged)?;
    let (mut damping, mut n_idle, mut gain) = (1e-3, 0, f64::INFINITY);
    for _ in 0..effort.most_steps {
        if now.rest < 1e-24 || n_idle >= effort.patience || damping > 1e16 {
            return Ok(pairs.parameters(at, &now));
        }
        let next = pairs.step(at, &now, damping).map(|step| pairs.bounded([at[0] + step[0], at[1] + step[1]]));
        let found = next.and_then(|next| Some((next, pairs.fit(next)?)));
        match found {
            Some((next, fit)) if fit.rest <= now.rest => {
                gain = now.rest - fit.rest;
                n_idle = if gain < effort.tolerance { n_idle + 1 } else { 0 };
                (at, now) = (next, fit);
                damping = (damping * 0.2_f64).max(1e-12);
            }
            _ => damping *= 4.0,
        }
    }
    if gain < ENOUGH || effort.patience == 1 { Ok(pairs.parameters(at, &now)) } else { Err(Undefined::NotConverged) }
}

impl Pairs<'_> {
    /// A damped step of Gauss and Newton; a parameter that would leave its bounds stays at them.
    fn step(&self, at: [f64; 2], fit: &Fit, damping: f64) -> Option<[f64; 2]> {
        let [a, b, c] = fit.curvature;
        let (a, c) = (a * (1.0 + damping), c * (1.0 + damping));
        let determinant = a * c - b * b;
        let limit = self.limit(at[1]);
        let is_held = |at: f64, low: f64, high: f64, downhill: f64| {
            at <= low + 1e-9 && downhill < 0.0 || at >= high - 1e-9 && downhill > 0.0
        };
        let step = if is_held(at[0], -limit, limit, fit.downhill[0]) {
            [0.0, fit.downhill[1] / c]
        } else if is_held(at[1], RATES.0, RATES.1, fit.downhill[1]) {
            [fit.downhill[0] / a, 0.0]
        } else {
            [
                (c * fit.downhill[0] - b * fit.downhill[1]) / determinant,
                (a * fit.downhill[1] - b * fit.downhill[0]) / determinant,
            ]
        };
        // A longer step leaves the region that the derivatives are of.
        step.iter().all(|it| it.is_finite()).then(|| [step[0].clamp(-8.0, 8.0), step[1].clamp(-2.0, 2.0)])
    }

    fn parameters(&self, at: [f64; 2], fit: &Fit) -> [f64; 4] {
        let (start, end) = (fit.base, fit.base + fit.slope);
        let (lower, upper) = if self.is_mirrored(at) { (end, start) } else { (start, end) };
        let width = (-at[1]).exp();
        [upper, lower, -at[0] * width, width]
    }
}
