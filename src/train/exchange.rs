//! What several ranks tell each other: sums of gradients, and the weights that each of them keeps up to date.

mod local;

use anyhow::Result;

pub use local::{Local, Meeting};

/// One rank's line to the others. Every rank makes the same calls in the same order.
pub trait Communicator {
    /// This rank, from 0.
    fn rank(&self) -> usize;

    /// How many ranks there are.
    fn n_ranks(&self) -> usize;

    /// Replaces `values` by the sum over all ranks, added in the order of the ranks: the same bits everywhere.
    ///
    /// # Errors
    /// A rank that is gone, or calls something else.
    fn sum(&mut self, values: &mut [f32]) -> Result<()>;

    /// Replaces `values` by those of rank `from`.
    ///
    /// # Errors
    /// A rank that is gone, or calls something else.
    fn share(&mut self, from: usize, values: &mut [f32]) -> Result<()>;
}

/// The only rank.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Communicator for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn n_ranks(&self) -> usize {
        1
    }

    fn sum(&mut self, _: &mut [f32]) -> Result<()> {
        Ok(())
    }

    fn share(&mut self, _: usize, _: &mut [f32]) -> Result<()> {
        Ok(())
    }
}

/// Which rank keeps the optimiser's states of which parameter: contiguous runs of about equal size.
pub fn owners(sizes: &[usize], n_ranks: usize) -> Vec<usize> {
    let total: usize = sizes.iter().sum::<usize>().max(1);
    let mut before = 0;
    sizes
        .iter()
        .map(|size| {
            // The rank in whose share the parameter's middle lies.
            let middle = before + size / 2;
            before += size;
            (middle * n_ranks / total).min(n_ranks - 1)
        })
        .collect()
}
