//! Resizing to Pillow's very bytes: `Image.resize` of 8-bit RGB (Pillow's Resample.c), rows first, then columns.

use std::ops::Range;

use rayon::prelude::*;

use super::Rgb;
pub use crate::job::task::training::Filter;

impl Filter {
    /// How far from its middle it is not 0, in pixels of the coarser picture.
    fn support(self) -> f64 {
        match self {
            Self::Box => 0.5,
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    fn at(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        let far = x.abs();
        match self {
            Self::Box => f64::from(u8::from(x > -0.5 && x <= 0.5)),
            Self::Bilinear => (1.0 - far).max(0.0),
            Self::Bicubic if far < 1.0 => ((A + 2.0) * far - (A + 3.0)) * far * far + 1.0,
            Self::Bicubic if far < 2.0 => (((far - 5.0) * far + 8.0) * far - 4.0) * A,
            Self::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Self::Bicubic | Self::Lanczos => 0.0,
        }
    }
}

fn sinc(x: f64) -> f64 {
    let x = x * std::f64::consts::PI;
    if x == 0.0 { 1.0 } else { x.sin() / x }
}

/// Bits behind the point of a weight: products of 8 bits and their sums stay within 32.
const BITS: u32 = 22;

/// Which pixels of a line go into one pixel of the new line, and how much.
struct Window {
    first: usize,
    weights: Vec<i32>,
}

/// Those of some of the `to` pixels of the new line.
fn windows(from: usize, to: usize, some: Range<usize>, filter: Filter) -> Vec<Window> {
    let scale = from as f64 / to as f64;
    let wide = scale.max(1.0);
    let support = filter.support() * wide;
    let window = |idx: usize| {
        let centre = (idx as f64 + 0.5) * scale;
        // Casts cut off towards 0, as C's do, and stop at 0.
        let first = (centre - support + 0.5) as usize;
        let end = ((centre + support + 0.5) as usize).min(from);
        let raw: Vec<f64> = (first..end).map(|it| filter.at((it as f64 - centre + 0.5) * (1.0 / wide))).collect();
        let sum: f64 = raw.iter().sum();
        let fixed = |it: f64| {
            let it = (if sum == 0.0 { it } else { it / sum }) * f64::from(1 << BITS);
            (if it < 0.0 { it - 0.5 } else { it + 0.5 }) as i32
        };
        Window { first, weights: raw.into_iter().map(fixed).collect() }
    };
    some.map(window).collect()
}

/// The picture at another size, of at least one pixel.
pub fn resize(image: &Rgb, width: u32, height: u32, filter: Filter) -> Rgb {
    if (image.width, image.height) == (width, height) || image.pixels.is_empty() {
        return image.clone();
    }
    let (width, height) = (width.max(1), height.max(1));
    let across = windows(image.width as usize, width as usize, 0..width as usize, filter);
    let down = windows(image.height as usize, height as usize, 0..height as usize, filter);
    let image = if image.width == width { image.clone() } else { rows(image, &across) };
    if image.height == height { image } else { columns(&image, &down) }
}

/// A part of the picture at another size, `to`: what [`resize`] gives, and no more of it is computed. The part is told by
/// its left and upper edge, width and height.
///
/// # Panics
/// The part does not lie inside, or the picture has no pixels.
pub fn resize_part(image: &Rgb, to: (u32, u32), part: (u32, u32, u32, u32), filter: Filter) -> Rgb {
    let (x, y, width, height) = part;
    assert!(u64::from(x) + u64::from(width) <= to.0.into() && u64::from(y) + u64::from(height) <= to.1.into());
    let some = |at: u32, n: u32| at as usize..(at + n) as usize;
    let across = windows(image.width as usize, to.0 as usize, some(x, width), filter);
    let down = windows(image.height as usize, to.1 as usize, some(y, height), filter);
    columns(&rows(image, &across), &down)
}

const HALF: i32 = 1 << (BITS - 1);

fn clamped(sum: i32) -> u8 {
    (sum >> BITS).clamp(0, 255) as u8
}

fn rows(image: &Rgb, windows: &[Window]) -> Rgb {
    let mut to = Rgb::new(windows.len() as u32, image.height);
    let stride = to.stride();
    to.pixels.par_chunks_mut(stride).zip(image.pixels.par_chunks(image.stride())).for_each(|(to, from)| {
        let from = from.as_chunks::<3>().0;
        for (to, window) in to.as_chunks_mut::<3>().0.iter_mut().zip(windows) {
            let mut sums = [HALF; 3];
            for (pixel, weight) in from[window.first..].iter().zip(&window.weights) {
                for (sum, value) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(*value) * weight;
                }
            }
            *to = sums.map(clamped);
        }
    });
    to
}

fn columns(image: &Rgb, windows: &[Window]) -> Rgb {
    let mut to = Rgb::new(image.width, windows.len() as u32);
    let stride = to.stride();
    to.pixels.par_chunks_mut(stride).zip(windows).for_each(|(to, window)| {
        let mut sums = vec![HALF; stride];
        for (from, weight) in image.pixels[window.first * stride..].chunks(stride).zip(&window.weights) {
            for (sum, value) in sums.iter_mut().zip(from) {
                *sum += i32::from(*value) * weight;
            }
        }
        to.iter_mut().zip(sums).for_each(|(to, sum)| *to = clamped(sum));
    });
    to
}
