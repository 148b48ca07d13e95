//! The noise levels of flow matching: diffusers' FlowMatchEulerDiscreteScheduler.

use std::path::Path;

use anyhow::ensure;
use candle_core::{DType, Result, Tensor};
use serde::Deserialize;

use super::package::read_config;

/// `scheduler_config.json`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Timesteps are noise levels times this.
    pub num_train_timesteps: f64,
    /// The static shift.
    pub shift: f64,
    /// Whether the shift follows the image's size instead.
    pub use_dynamic_shifting: bool,
    /// The dynamic shift at `base_image_seq_len` tokens.
    pub base_shift: f64,
    /// The dynamic shift at `max_image_seq_len` tokens.
    pub max_shift: f64,
    /// See `base_shift`.
    pub base_image_seq_len: f64,
    /// See `max_shift`.
    pub max_image_seq_len: f64,
    /// `exponential` or `linear`.
    pub time_shift_type: String,
    /// The last level before 0, if the levels are stretched to it.
    pub shift_terminal: Option<f64>,
    /// Unsupported.
    pub invert_sigmas: bool,
    /// Unsupported.
    pub use_karras_sigmas: bool,
    /// Unsupported.
    pub use_exponential_sigmas: bool,
    /// Unsupported.
    pub use_beta_sigmas: bool,
    /// Unsupported.
    pub stochastic_sampling: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            num_train_timesteps: 1000.0,
            shift: 1.0,
            use_dynamic_shifting: false,
            base_shift: 0.5,
            max_shift: 1.15,
            base_image_seq_len: 256.0,
            max_image_seq_len: 4096.0,
            time_shift_type: "exponential".to_owned(),
            shift_terminal: None,
            invert_sigmas: false,
            use_karras_sigmas: false,
            use_exponential_sigmas: false,
            use_beta_sigmas: false,
            stochastic_sampling: false,
        }
    }
}

impl Config {
    /// Reads it.
    ///
    /// # Errors
    /// No such file, no such JSON, or a schedule that is not supported.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let config: Self = read_config(path)?;
        let unsupported = [
            ("invert_sigmas", config.invert_sigmas),
            ("use_karras_sigmas", config.use_karras_sigmas),
            ("use_exponential_sigmas", config.use_exponential_sigmas),
            ("use_beta_sigmas", config.use_beta_sigmas),
            ("stochastic_sampling", config.stochastic_sampling),
        ];
        for (key, is_set) in unsupported {
            ensure!(!is_set, "{}: `{key}` is not supported", path.display());
        }
        let kind = &config.time_shift_type;
        ensure!(
            kind == "exponential" || kind == "linear",
            "{}: `time_shift_type` is `{kind}`: exponential or linear",
            path.display()
        );
        Ok(config)
    }

    /// The shift of an image of so many tokens: linear between the two given points, and beyond them.
    pub fn mu(&self, n_tokens: usize) -> f64 {
        let slope = (self.max_shift - self.base_shift) / (self.max_image_seq_len - self.base_image_seq_len);
        n_tokens as f64 * slope + (self.base_shift - slope * self.base_image_seq_len)
    }
}

/// The noise levels of one run, from the most noise to none.
#[derive(Clone, PartialEq, Debug)]
pub struct Schedule {
    /// n + 1 levels; the last is 0.
    pub sigmas: Vec<f32>,
    /// What the model is told at each of the n steps.
    pub timesteps: Vec<f32>,
}

impl Schedule {
    /// The levels of `n_steps` steps for an image of `n_tokens` tokens. Computed in f64, as diffusers does, and
    /// rounded to f32 at the end.
    pub fn new(config: &Config, n_steps: usize, n_tokens: usize) -> Self {
        Self::with_mu(config, n_steps, config.mu(n_tokens))
    }

    /// The same with a dynamic shift of the caller's; it means nothing where the shift is static.
    pub fn with_mu(config: &Config, n_steps: usize, mu: f64) -> Self {
        let shift = |sigma: f64| config.shift * sigma / (1.0 + (config.shift - 1.0) * sigma);
        // The ends of the training schedule, which diffusers keeps in f32.
        let train = |t: f64| {
            let sigma = t as f32 / config.num_train_timesteps as f32;
            let shift = config.shift as f32;
            f64::from(if config.use_dynamic_shifting { sigma } else { shift * sigma / (1.0 + (shift - 1.0) * sigma) })
        };
        let (first, last) = (train(config.num_train_timesteps), train(1.0));
        let n = config.num_train_timesteps;
        let (first, last) = (first * n, last * n);
        let step = if n_steps > 1 { (last - first) / (n_steps - 1) as f64 } else { 0.0 };
        let mut sigmas: Vec<f64> = (0..n_steps)
            .map(|idx| {
                let t = if idx > 0 && idx == n_steps - 1 { last } else { first + idx as f64 * step };
                let sigma = t / n;
                match config.time_shift_type.as_str() {
                    _ if !config.use_dynamic_shifting => shift(sigma),
                    "linear" => mu / (mu + (1.0 / sigma - 1.0)),
                    _ => mu.exp() / (mu.exp() + (1.0 / sigma - 1.0)),
                }
            })
            .collect();
        if let (Some(terminal), Some(&end)) = (config.shift_terminal.filter(|it| *it != 0.0), sigmas.last()) {
            let scale = (1.0 - end) / (1.0 - terminal);
            for sigma in &mut sigmas {
                *sigma = 1.0 - (1.0 - *sigma) / scale;
            }
        }
        let mut sigmas: Vec<f32> = sigmas.into_iter().map(|it| it as f32).collect();
        let timesteps = sigmas.iter().map(|it| it * config.num_train_timesteps as f32).collect();
        sigmas.push(0.0);
        Self { sigmas, timesteps }
    }

    /// How many steps it has.
    pub fn n_steps(&self) -> usize {
        self.timesteps.len()
    }

    /// One step of Euler's: `x` + (σ' − σ)·`velocity`, in f32 and then in the velocity's type.
    ///
    /// # Errors
    /// Shapes that don't fit, or no memory.
    pub fn step(&self, idx: usize, x: &Tensor, velocity: &Tensor) -> Result<Tensor> {
        let by = f64::from(self.sigmas[idx + 1] - self.sigmas[idx]);
        let dtype = velocity.dtype();
        (x.to_dtype(DType::F32)? + (velocity.to_dtype(DType::F32)? * by)?)?.to_dtype(dtype)
    }
}
