//! The CPU's inner loops, on plain slices of f32.

use multiversion::multiversion;

/// A matrix inside a slice: where its numbers stand.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    /// The numbers.
    pub values: &'a [f32],
    /// From one row to the next.
    pub row_stride: usize,
    /// From one column to the next.
    pub column_stride: usize,
}

/// c = a·b, or c += a·b, of `a` [m, k] and `b` [k, n]; `c` is row by row, `row_stride` from one row to the next. One thread.
pub fn multiply((m, k, n): (usize, usize, usize), a: Matrix, b: Matrix, c: &mut [f32], row_stride: usize, add: bool) {
    if m == 0 || n == 0 {
        return;
    }
    let last = |rows: usize, columns: usize, it: Matrix| (rows - 1) * it.row_stride + (columns - 1) * it.column_stride;
    assert!(k > 0 && row_stride >= n);
    assert!(last(m, k, a) < a.values.len() && last(k, n, b) < b.values.len());
    assert!((m - 1) * row_stride + n <= c.len());
    let beta = if add { 1.0 } else { 0.0 };
    #[expect(unsafe_code, reason = "all that is read and written lies inside the slices: asserted just above")]
    unsafe {
        matrixmultiply::sgemm(
            m,
            k,
            n,
            1.0,
            a.values.as_ptr(),
            a.row_stride as isize,
            a.column_stride as isize,
            b.values.as_ptr(),
            b.row_stride as isize,
            b.column_stride as isize,
            beta,
            c.as_mut_ptr(),
            row_stride as isize,
            1,
        );
    }
}

/// [rows, columns] to [columns, rows].
pub fn transposed(values: &[f32], n_rows: usize, n_columns: usize) -> Vec<f32> {
    assert_eq!(values.len(), n_rows * n_columns);
    let mut turned = vec![0.0; values.len()];
    for (row, values) in values.chunks(n_columns.max(1)).enumerate() {
        for (column, value) in values.iter().enumerate() {
            turned[column * n_rows + row] = *value;
        }
    }
    turned
}

/// e^x to 2 units in the last place; 0 below −87.3, and at most e^88.
#[inline(always)]
fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    let x = x.min(88.0);
    let n = (x * std::f32::consts::LOG2_E + ROUND) - ROUND;
    // ln 2 in two parts, so that the rest is exact.
    let r = x - n * 0.693_359_4;
    let r = r + n * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 0.166_666_65;
    p = p * r + 0.5;
    let y = p * r * r + r + 1.0;
    let scale = f32::from_bits(((n as i32 + 127).max(0) as u32) << 23);
    if x < -87.3 { 0.0 } else { y * scale }
}

/// Each number times sigmoid of `a`·x + `b`·x³: with the right numbers SiLU, GELU's tanh form, quick GELU.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
pub fn sigmoid_gate(from: &[f32], to: &mut [f32], a: f32, b: f32) {
    for (to, &x) in to.iter_mut().zip(from) {
        *to = x / (1.0 + exp(-(a * x + b * x * x * x)));
    }
}

/// SiLU of `factor`·x + `summand`.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
pub fn affine_silu(from: &[f32], to: &mut [f32], factor: f32, summand: f32) {
    for (to, &x) in to.iter_mut().zip(from) {
        let x = x * factor + summand;
        *to = x / (1.0 + exp(-x));
    }
}

/// Raises each top to the largest score of its column; `scores` has a row for each key.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
pub fn raise_tops(scores: &[f32], tops: &mut [f32]) {
    for row in scores.chunks_exact(tops.len().max(1)) {
        for (top, score) in tops.iter_mut().zip(row) {
            *top = if *score > *top { *score } else { *top };
        }
    }
}

/// Turns scores into e^(score − top of its column), and adds them to the sum of their column.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
pub fn exponentials(scores: &mut [f32], tops: &[f32], sums: &mut [f32]) {
    for row in scores.chunks_exact_mut(tops.len().max(1)) {
        for ((score, top), sum) in row.iter_mut().zip(tops).zip(sums.iter_mut()) {
            *score = exp(*score - *top);
            *sum += *score;
        }
    }
}

/// The sum and the sum of squares about `shift`, in f64 at the end of every 16 lanes' run.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
pub fn moments(row: &[f32], shift: f32) -> (f64, f64) {
    let (mut total, mut squares) = (0.0, 0.0);
    for part in row.chunks(4096) {
        let (mut sums, mut powers) = ([0_f32; 16], [0_f32; 16]);
        let (blocks, rest) = part.as_chunks::<16>();
        for block in blocks {
            for idx in 0..16 {
                let x = block[idx] - shift;
                sums[idx] += x;
                powers[idx] += x * x;
            }
        }
        total += sums.iter().map(|it| f64::from(*it)).sum::<f64>();
        squares += powers.iter().map(|it| f64::from(*it)).sum::<f64>();
        for x in rest {
            let x = f64::from(x - shift);
            total += x;
            squares += x * x;
        }
    }
    (total, squares)
}

/// (x − mean)·scale.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
pub fn normalise(from: &[f32], to: &mut [f32], mean: f32, scale: f32) {
    for (to, &x) in to.iter_mut().zip(from) {
        *to = (x - mean) * scale;
    }
}

#[cfg(test)]
mod tests {
    use super::exponentials;

    #[test]
    fn exponentials_are_those_of_the_standard_library() {
        let xs: Vec<f32> = (-90_000..=0).map(|it| it as f32 / 1000.0).collect();
        let (mut ours, mut sums) = (xs.clone(), vec![0.0; xs.len()]);
        exponentials(&mut ours, &vec![0.0; xs.len()], &mut sums);
        for ((x, ours), sum) in xs.iter().zip(&ours).zip(&sums) {
            let wanted = if *x < -87.3 { 0.0 } else { x.exp() };
            assert!((ours - wanted).abs() <= 3e-7 * wanted, "{x} {ours} {wanted}");
            assert_eq!(ours, sum);
        }
    }
}
