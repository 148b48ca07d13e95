//! Counting by the bits that two levels' planes have in common.

use super::{Cells, OFFSETS, PATCH, Patch};

/// Rows of a plane: those of the patch, and empty ones for offsets that lead down out of it.
pub(super) const PLANE_ROWS: usize = PATCH + 8;

/// The pixels that have one level: bit c of word r stands for column c of row r.
pub(super) type Plane = [u64; PLANE_ROWS];

/// Makes the planes of the levels from `low` on.
#[inline(always)]
pub(super) fn fill(planes: &mut [Plane], patch: &Patch, low: u8) {
    planes.fill([0; PLANE_ROWS]);
    // Down the columns: along a row, equal neighbours would write the same word in turn and wait for each other.
    for column in 0..PATCH {
        for (row, line) in patch.iter().enumerate() {
            planes[usize::from(line[column] - low)][row] |= 1 << column;
        }
    }
}

/// How many second levels were tried in a patch until all pairs were found.
pub(super) struct Tries {
    n_tried: u32,
    n_found: u32,
}

impl Default for Tries {
    fn default() -> Self {
        Self { n_tried: 6, n_found: 1 }
    }
}

impl Tries {
    /// Whether meeting is cheaper than walking, for a level of so many pixels. As measured on Zen 4, a try costs as much
    /// as walking 24 of them.
    #[inline(always)]
    pub(super) fn favour_meeting(&self, n_pixels: u32) -> bool {
        n_pixels * self.n_found > 24 * self.n_tried
    }
}

/// How many pixels a level has.
#[inline(always)]
pub(super) fn n_pixels(plane: &Plane) -> u32 {
    plane[..PATCH].iter().map(|it| it.count_ones()).sum()
}

/// Counts the pairs whose first pixel has level `i`, trying the nearest second levels first.
#[inline(always)]
pub(super) fn meet(planes: &[Plane], i: usize, cells: &mut Cells, tries: &mut Tries) {
    for (k, offset) in OFFSETS.iter().enumerate() {
        // Bits leave the word where the second pixel would lie beyond the patch's left or right edge.
        let mut shifted = [0; PATCH];
        for (out, row) in shifted.iter_mut().zip(&planes[i][..PATCH - offset.down]) {
            *out = if offset.right >= 0 { row << offset.right } else { row >> -offset.right };
        }
        let mut n_left: u32 = shifted.iter().map(|it: &u64| it.count_ones()).sum();
        let mut distance = 0;
        while n_left > 0 {
            let (above, below) = (i + distance, i.wrapping_sub(distance));
            for j in [above, below].into_iter().take(1 + usize::from(distance > 0)) {
                if j < planes.len() && n_left > 0 {
                    let met = planes[j][offset.down..].first_chunk().expect("a plane has rows below the patch");
                    let n_met = common(&shifted, met);
                    cells[j][k] = n_met as u16;
                    n_left -= n_met;
                    tries.n_tried += 1;
                }
            }
            distance += 1;
        }
        tries.n_found += 1;
    }
}

/// How many bits two planes have in common.
#[inline(always)]
fn common(a: &[u64; PATCH], b: &[u64; PATCH]) -> u32 {
    let mut sum = 0;
    for row in 0..PATCH {
        sum += u64::from((a[row] & b[row]).count_ones());
    }
    sum as u32
}
