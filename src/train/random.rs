//! The random numbers of training: a stream of its own for everything that is drawn, found by what it is for.
//!
//! No state is carried from draw to draw. The noise of a sample depends on the run's seed, the step and the sample's
//! place in that step's whole batch, and on nothing else; so several ranks draw different numbers, all of them the ones
//! that one rank would draw for the same batch, and a run that is resumed goes on as if it had never stopped.

use std::f64::consts::TAU;

use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};

use crate::job::Hash;

/// What a stream is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// The order of the samples in a pass; numbered by the pass.
    Order,
    /// Noise level and noise of a sample; numbered by step and place.
    Noise,
    /// Crop and flip of a picture; numbered by pass and picture.
    Crop,
    /// New weights; numbered by the tensor.
    Weights,
    /// Noise levels and noise of what is held out, the same each time; numbered by the sample.
    HeldOut,
}

/// A sequence of random numbers.
pub struct Stream(Pcg64);

impl Stream {
    /// The stream of this purpose and these two numbers, in a run with this seed.
    pub fn new(seed: u64, purpose: Purpose, a: u64, b: u64) -> Self {
        let Hash(seed) = Hash::of_value(&(seed, purpose as u8, a, b));
        Self(Pcg64::from_seed(seed))
    }

    /// From 0 up to, but not including, 1.
    pub fn uniform(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A whole number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        // Of 2⁶⁴ draws no number is more than one more likely than another.
        ((u128::from(self.0.next_u64()) * n as u128) >> 64) as usize
    }

    /// From N(0, 1).
    pub fn normal(&mut self) -> f64 {
        self.pair()[0]
    }

    /// `n` numbers from N(0, 1).
    pub fn normals(&mut self, n: usize) -> Vec<f32> {
        let mut values: Vec<f32> = (0..n.div_ceil(2)).flat_map(|_| self.pair().map(|it| it as f32)).collect();
        values.truncate(n);
        values
    }

    /// Box and Muller's transform.
    fn pair(&mut self) -> [f64; 2] {
        let (radius, angle) = ((-2.0 * (1.0 - self.uniform()).ln()).sqrt(), TAU * self.uniform());
        [radius * angle.cos(), radius * angle.sin()]
    }

    /// The numbers below `n`, shuffled.
    pub fn order(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for idx in (1..n).rev() {
            order.swap(idx, self.below(idx + 1));
        }
        order
    }
}
