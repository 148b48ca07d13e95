//! Which noise levels are trained on, how often, and how much each counts: the schemes of diffusers' training scripts,
//! which are those of Esser et al. 2024 (arXiv 2403.03206, sections 3.1 and 2).

use std::f64::consts::{FRAC_PI_2, PI};

use super::random::Stream;
pub use crate::job::task::training::{Density, Weighting};
use crate::models::schedule;

impl Default for Density {
    fn default() -> Self {
        Self::LogitNormal { mean: 0.0, deviation: 1.0 }
    }
}

impl Density {
    /// A place in the table of levels, 0 (the most noise) to 1 (the least).
    pub fn draw(self, random: &mut Stream) -> f64 {
        self.place(match self {
            Self::LogitNormal { .. } => random.normal(),
            Self::Mode { .. } | Self::Uniform => random.uniform(),
        })
    }

    /// The same of a given draw: a standard normal number for `LogitNormal`, else a uniform one.
    pub fn place(self, draw: f64) -> f64 {
        match self {
            Self::LogitNormal { mean, deviation } => 1.0 / (1.0 + (-(mean + deviation * draw)).exp()),
            Self::Mode { scale } => 1.0 - draw - scale * ((FRAC_PI_2 * draw).cos().powi(2) - 1.0 + draw),
            Self::Uniform => draw,
        }
    }
}

impl Weighting {
    /// The weight of noise level `sigma`.
    pub fn at(self, sigma: f32) -> f32 {
        let wide = f64::from(sigma);
        match self {
            Self::None => 1.0,
            Self::SigmaSqrt => (1.0 / (wide * wide)) as f32,
            Self::Cosmap => (2.0 / (PI * (1.0 - 2.0 * wide + 2.0 * wide * wide))) as f32,
        }
    }
}

/// The levels that a model is trained on, from the most noise to the least.
#[derive(Clone, PartialEq, Debug)]
pub struct Levels {
    sigmas: Vec<f32>,
    timesteps: Vec<f32>,
}

impl Levels {
    /// Those of a package's scheduler, in f32 as diffusers computes them: with the static shift, without a dynamic one.
    pub fn new(config: &schedule::Config) -> Self {
        let n = config.num_train_timesteps as f32;
        let shift = if config.use_dynamic_shifting { 1.0 } else { config.shift as f32 };
        let sigma = |t: usize| {
            let sigma = t as f32 / n;
            shift * sigma / (1.0 + (shift - 1.0) * sigma)
        };
        let sigmas: Vec<f32> = (1..=n as usize).rev().map(sigma).collect();
        let timesteps = sigmas.iter().map(|it| it * n).collect();
        Self { sigmas, timesteps }
    }

    /// Noise level and timestep at a `place` from 0 to 1; beyond that, the nearest end's.
    pub fn at(&self, place: f64) -> (f32, f32) {
        let idx = ((place * self.sigmas.len() as f64) as usize).min(self.sigmas.len() - 1);
        (self.sigmas[idx], self.timesteps[idx])
    }
}
