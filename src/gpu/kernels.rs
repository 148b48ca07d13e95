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

/// Turns a row of scores into e^(score − top) and returns their sum.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
pub fn exponentials(row: &mut [f32], top: f32) -> f32 {
    let mut sums = [0_f32; 16];
    let (blocks, rest) = row.as_chunks_mut::<16>();
    for block in blocks {
        for (value, sum) in block.iter_mut().zip(&mut sums) {
            *value = exp(*value - top);
            *sum += *value;
        }
    }
    let mut total: f32 = sums.iter().sum();
    for value in rest {
        *value = exp(*value - top);
        total += *value;
    }
    total
}

/// The largest number.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
pub fn largest(row: &[f32]) -> f32 {
    let mut tops = [f32::NEG_INFINITY; 16];
    let (blocks, rest) = row.as_chunks::<16>();
    for block in blocks {
        for (value, top) in block.iter().zip(&mut tops) {
            *top = if *value > *top { *value } else { *top };
        }
    }
    tops.iter().chain(rest).fold(f32::NEG_INFINITY, |top, it| top.max(*it))
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
        let mut ours = xs.clone();
        let sum = exponentials(&mut ours, 0.0);
        let mut total = 0.0;
        for (x, ours) in xs.iter().zip(&ours) {
            let wanted = if *x < -87.3 { 0.0 } else { x.exp() };
            assert!((ours - wanted).abs() <= 3e-7 * wanted, "{x} {ours} {wanted}");
            total += f64::from(*ours);
        }
        assert!((f64::from(sum) / total - 1.0).abs() < 1e-5);
    }
}
