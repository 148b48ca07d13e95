//! The CPU's matrix product in f32: operands laid out in panels, tiles of the result kept in registers.
//!
//! After Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", 2008.

use std::ops::Range;

use multiversion::multiversion;
use rayon::prelude::*;

use super::tile::{self, COLUMNS, ROWS};

/// Columns that pass by a panel of rows at a time: with their depth they fill half of a core's second cache.
pub(super) const BLOCK: usize = 16 * COLUMNS;
/// At most so much of the depth is laid out together: a panel of columns then fills a core's first cache.
const DEPTH: usize = 256;
/// Rows of a part that one thread takes.
const PART: usize = 8 * ROWS;
/// Below so many rows, laying the columns out would take longer than the product.
const FEW: usize = 8;

/// Rows or columns of a matrix inside a slice.
#[derive(Clone, Copy)]
pub(super) struct Lanes<'a> {
    /// The numbers.
    pub(super) values: &'a [f32],
    /// How many rows or columns.
    pub(super) n: usize,
    /// How many numbers each has.
    pub(super) depth: usize,
    /// From one to the next.
    pub(super) stride: usize,
    /// From one number of a lane to its next.
    pub(super) depth_stride: usize,
}

impl<'a> Lanes<'a> {
    /// Lanes that stand one behind the other.
    pub(super) fn contiguous(values: &'a [f32], depth: usize) -> Self {
        Self { values, n: values.len() / depth.max(1), depth, stride: depth, depth_stride: 1 }
    }

    /// The other way round: number `i` of each of the lanes is lane `i`.
    pub(super) fn turned(self) -> Self {
        Self { n: self.depth, depth: self.n, stride: self.depth_stride, depth_stride: self.stride, ..self }
    }
}

/// Rows, laid out as the product reads them: a stretch of the depth at a time, and in it panel by panel.
pub(super) struct Rows(Packed);

/// Columns, laid out likewise.
pub(super) struct Columns(Packed);

struct Packed {
    values: Vec<f32>,
    n: usize,
    /// `n` and what fills the last panel up.
    n_padded: usize,
    stretches: Vec<Range<usize>>,
}

impl Rows {
    pub(super) fn new(lanes: Lanes) -> Self {
        Self(Packed::new(lanes, ROWS, 4))
    }

    /// How the depth is cut.
    pub(super) fn stretches(&self) -> &[Range<usize>] {
        &self.0.stretches
    }
}

impl Columns {
    pub(super) fn new(lanes: Lanes) -> Self {
        Self(Packed::new(lanes, COLUMNS, COLUMNS))
    }
}

impl Packed {
    fn new(lanes: Lanes, panel: usize, unit: usize) -> Self {
        let n_padded = lanes.n.next_multiple_of(unit);
        let n_stretches = lanes.depth.div_ceil(DEPTH).max(1);
        let length = lanes.depth.div_ceil(n_stretches).max(1);
        let stretches: Vec<_> =
            (0..lanes.depth).step_by(length).map(|from| from..(from + length).min(lanes.depth)).collect();
        let mut values = vec![0_f32; n_padded * lanes.depth];
        if n_padded > 0 {
            values.par_chunks_mut(length * n_padded).zip(&stretches).for_each(|(values, stretch)| {
                values.par_chunks_mut(panel * stretch.len()).enumerate().for_each(|(idx, to)| {
                    lay_out(lanes, idx * panel, stretch.clone(), to);
                });
            });
        }
        Self { values, n: lanes.n, n_padded, stretches }
    }

    /// The panels of a stretch from lane `first` on.
    fn panels(&self, stretch: usize, first: usize) -> &[f32] {
        let Range { start, end } = self.stretches[stretch];
        &self.values[start * self.n_padded..end * self.n_padded][first * (end - start)..]
    }
}

/// Fills one panel with the lanes from `first` on, number by number; what is past the last lane stays as it is.
fn lay_out(lanes: Lanes, first: usize, stretch: Range<usize>, to: &mut [f32]) {
    let width = to.len() / stretch.len();
    let n = width.min(lanes.n - first);
    if lanes.stride == 1 {
        for (number, to) in stretch.zip(to.chunks_exact_mut(width)) {
            to[..n].copy_from_slice(&lanes.values[number * lanes.depth_stride + first..][..n]);
        }
        return;
    }
    let mut done = 0;
    if lanes.depth_stride == 1 {
        done = n / 4 * 4;
        for lane in (0..done).step_by(4) {
            let four = [0, 1, 2, 3].map(|idx| &lanes.values[(first + lane + idx) * lanes.stride..][stretch.clone()]);
            tile::interleave(four, &mut to[lane..], width);
        }
    }
    for lane in done..n {
        let values = &lanes.values[(first + lane) * lanes.stride + stretch.start * lanes.depth_stride..];
        let values = values.iter().step_by(lanes.depth_stride);
        to[lane..].iter_mut().step_by(width).zip(values).for_each(|(to, value)| *to = *value);
    }
}

/// `rows`·`columns`, or that added to `c` [rows, columns], on all threads.
pub(super) fn multiply(rows: Lanes, columns: Lanes, c: &mut [f32], add: bool) {
    assert_eq!(rows.depth, columns.depth);
    assert_eq!(c.len(), rows.n * columns.n);
    if c.is_empty() {
        return;
    }
    if rows.n < FEW && rows.depth_stride == 1 && columns.depth_stride == 1 {
        return few(rows, columns, c, add);
    }
    let n = columns.n;
    let (rows, columns) = (Rows::new(rows), Columns::new(columns));
    let mut parts = Vec::new();
    for (idx, c) in c.chunks_mut(PART * n).enumerate() {
        let mut blocks: Vec<Vec<&mut [f32]>> = (0..n.div_ceil(BLOCK)).map(|_| Vec::new()).collect();
        for row in c.chunks_mut(n) {
            row.chunks_mut(BLOCK).zip(&mut blocks).for_each(|(piece, block)| block.push(piece));
        }
        parts.extend(blocks.into_iter().enumerate().map(|(block, c)| (idx * PART, block * BLOCK, c)));
    }
    parts.into_par_iter().for_each(|(row, column, mut c)| {
        for stretch in 0..rows.0.stretches.len() {
            let depth = rows.0.stretches[stretch].len();
            let columns = &columns.0.panels(stretch, column)[..c[0].len().next_multiple_of(COLUMNS) * depth];
            part(&rows, stretch, row, columns, &mut c, add || stretch > 0);
        }
    });
}

/// `rows`·`columns` of at most one panel of columns, on this thread.
pub(super) fn product(rows: &Rows, columns: &Columns, c: &mut [[f32; COLUMNS]]) {
    let mut c: Vec<&mut [f32]> = c.iter_mut().map(<[f32; COLUMNS]>::as_mut_slice).collect();
    for stretch in 0..rows.0.stretches.len() {
        part(rows, stretch, 0, columns.0.panels(stretch, 0), &mut c, stretch > 0);
    }
}

/// One stretch's share of the product of some rows, from row `first` on, with laid out columns.
pub(super) fn part(rows: &Rows, stretch: usize, first: usize, columns: &[f32], c: &mut [&mut [f32]], add: bool) {
    let depth = rows.0.stretches[stretch].len();
    debug_assert!(first.is_multiple_of(ROWS) && first + c.len() <= rows.0.n);
    let panels = rows.0.panels(stretch, first).chunks(ROWS * depth);
    for (rows, c) in panels.zip(c.chunks_mut(ROWS)) {
        strip(rows, columns, depth, c, add);
    }
}

/// A panel of rows times panels of columns.
fn strip(rows: &[f32], columns: &[f32], depth: usize, c: &mut [&mut [f32]], add: bool) {
    for (idx, columns) in columns.chunks_exact(COLUMNS * depth).enumerate() {
        let mut sums = [[0_f32; COLUMNS]; ROWS];
        tile::tile(rows, columns, depth, &mut sums);
        for (c, sums) in c.iter_mut().zip(&sums) {
            let from = idx * COLUMNS;
            let to = c.len().min(from + COLUMNS);
            let c = &mut c[from..to];
            if add {
                c.iter_mut().zip(sums).for_each(|(c, sum)| *c += sum);
            } else {
                c.copy_from_slice(&sums[..c.len()]);
            }
        }
    }
}

/// The product of a few rows: each number is read once.
fn few(rows: Lanes, columns: Lanes, c: &mut [f32], add: bool) {
    let mut by_column = vec![0_f32; c.len()];
    by_column.par_chunks_mut(rows.n).enumerate().with_min_len(16).for_each(|(idx, c)| {
        let column = &columns.values[idx * columns.stride..][..columns.depth];
        for (row, c) in c.iter_mut().enumerate() {
            *c = dot(&rows.values[row * rows.stride..][..rows.depth], column);
        }
    });
    for (idx, column) in by_column.chunks(rows.n).enumerate() {
        for (row, value) in column.iter().enumerate() {
            let c = &mut c[row * columns.n + idx];
            *c = if add { *c + value } else { *value };
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0_f32; 64];
    let ((a, rest_a), (b, rest_b)) = (a.as_chunks::<64>(), b.as_chunks::<64>());
    for (a, b) in a.iter().zip(b) {
        for idx in 0..64 {
            sums[idx] += a[idx] * b[idx];
        }
    }
    sums.iter().sum::<f32>() + rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::{Lanes, multiply};

    #[test]
    fn products_of_every_shape_and_layout_are_right() {
        for (m, k, n) in
            [(1, 1, 1), (3, 70, 5), (7, 300, 33), (8, 64, 32), (13, 257, 31), (12, 513, 600), (103, 65, 530)]
        {
            let number = |seed: usize| move |idx: usize| ((idx * 2_654_435_761 + seed) % 1009) as f32 / 504.0 - 1.0;
            let a: Vec<f32> = (0..m * k).map(number(1)).collect();
            let b: Vec<f32> = (0..k * n).map(number(2)).collect();
            let exact = |row: usize, column: usize, a_t: bool, b_t: bool| -> f64 {
                let at = |p| if a_t { a[p * m + row] } else { a[row * k + p] };
                let bt = |p| if b_t { b[p * n + column] } else { b[column * k + p] };
                (0..k).map(|p| f64::from(at(p)) * f64::from(bt(p))).sum()
            };
            for (a_t, b_t, add) in
                [(false, false, false), (false, true, true), (true, false, true), (true, true, false)]
            {
                let rows = if a_t { Lanes::contiguous(&a, m).turned() } else { Lanes::contiguous(&a, k) };
                let columns = if b_t { Lanes::contiguous(&b, n).turned() } else { Lanes::contiguous(&b, k) };
                let mut c = vec![3.0; m * n];
                multiply(rows, columns, &mut c, add);
                for (idx, c) in c.iter().enumerate() {
                    let wanted = exact(idx / n, idx % n, a_t, b_t) + if add { 3.0 } else { 0.0 };
                    assert!((f64::from(*c) - wanted).abs() < 1e-4, "{m}x{k}x{n} {a_t} {b_t} {add} {idx}: {c} {wanted}");
                }
            }
        }
    }
}
