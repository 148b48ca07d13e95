//! Counting by the bits that two levels' planes have in common.

use super::{Cells, OFFSETS, PATCH, Patch};

/// Rows of a plane: those of the patch, and empty ones for offsets that lead down out of it.
pub(super) const PLANE_ROWS: usize = PATCH + 8;

/// The pixels that have one level: bit c of word r stands for column c of row r.
pub(super) type Plane = [u64; PLANE_ROWS];

/// Rows that are looked at together.
const CHUNK: usize = 8;

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

/// Which rows a level occupies, and how many pixels.
pub(super) struct Extent {
    first_chunk: usize,
    n_chunks: usize,
    n_pixels: u32,
}

impl Extent {
    /// None if the level has no pixels.
    #[inline(always)]
    pub(super) fn of(plane: &Plane) -> Option<Self> {
        let chunks = plane[..PATCH].as_chunks::<CHUNK>().0;
        let first_chunk = chunks.iter().position(|it| *it != [0; CHUNK])?;
        let last_chunk = chunks.iter().rposition(|it| *it != [0; CHUNK])?;
        let n_pixels = plane[..PATCH].iter().map(|it| it.count_ones()).sum();
        Some(Self { first_chunk, n_chunks: last_chunk + 1 - first_chunk, n_pixels })
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
    /// Whether meeting is cheaper than walking. As measured on Zen 4 a try costs as much as walking 20 pixels, and each
    /// of its chunks as much as 4.
    #[inline(always)]
    pub(super) fn favour_planes(&self, extent: &Extent) -> bool {
        extent.n_pixels * self.n_found > (20 + 4 * extent.n_chunks as u32) * self.n_tried
    }
}

/// Counts the pairs whose first pixel has level `i`, trying the nearest second levels first.
#[inline(always)]
pub(super) fn meet(planes: &[Plane], i: usize, extent: &Extent, cells: &mut Cells, tries: &mut Tries) {
    let first_row = extent.first_chunk * CHUNK;
    let n_rows = extent.n_chunks * CHUNK;
    let rows = &planes[i][first_row..first_row + n_rows];
    let mut shifted = [0; PATCH];
    for (k, offset) in OFFSETS.iter().enumerate() {
        let shifted = &mut shifted[..n_rows];
        // Bits leave the word where the second pixel would lie beyond the patch's left or right edge.
        for (out, row) in shifted.iter_mut().zip(rows) {
            *out = if offset.right >= 0 { row << offset.right } else { row >> -offset.right };
        }
        let n_inside = (PATCH - offset.down).saturating_sub(first_row).min(n_rows);
        let mut n_left: u32 = shifted[..n_inside].iter().map(|it| it.count_ones()).sum();
        let mut distance = 0;
        while n_left > 0 {
            let above = i + distance;
            for j in [above, i.wrapping_sub(distance)].into_iter().take(1 + usize::from(distance > 0)) {
                if j < planes.len() && n_left > 0 {
                    let met = &planes[j][first_row + offset.down..][..n_rows];
                    let n_met = common(shifted, met);
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
fn common(a: &[u64], b: &[u64]) -> u32 {
    let (a, b) = (a.as_chunks::<CHUNK>().0, b.as_chunks::<CHUNK>().0);
    let mut sums = [0; CHUNK];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..CHUNK {
            sums[lane] += u64::from((a[lane] & b[lane]).count_ones());
        }
    }
    sums.iter().sum::<u64>() as u32
}
