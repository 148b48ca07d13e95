//! The logistic curve with four parameters that video quality studies lay through scores before they correlate them.

mod projection;

use super::describe::{finite, mean};
use super::solve::solve;
use super::{Defined, Undefined};

/// y = (upper − lower) / (1 + exp(−(x − middle) / |width|)) + lower, fitted by least squares: VQEG's mapping from a
/// metric to opinion scores, as in ITU-T P.1401 and the reports of VQEG.
#[derive(Clone, Copy, PartialEq, Debug, serde::Serialize)]
pub struct Logistic {
    /// Where y goes as x rises; below `lower` where the curve falls.
    pub upper: f64,
    /// Where y comes from.
    pub lower: f64,
    /// Where y is half-way.
    pub middle: f64,
    /// How wide the change is.
    pub width: f64,
    /// How x and y were standardised while fitting: mean and spread of each.
    #[serde(skip)]
    scale: [f64; 4],
}

/// Steps of Levenberg and Marquardt's method from the published start. It leads to a minimum; where it has not arrived
/// after so many, the best curve is a line or an exponential, and lies at infinity.
const MOST_STEPS: usize = 200;

impl Logistic {
    /// The best curve, by Levenberg and Marquardt's method from (max y, min y, mean x, sd x / 4) with the population's
    /// standard deviation. Needs five pairs and variation on both sides.
    pub fn fit(x: &[f64], y: &[f64]) -> Defined<Self> {
        assert_eq!(x.len(), y.len(), "a fit is of pairs");
        if x.len() < 5 {
            return Err(Undefined::TooFew);
        }
        finite(x)?;
        finite(y)?;
        let scale = [mean(x)?, spread(x)?, mean(y)?, spread(y)?];
        let (u, v) = (standardised(x)?, standardised(y)?);
        let (most, least) = v.iter().fold((f64::MIN, f64::MAX), |(most, least), it| (most.max(*it), least.min(*it)));
        let weights = vec![1; x.len()];
        let near = descend([most, least, 0.0, 0.25], &u, &v, &weights);
        let best = projection::polish([near[2], near[3].abs()], &u, &v, &weights, projection::FINE)?;
        Ok(Self {
            upper: best[0] * scale[3] + scale[2],
            lower: best[1] * scale[3] + scale[2],
            middle: best[2] * scale[1] + scale[0],
            width: best[3] * scale[1],
            scale,
        })
    }

    /// The curve at `x`.
    pub fn at(&self, x: f64) -> f64 {
        (self.upper - self.lower) * sigmoid((x - self.middle) / self.width) + self.lower
    }

    /// Its parameters between standardised columns.
    fn standard(&self) -> [f64; 4] {
        let [x_mean, x_spread, y_mean, y_spread] = self.scale;
        [
            (self.upper - y_mean) / y_spread,
            (self.lower - y_mean) / y_spread,
            (self.middle - x_mean) / x_spread,
            self.width / x_spread,
        ]
    }

    /// The curve, standardised, at a standardised x.
    pub(super) fn of_standardised(&self, x: f64) -> f64 {
        let [upper, lower, middle, width] = self.standard();
        (upper - lower) * sigmoid((x - middle) / width) + lower
    }

    /// The best curve through a resample of the standardised columns that this one was fitted to, near this one.
    pub(super) fn fit_again(&self, x: &[f64], y: &[f64], counts: &[u32]) -> Defined<Self> {
        let [_, _, middle, width] = self.standard();
        let [upper, lower, middle, width] = projection::polish([middle, width], x, y, counts, projection::COARSE)?;
        let [x_mean, x_spread, y_mean, y_spread] = self.scale;
        Ok(Self {
            upper: upper * y_spread + y_mean,
            lower: lower * y_spread + y_mean,
            middle: middle * x_spread + x_mean,
            width: width * x_spread,
            scale: self.scale,
        })
    }
}

/// Exact to the last digits where it is small, that is where t is far below 0.
fn sigmoid(t: f64) -> f64 {
    1.0 / (1.0 + (-t).exp())
}

/// The population's standard deviation.
fn spread(values: &[f64]) -> Defined {
    if values.iter().all(|it| *it == values[0]) {
        return Err(Undefined::Constant);
    }
    let centre = mean(values)?;
    let spread = (values.iter().map(|it| (it - centre).powi(2)).sum::<f64>() / values.len() as f64).sqrt();
    if spread > 0.0 && spread.is_finite() { Ok(spread) } else { Err(Undefined::Constant) }
}

/// The values less their mean, in units of their standard deviation.
pub(super) fn standardised(values: &[f64]) -> Defined<Vec<f64>> {
    let (centre, spread) = (mean(values)?, spread(values)?);
    Ok(values.iter().map(|it| (it - centre) / spread).collect())
}

/// The sums that a step is computed from.
struct Slope {
    /// The product of the Jacobian with itself.
    curvature: [f64; 16],
    /// Half the gradient, downwards.
    downhill: [f64; 4],
    /// The sum of squares.
    loss: f64,
}

fn loss(at: &[f64; 4], x: &[f64], y: &[f64], weights: &[u32]) -> f64 {
    let [upper, lower, middle, width] = *at;
    let term = |((x, y), weight): ((&f64, &f64), &u32)| {
        if *weight == 0 {
            return 0.0;
        }
        let miss = (upper - lower) * sigmoid((x - middle) / width.abs()) + lower - y;
        f64::from(*weight) * miss * miss
    };
    x.iter().zip(y).zip(weights).map(term).sum()
}

fn slope(at: &[f64; 4], x: &[f64], y: &[f64], weights: &[u32]) -> Slope {
    let [upper, lower, middle, width] = *at;
    let mut slope = Slope { curvature: [0.0; 16], downhill: [0.0; 4], loss: 0.0 };
    for ((x, y), weight) in x.iter().zip(y).zip(weights).filter(|it| *it.1 > 0) {
        let weight = f64::from(*weight);
        let t = (x - middle) / width.abs();
        let s = sigmoid(t);
        let miss = (upper - lower) * s + lower - y;
        let steep = (upper - lower) * s * (1.0 - s);
        let by = [s, 1.0 - s, -steep / width.abs(), -steep * t / width];
        slope.loss += weight * miss * miss;
        for row in 0..4 {
            slope.downhill[row] -= weight * by[row] * miss;
            for col in 0..=row {
                slope.curvature[row * 4 + col] += weight * by[row] * by[col];
            }
        }
    }
    for row in 0..4 {
        for col in row + 1..4 {
            slope.curvature[row * 4 + col] = slope.curvature[col * 4 + row];
        }
    }
    slope
}

/// Where the descent from `start` ends, or is after [`MOST_STEPS`].
fn descend(start: [f64; 4], x: &[f64], y: &[f64], weights: &[u32]) -> [f64; 4] {
    let mut at = start;
    let mut now = slope(&at, x, y, weights);
    let mut scale = [0.0_f64; 4];
    let mut damping = 1e-3;
    for _ in 0..MOST_STEPS {
        let mut damped = now.curvature;
        for it in 0..4 {
            scale[it] = scale[it].max(now.curvature[it * 5]).max(1e-30);
            damped[it * 5] += damping * scale[it];
        }
        let step = solve(&damped, &now.downhill);
        let next = step.map(|step| [0, 1, 2, 3].map(|it| at[it] + step[it]));
        let next_loss = next.as_ref().map_or(f64::INFINITY, |it| loss(it, x, y, weights));
        match next {
            Some(next) if next_loss <= now.loss && next[3] != 0.0 && next.iter().all(|it| it.is_finite()) => {
                let gain = (now.loss - next_loss) / now.loss;
                at = next;
                if gain.is_nan() || gain < 1e-12 {
                    return at;
                }
                now = slope(&at, x, y, weights);
                damping = (damping * 0.2_f64).max(1e-14);
            }
            _ => {
                damping *= 4.0;
                // No step however short goes down: this is the bottom.
                if damping > 1e18 {
                    return at;
                }
            }
        }
    }
    at
}
