//! Counting by visiting pixels: one increment a pixel and offset.

use super::meet::Plane;
use super::{Cells, LEVELS, OFFSETS, PATCH, Patch};

/// Columns before and after a row, so that no offset leads out of it.
const MARGIN: usize = 4;
const STRIDE: usize = PATCH + 2 * MARGIN;
const ROWS: usize = PATCH + MARGIN;

/// The level of every pixel and, around the patch, a level that no pixel has.
pub(super) struct Neighbours([u8; STRIDE * ROWS]);

impl Neighbours {
    #[inline(always)]
    pub(super) fn of(patch: &Patch, low: u8) -> Self {
        let mut levels = [LEVELS as u8; STRIDE * ROWS];
        for (out, row) in levels.chunks_exact_mut(STRIDE).zip(patch) {
            for (out, level) in out[MARGIN..MARGIN + PATCH].iter_mut().zip(row) {
                *out = level - low;
            }
        }
        Self(levels)
    }
}

/// Counts the pairs whose first pixel is in `plane`.
#[inline(always)]
pub(super) fn walk(plane: &Plane, neighbours: &Neighbours, cells: &mut Cells) {
    for (row, &pixels) in plane[..PATCH].iter().enumerate() {
        let mut pixels = pixels;
        while pixels != 0 {
            let place = row * STRIDE + MARGIN + pixels.trailing_zeros() as usize;
            pixels &= pixels - 1;
            // No two increments in turn are of the same count: each would wait for the one before.
            let around: &[u8; WINDOW] =
                neighbours.0[place - MARGIN..].first_chunk().expect("the margins hold what offsets reach");
            for (k, offset) in OFFSETS.iter().enumerate() {
                let at = (offset.down * STRIDE + MARGIN).wrapping_add_signed(offset.right);
                cells[usize::from(around[at]) % (2 * LEVELS)][k] += 1;
            }
        }
    }
    // What lies around the patch is no pixel.
    cells[LEVELS] = [0; 16];
}

/// From `MARGIN` columns to the left of a pixel to the pixel four rows below it.
const WINDOW: usize = 4 * STRIDE + MARGIN + 1;
