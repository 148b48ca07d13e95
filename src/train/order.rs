//! In which order a run shows its examples, and which of them make up a step.

use super::random::{Purpose, Stream};

/// Each pass shows every example once, in an order of its own. Where examples are of several classes, such as shapes, each
/// batch is of one: a class that is no multiple of a batch shows some of its examples twice a pass.
pub(super) struct Order {
    seed: u64,
    /// The examples of each class; one class alone makes no difference between batches.
    classes: Vec<Vec<usize>>,
    batch: usize,
    /// The last pass that was asked for, and its order.
    last: (usize, Vec<usize>),
}

impl Order {
    /// Of examples of these classes, at least one, in batches of `batch`.
    pub(super) fn new(seed: u64, class_of: &[usize], batch: usize) -> Self {
        let n_classes = class_of.iter().max().map_or(0, |it| it + 1);
        let members =
            |class: usize| (0..class_of.len()).filter(move |it| class_of[*it] == class).collect::<Vec<usize>>();
        let classes: Vec<Vec<usize>> = (0..n_classes).map(members).filter(|it| !it.is_empty()).collect();
        let mut order = Self { seed, classes, batch, last: (0, Vec::new()) };
        order.last.1 = order.pass(0);
        order
    }

    fn pass(&self, pass: usize) -> Vec<usize> {
        let stream = |class: usize| Stream::new(self.seed, Purpose::Order, pass as u64, class as u64);
        if let [all] = self.classes.as_slice() {
            return stream(0).order(all.len()).into_iter().map(|it| all[it]).collect();
        }
        let mut batches: Vec<Vec<usize>> = Vec::new();
        for (class, members) in self.classes.iter().enumerate() {
            let order: Vec<usize> = stream(class + 1).order(members.len()).into_iter().map(|it| members[it]).collect();
            let n_shown = members.len().div_ceil(self.batch) * self.batch;
            let shown: Vec<usize> = order.iter().copied().cycle().take(n_shown).collect();
            batches.extend(shown.chunks(self.batch).map(<[usize]>::to_vec));
        }
        stream(0).order(batches.len()).into_iter().flat_map(|it| batches[it].clone()).collect()
    }

    /// Which example the run shows as its `number`th, and in which pass.
    pub(super) fn at(&mut self, number: usize) -> (usize, usize) {
        // Every pass is as long as the first.
        let n = self.last.1.len();
        let pass = number / n;
        if self.last.0 != pass {
            self.last = (pass, self.pass(pass));
        }
        (self.last.1[number % n], pass)
    }
}

/// Where the batches of a step's `accumulate` parts begin on one of `n_ranks`, counted within the step.
pub(super) fn starts(batch: usize, accumulate: usize, rank: usize, n_ranks: usize) -> impl Iterator<Item = usize> {
    (0..accumulate).map(move |part| (part * n_ranks + rank) * batch)
}
