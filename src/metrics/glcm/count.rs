//! Counts pairs of levels in a patch, for all offsets.
//!
//! The pairs of one first level after another are counted, in one of two ways. *Walking* visits the pixels that have
//! the level and increments one count an offset, which takes time in proportion to the pixels. *Meeting* holds 64
//! pixels of a level in one word: the pixels of level i, shifted by the offset, and those of level j have as many
//! bits in common as there are pairs. That takes time in proportion to the levels that meet, which are few in
//! photographs. The cheaper way is taken, level by level.

mod meet;
mod walk;

use meet::{PLANE_ROWS, Plane, Tries, fill, meet, n_pixels};
use walk::{Neighbours, walk};

/// Side of a patch in pixels.
pub const PATCH: usize = 64;

/// How many levels there are: a level is less than this.
pub const LEVELS: usize = 64;

/// Levels of a patch, row by row.
pub type Patch = [[u8; PATCH]; PATCH];

/// Where the second pixel of a pair lies from the first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offset {
    /// Rows down.
    pub down: usize,
    /// Columns to the right; to the left if negative.
    pub right: isize,
    /// How many of the 16 matrices have this offset: distances 1 and 2 round to the same diagonal.
    pub weight: u32,
}

impl Offset {
    const fn new(down: usize, right: isize, weight: u32) -> Self {
        Self { down, right, weight }
    }

    /// How many pairs of pixels of a patch lie this far apart.
    pub const fn n_pairs(&self) -> usize {
        (PATCH - self.down) * (PATCH - self.right.unsigned_abs())
    }
}

/// The distinct offsets of distances 1 to 4 at 0°, 45°, 90° and 135°, as scikit-image rounds them.
pub const OFFSETS: [Offset; 14] = [
    Offset::new(0, 1, 1),
    Offset::new(0, 2, 1),
    Offset::new(0, 3, 1),
    Offset::new(0, 4, 1),
    Offset::new(1, 0, 1),
    Offset::new(2, 0, 1),
    Offset::new(3, 0, 1),
    Offset::new(4, 0, 1),
    Offset::new(1, 1, 2),
    Offset::new(2, 2, 1),
    Offset::new(3, 3, 1),
    Offset::new(1, -1, 2),
    Offset::new(2, -2, 1),
    Offset::new(3, -3, 1),
];

/// What counts are handed to.
pub trait Sink {
    /// `counts[k]` pairs of pixels at `OFFSETS[k]` have levels `i` and `j`; what lies beyond the offsets is no count.
    /// Pairs of levels that are not handed over have no pixels.
    fn cells(&mut self, i: u8, j: u8, counts: &[u16; 16]);
}

/// Counts patch after patch in the same memory.
pub struct Counter {
    planes: Box<[Plane; LEVELS]>,
    cells: Box<Cells>,
}

/// For each second level the counts of the 14 offsets, given the first level.
type Cells = [[u16; 16]; 2 * LEVELS];

impl Default for Counter {
    fn default() -> Self {
        Self { planes: Box::new([[0; PLANE_ROWS]; LEVELS]), cells: Box::new([[0; 16]; 2 * LEVELS]) }
    }
}

impl Counter {
    /// Counts all pairs of `patch` and hands the counts to `sink`.
    ///
    /// # Panics
    /// If a level is not less than [`LEVELS`].
    pub fn count(&mut self, patch: &Patch, sink: &mut impl Sink) {
        count(self, patch, sink);
    }
}

#[multiversion::multiversion(targets = "simd")]
fn count<S: Sink>(counter: &mut Counter, patch: &Patch, sink: &mut S) {
    let (low, high) = range(patch);
    let n_levels = usize::from(high - low) + 1;
    let planes = &mut counter.planes[..n_levels];
    fill(planes, patch, low);
    let neighbours = Neighbours::of(patch, low);
    let mut tries = Tries::default();
    for i in 0..n_levels {
        let n_pixels = n_pixels(&planes[i]);
        if n_pixels == 0 {
            continue;
        }
        if tries.favour_meeting(n_pixels) {
            meet(planes, i, &mut counter.cells, &mut tries);
        } else {
            walk(&planes[i], &neighbours, &mut counter.cells);
        }
        for (j, counts) in counter.cells[..n_levels].iter_mut().enumerate() {
            if *counts != [0; 16] {
                sink.cells(low + i as u8, low + j as u8, counts);
                *counts = [0; 16];
            }
        }
    }
}

/// The least and the greatest level.
#[inline(always)]
fn range(patch: &Patch) -> (u8, u8) {
    let (mut low, mut high) = (u8::MAX, 0);
    for row in patch {
        for &level in row {
            low = low.min(level);
            high = high.max(level);
        }
    }
    (low, high)
}
