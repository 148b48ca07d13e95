//! AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) with f32 masters, clipping by the global norm, learning rates.

use std::f64::consts::PI;

use candle_core::{DType, Device, Result, Tensor, Var};

use super::adamw::Update;
use crate::gpu::pointwise::square_sums;
pub use crate::job::task::training::{AdamW, Course, Rate};

impl Default for AdamW {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 1e-4 }
    }
}

impl Rate {
    /// That of a step, counted from 0, of `n_steps`.
    pub fn at(&self, step: usize, n_steps: usize) -> f64 {
        if step < self.warm_up {
            return self.rate * step as f64 / self.warm_up as f64;
        }
        let rest = n_steps.saturating_sub(self.warm_up).max(1) as f64;
        let done = (step - self.warm_up) as f64 / rest;
        self.rate
            * match self.course {
                Course::Constant => 1.0,
                Course::Linear => (1.0 - done).max(0.0),
                Course::Cosine => (0.5 * (1.0 + (PI * done).cos())).max(0.0),
            }
    }
}

/// The optimiser's memory of one parameter: its f32 value, the mean of its gradients and of their squares, [3, n].
#[derive(Clone, Debug)]
pub struct State(Tensor);

impl State {
    /// Of a parameter that starts at `master`; it is kept on `device`.
    ///
    /// # Errors
    /// No memory.
    pub fn new(master: &Tensor, device: &Device) -> Result<Self> {
        let value = master.to_device(device)?.to_dtype(DType::F32)?.reshape((1, ()))?;
        Ok(Self(Tensor::cat(&[&value, &value.zeros_like()?, &value.zeros_like()?], 0)?))
    }

    /// From its three parts, in the order of [`parts`](Self::parts).
    ///
    /// # Errors
    /// Parts of unequal sizes, or no memory.
    pub fn of_parts(parts: [&Tensor; 3], device: &Device) -> Result<Self> {
        let row = |it: &Tensor| it.to_device(device)?.to_dtype(DType::F32)?.reshape((1, ()));
        let [value, mean, square] = parts.map(row);
        Ok(Self(Tensor::cat(&[value?, mean?, square?], 0)?))
    }

    /// The value, the mean of the gradients and that of their squares, each [n].
    ///
    /// # Errors
    /// No memory.
    pub fn parts(&self) -> Result<[Tensor; 3]> {
        let part = |idx: usize| self.0.narrow(0, idx, 1)?.squeeze(0);
        Ok([part(0)?, part(1)?, part(2)?])
    }

    /// Where it is kept.
    pub fn device(&self) -> &Device {
        self.0.device()
    }

    /// One step; `variable` then has the new value, in its own type. The gradient is multiplied by `scale` first.
    ///
    /// # Errors
    /// No memory.
    pub fn step(&self, variable: &Var, gradient: &Tensor, scale: f64, update: &Update) -> Result<()> {
        let gradient = gradient.to_device(self.0.device())?.flatten_all()?.contiguous()?;
        // The processor's update takes f32 alone; a gradient in bf16 travels as it is.
        let gradient = if gradient.device().is_cpu() { gradient.to_dtype(DType::F32)? } else { gradient };
        self.0.inplace_op2(&gradient, &update.scaled(scale))?;
        self.show(variable)
    }

    /// Gives `variable` the value.
    ///
    /// # Errors
    /// No memory.
    pub fn show(&self, variable: &Var) -> Result<()> {
        let value = self.0.narrow(0, 0, 1)?.reshape(variable.shape())?;
        // Rounded before it travels.
        let value = value.to_dtype(variable.dtype())?.to_device(variable.device())?;
        variable.set(&value)
    }
}

/// The root of the sum of all gradients' squares.
///
/// # Errors
/// No memory.
pub fn global_norm(gradients: &[Tensor]) -> Result<f64> {
    let sums = gradients.iter().map(square_sums).collect::<Result<Vec<_>>>()?;
    // One wait for the device, not one a parameter.
    let sums = Tensor::cat(&sums, 0)?.to_vec1::<f64>()?;
    Ok(sums.into_iter().sum::<f64>().sqrt())
}

/// What gradients of this norm are multiplied with so that none is longer than `most`: min(1, most/(norm + 10⁻⁶)).
pub fn clip(norm: f64, most: Option<f64>) -> f64 {
    most.map_or(1.0, |most| (most / (norm + 1e-6)).min(1.0))
}
