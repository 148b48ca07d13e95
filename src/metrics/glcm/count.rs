//! Counts pairs of levels in a patch, for all offsets.

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
    /// `count` pairs of pixels at `OFFSETS[offset]` have levels `i` and `j`. Each cell comes at most once, and only
    /// if its count is not 0.
    fn cell(&mut self, offset: usize, i: u8, j: u8, count: u16);
}

/// Counts patch after patch in the same memory.
pub struct Counter {
    /// For each pair of levels the counts of the 14 offsets; all 0 between patches.
    cells: Box<[[u16; 16]]>,
}

impl Default for Counter {
    fn default() -> Self {
        Self { cells: vec![[0; 16]; LEVELS * LEVELS].into_boxed_slice() }
    }
}

impl Counter {
    /// Counts all pairs of `patch` and hands the counts to `sink`.
    ///
    /// # Panics
    /// If a level is not less than [`LEVELS`].
    pub fn count(&mut self, patch: &Patch, sink: &mut impl Sink) {
        for (k, offset) in OFFSETS.iter().enumerate() {
            for row in 0..PATCH - offset.down {
                for column in 0..PATCH {
                    let Some(other) = column.checked_add_signed(offset.right).filter(|it| *it < PATCH) else {
                        continue;
                    };
                    let (i, j) = (patch[row][column], patch[row + offset.down][other]);
                    self.cells[usize::from(i) * LEVELS + usize::from(j)][k] += 1;
                }
            }
        }
        for (cell, counts) in self.cells.iter_mut().enumerate() {
            for (k, count) in counts.iter_mut().enumerate() {
                if *count > 0 {
                    sink.cell(k, (cell / LEVELS) as u8, (cell % LEVELS) as u8, *count);
                }
                *count = 0;
            }
        }
    }
}
