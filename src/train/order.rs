//! In which order a run shows its examples, and which of them make up a step.

use super::random::{Purpose, Stream};

/// Each pass shows every example once, in an order of its own.
pub(super) struct Order {
    seed: u64,
    n: usize,
    /// The last pass that was asked for, and its order.
    last: (usize, Vec<usize>),
}

impl Order {
    /// Of `n` examples, at least one.
    pub(super) fn new(seed: u64, n: usize) -> Self {
        Self { seed, n, last: (0, Self::of(seed, n, 0)) }
    }

    fn of(seed: u64, n: usize, pass: usize) -> Vec<usize> {
        Stream::new(seed, Purpose::Order, pass as u64, 0).order(n)
    }

    /// Which example the run shows as its `number`th, and in which pass.
    pub(super) fn at(&mut self, number: usize) -> (usize, usize) {
        let pass = number / self.n;
        if self.last.0 != pass {
            self.last = (pass, Self::of(self.seed, self.n, pass));
        }
        (self.last.1[number % self.n], pass)
    }
}

/// Where the batches of a step's `accumulate` parts begin on one of `n_ranks`, counted within the step.
pub(super) fn starts(batch: usize, accumulate: usize, rank: usize, n_ranks: usize) -> impl Iterator<Item = usize> {
    (0..accumulate).map(move |part| (part * n_ranks + rank) * batch)
}
