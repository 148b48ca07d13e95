//! The CPU's inner loops, on plain slices of f32.

use multiversion::multiversion;

/// Queries that attention takes at a time: a panel of columns.
pub(super) const QUERIES: usize = super::tile::COLUMNS;

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

/// One step of a streaming softmax for `N` queries at a time; `scores` has a row for each key. Raises each top to the
/// largest score of its column, turns scores into e^(score − top), takes them into the sums of their columns, and answers
/// with what earlier sums were multiplied by.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
pub fn soften(scores: &mut [[f32; QUERIES]], tops: &mut [f32; QUERIES], sums: &mut [f32; QUERIES]) -> [f32; QUERIES] {
    let mut shrink = *tops;
    for row in scores.iter() {
        for (top, score) in tops.iter_mut().zip(row) {
            *top = if *score > *top { *score } else { *top };
        }
    }
    for idx in 0..QUERIES {
        shrink[idx] = exp(shrink[idx] - tops[idx]);
        sums[idx] *= shrink[idx];
    }
    for row in scores {
        for idx in 0..QUERIES {
            row[idx] = exp(row[idx] - tops[idx]);
            sums[idx] += row[idx];
        }
    }
    shrink
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
    use super::{QUERIES, soften};

    #[test]
    fn exponentials_are_those_of_the_standard_library() {
        for (idx, x) in (-90_000..=0).map(|it| it as f32 / 1000.0).enumerate() {
            let (mut scores, mut tops, mut sums) = ([[0.0; QUERIES]], [0.0; QUERIES], [0.0; QUERIES]);
            let column = idx % QUERIES;
            scores[0][column] = x;
            soften(&mut scores, &mut tops, &mut sums);
            let (ours, wanted) = (scores[0][column], if x < -87.3 { 0.0 } else { x.exp() });
            assert!((ours - wanted).abs() <= 3e-7 * wanted, "{x} {ours} {wanted}");
            assert_eq!(ours, sums[column]);
        }
    }

    #[test]
    fn a_first_step_forgets_the_sums_before_it() {
        let (mut scores, mut tops, mut sums) = ([[2.0; QUERIES]; 3], [f32::NEG_INFINITY; QUERIES], [0.0; QUERIES]);
        assert_eq!(soften(&mut scores, &mut tops, &mut sums), [0.0; QUERIES]);
        assert_eq!((tops, sums), ([2.0; QUERIES], [3.0; QUERIES]));
    }
}
