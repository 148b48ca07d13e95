//! What training makes smaller: a loss of one batch, and its gradients.

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
