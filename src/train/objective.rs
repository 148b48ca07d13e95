//! What training makes smaller: a loss of one batch, and its gradients.

use candle_core::{Result, Tensor};

use super::parameters::{Gradients, Parameters};
use super::wlf::Losses;

/// A kind of training.
pub trait Objective {
    /// What is shown at a time.
    type Batch;

    /// The loss of a batch; its gradients are added to `into`.
    ///
    /// # Errors
    /// A batch that does not fit the model, or no memory.
    fn gradients(&self, parameters: &Parameters, batch: &Self::Batch, into: &mut Gradients) -> anyhow::Result<Losses>;

    /// The loss of a batch alone.
    ///
    /// # Errors
    /// Those of [`gradients`](Self::gradients).
    fn loss(&self, parameters: &Parameters, batch: &Self::Batch) -> anyhow::Result<Losses>;
}

/// A scalar whose backward pass gives each of these tensors this gradient.
pub(super) fn seeded(outputs: &[(&Tensor, &Tensor)]) -> Result<Option<Tensor>> {
    let mut sum: Option<Tensor> = None;
    for (output, gradient) in outputs {
        let one = (*output * *gradient)?.sum_all()?;
        sum = Some(match sum {
            None => one,
            Some(sum) => (sum + one)?,
        });
    }
    Ok(sum)
}
