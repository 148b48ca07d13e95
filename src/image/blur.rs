//! Gaussian blur, separable, in f32: columns, then rows, without an image of floats in between.

use multiversion::multiversion;

use super::Rgb;

/// Floats summed at once: eight AVX2 registers.
const LANES: usize = 64;

/// `scipy.ndimage.gaussian_filter` of each channel (`mode="reflect"`, `truncate=4`), rounded half to even. Sums run in
/// f32 in a fixed order, so that every machine gives the same bytes; a value that lies within 1e-3 of a half may be
/// rounded the other way than by scipy's f64.
pub(super) fn gaussian(image: &Rgb, sigma: f64) -> Rgb {
    let weights = kernel(sigma);
    let radius = weights.len() - 1;
    let (stride, width) = (image.stride(), image.width as usize);
    let mut blurred = Rgb::new(image.width, image.height);
    let rows: Vec<&[u8]> = image.pixels.chunks_exact(stride).collect();
    // One row of column sums, with `radius` reflected pixels at both ends.
    let mut padded = vec![0.0; stride + 6 * radius];
    let mut pairs = Vec::with_capacity(weights.len());
    for (y, out) in blurred.pixels.chunks_exact_mut(stride).enumerate() {
        pairs.clear();
        pairs.extend((0..=radius).map(|k| {
            let at = |offset: isize| rows[reflected(y as isize + offset, rows.len())];
            (at(-(k as isize)), at(k as isize))
        }));
        sum_columns(&pairs, &weights, &mut padded[3 * radius..][..stride]);
        for k in 0..radius {
            let left = 3 * (radius + reflected(-1 - k as isize, width));
            padded.copy_within(left..left + 3, 3 * (radius - 1 - k));
            let right = 3 * (radius + reflected((width + k) as isize, width));
            padded.copy_within(right..right + 3, 3 * (radius + width + k));
        }
        sum_rows(&padded, &weights, out);
    }
    blurred
}

/// The weights at distances 0, 1, …, round(4σ).
fn kernel(sigma: f64) -> Vec<f32> {
    let radius = (4.0 * sigma + 0.5) as usize;
    let half: Vec<f64> = (0..=radius).map(|it| (-0.5 * (it as f64 / sigma).powi(2)).exp()).collect();
    let sum = half[0] + 2.0 * half[1..].iter().sum::<f64>();
    half.iter().map(|it| (it / sum) as f32).collect()
}

/// The place inside `0..len` that `at` mirrors, edges repeated: d c b a | a b c d | d c b a.
fn reflected(at: isize, len: usize) -> usize {
    let at = at.rem_euclid(2 * len as isize) as usize;
    if at < len { at } else { 2 * len - 1 - at }
}

/// `out[i]` = Σₖ wₖ · (aboveₖ[i] + belowₖ[i]), where above₀ = below₀ counts once.
#[multiversion(targets("x86_64+avx2"))]
fn sum_columns(pairs: &[(&[u8], &[u8])], weights: &[f32], out: &mut [f32]) {
    let mut from = 0;
    while from < out.len() {
        let n = LANES.min(out.len() - from);
        let mut sums = [0.0; LANES];
        for (sum, &value) in sums.iter_mut().zip(&pairs[0].0[from..from + n]) {
            *sum = weights[0] * f32::from(value);
        }
        for (&(above, below), &weight) in pairs.iter().zip(weights).skip(1) {
            let both = above[from..from + n].iter().zip(&below[from..from + n]);
            for (sum, (&above, &below)) in sums.iter_mut().zip(both) {
                *sum += weight * f32::from(u16::from(above) + u16::from(below));
            }
        }
        out[from..from + n].copy_from_slice(&sums[..n]);
        from += n;
    }
}

/// The same along a row of pixels of three values, rounded.
#[multiversion(targets("x86_64+avx2"))]
fn sum_rows(padded: &[f32], weights: &[f32], out: &mut [u8]) {
    let middle = 3 * (weights.len() - 1);
    let mut from = 0;
    while from < out.len() {
        let n = LANES.min(out.len() - from);
        let mut sums = [0.0; LANES];
        let at = middle + from;
        for (sum, &value) in sums.iter_mut().zip(&padded[at..at + n]) {
            *sum = weights[0] * value;
        }
        for (k, &weight) in weights.iter().enumerate().skip(1) {
            let both = padded[at - 3 * k..][..n].iter().zip(&padded[at + 3 * k..][..n]);
            for (sum, (&left, &right)) in sums.iter_mut().zip(both) {
                *sum += weight * (left + right);
            }
        }
        for (out, sum) in out[from..from + n].iter_mut().zip(&sums) {
            *out = sum.round_ties_even() as u8;
        }
        from += n;
    }
}
