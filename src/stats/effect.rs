//! How large a paired difference is, and how small a one could have been seen.

use statrs::distribution::{ContinuousCDF, Normal, StudentsT};
use statrs::function::gamma::ln_gamma;

use super::describe::{mean, sd};
use super::{Defined, Undefined};

/// Cohen's d of paired differences: their mean over their standard deviation. Needs two and variation.
pub fn cohens_dz(differences: &[f64]) -> Defined {
    let spread = sd(differences)?;
    if spread == 0.0 || differences.iter().all(|it| *it == differences[0]) {
        return Err(Undefined::Constant);
    }
    Ok(mean(differences)? / spread)
}

/// The smallest mean difference, in units of the differences' standard deviation, that a two-sided paired t test over
/// `n` pairs at level `alpha` would find with the chance `power`: solved on the noncentral t distribution.
pub fn smallest_detectable_dz(n: usize, alpha: f64, power: f64) -> Defined {
    if n < 2 {
        return Err(Undefined::TooFew);
    }
    if !(alpha > 0.0 && alpha < power && power < 1.0) {
        return Err(Undefined::NotFinite);
    }
    let degrees = (n - 1) as f64;
    let student = StudentsT::new(0.0, 1.0, degrees).expect("degrees of freedom are positive");
    let critical = student.inverse_cdf(1.0 - alpha / 2.0);
    let root = (n as f64).sqrt();
    let chance = |dz: f64| {
        let shift = dz * root;
        1.0 - noncentral_t(critical, degrees, shift) + noncentral_t(-critical, degrees, shift)
    };
    let (mut low, mut high) = (0.0, 1.0);
    while chance(high) < power {
        high *= 2.0;
        if high > 1e9 {
            return Err(Undefined::NotConverged);
        }
    }
    for _ in 0..200 {
        let middle = (low + high) / 2.0;
        // Neighbours: nothing would change any more.
        if middle == low || middle == high {
            break;
        }
        if chance(middle) < power { low = middle } else { high = middle }
    }
    Ok((low + high) / 2.0)
}

/// The noncentral t distribution up to `t`: the normal one, averaged over the spread s = √(χ²/ν) that the data show.
fn noncentral_t(t: f64, degrees: f64, shift: f64) -> f64 {
    // Over ln s the density falls exponentially at both ends, where the trapezoidal rule converges as no other.
    let half = degrees / 2.0;
    let constant = std::f64::consts::LN_2 + half * half.ln() - ln_gamma(half);
    let width = (1.0 / (2.0 * degrees)).sqrt();
    let step = (width / 10.0).min(0.02);
    let high = 1.5 * (60.0 / degrees).sqrt().min(4.0);
    let low = -high.max(60.0 / degrees);
    let normal = Normal::standard();
    let n_steps = ((high - low) / step).ceil() as usize;
    (0..=n_steps)
        .map(|it| {
            let u = low + it as f64 * step;
            let density = (constant + degrees * u - half * (2.0 * u).exp()).exp();
            density * normal.cdf(t * u.exp() - shift)
        })
        .sum::<f64>()
        * step
}
