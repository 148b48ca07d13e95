//! Gaussian blur, separable, in f32: columns, then rows, without an image of floats in between.

use multiversion::multiversion;

use super::Rgb;

/// Floats summed at once: four AVX2 registers.
const LANES: usize = 32;

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
    let (blocks, rest) = out.as_chunks_mut::<LANES>();
    let at_rest = blocks.len() * LANES;
    for (i, block) in blocks.iter_mut().enumerate() {
        *block = columns(pairs, weights, i * LANES);
    }
    for (i, value) in rest.iter_mut().enumerate() {
        [*value] = columns(pairs, weights, at_rest + i);
    }
}

// Inlined, so that it is compiled with the wider registers of its callers.
#[inline(always)]
fn columns<const N: usize>(pairs: &[(&[u8], &[u8])], weights: &[f32], from: usize) -> [f32; N] {
    let at = |row: &[u8]| -> [u8; N] { *row[from..].first_chunk().expect("rows are equally long") };
    let mut sums = at(pairs[0].0).map(|it| weights[0] * f32::from(it));
    for (&(above, below), &weight) in pairs.iter().zip(weights).skip(1) {
        let (above, below) = (at(above), at(below));
        for i in 0..N {
            sums[i] += weight * f32::from(u16::from(above[i]) + u16::from(below[i]));
        }
    }
    sums
}

/// The same along a row of pixels of three values, rounded.
#[multiversion(targets("x86_64+avx2"))]
fn sum_rows(padded: &[f32], weights: &[f32], out: &mut [u8]) {
    let (blocks, rest) = out.as_chunks_mut::<LANES>();
    let at_rest = blocks.len() * LANES;
    for (i, block) in blocks.iter_mut().enumerate() {
        *block = along(padded, weights, i * LANES);
    }
    for (i, value) in rest.iter_mut().enumerate() {
        [*value] = along(padded, weights, at_rest + i);
    }
}

#[inline(always)]
fn along<const N: usize>(padded: &[f32], weights: &[f32], from: usize) -> [u8; N] {
    let radius = weights.len() - 1;
    let at = |pixel: usize| -> [f32; N] { *padded[from + 3 * pixel..].first_chunk().expect("the row is padded") };
    let mut sums = at(radius).map(|it| weights[0] * it);
    for (k, &weight) in weights.iter().enumerate().skip(1) {
        let (left, right) = (at(radius - k), at(radius + k));
        for i in 0..N {
            sums[i] += weight * (left[i] + right[i]);
        }
    }
    sums.map(|it| it.round_ties_even() as u8)
}
