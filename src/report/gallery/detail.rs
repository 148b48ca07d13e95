//! Which part of a picture is worth a look: where two pictures differ most.

use std::fmt;

use crate::image::Rgb;

/// Places are multiples of this many pixels.
const STEP: usize = 32;

/// A rectangle in pixels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) x: u32,
    pub(super) y: u32,
    pub(super) width: u32,
    pub(super) height: u32,
}

impl Place {
    /// The `side`×`side` pixels (less in a smaller picture) in which the sum of absolute differences is largest.
    /// Pictures that do not differ at all are looked at where they have most contrast.
    pub(super) fn of_largest_difference(a: &Rgb, b: &Rgb, side: u32) -> Self {
        if (a.width, a.height) != (b.width, b.height) || a.pixels == b.pixels {
            return Self::of_largest_contrast(a, side);
        }
        let stride = 3 * a.width as usize;
        let difference = |row: usize, x: usize| {
            let at = row * stride + 3 * x;
            (0..3).map(|it| u64::from(a.pixels[at + it].abs_diff(b.pixels[at + it]))).sum()
        };
        Self::of_largest_sum(a, side, difference)
    }

    /// The same of the differences between neighbours in a row.
    pub(super) fn of_largest_contrast(image: &Rgb, side: u32) -> Self {
        let stride = 3 * image.width as usize;
        let contrast = |row: usize, x: usize| {
            let at = row * stride + 3 * x + 1;
            let left = if x == 0 { at } else { at - 3 };
            u64::from(image.pixels[at].abs_diff(image.pixels[left]))
        };
        Self::of_largest_sum(image, side, contrast)
    }

    fn of_largest_sum(image: &Rgb, side: u32, weight: impl Fn(usize, usize) -> u64) -> Self {
        let (width, height) = (image.width as usize, image.height as usize);
        let (n_across, n_down) = (width.div_ceil(STEP), height.div_ceil(STEP));
        let mut cells = vec![0_u64; n_across * n_down];
        for y in 0..height {
            for x in 0..width {
                cells[y / STEP * n_across + x / STEP] += weight(y, x);
            }
        }
        let reach = (side as usize).div_ceil(STEP);
        let sum = |left: usize, top: usize| -> u64 {
            let rows = top..(top + reach).min(n_down);
            rows.map(|row| cells[row * n_across..][left..(left + reach).min(n_across)].iter().sum::<u64>()).sum()
        };
        let fits = |n_cells: usize, n_pixels: usize| {
            (0..n_cells).filter(move |it| *it == 0 || it * STEP + side as usize <= n_pixels)
        };
        let places = fits(n_down, height).flat_map(|top| fits(n_across, width).map(move |left| (left, top)));
        let best = places.max_by_key(|(left, top)| sum(*left, *top)).unwrap_or_default();
        Self {
            x: (best.0 * STEP) as u32,
            y: (best.1 * STEP) as u32,
            width: side.min(image.width),
            height: side.min(image.height),
        }
    }

    /// Left, top, width and height in percent of a picture of `size`, for a style sheet.
    pub(super) fn percent_of(&self, (width, height): (u32, u32)) -> [String; 4] {
        [(self.x, width), (self.y, height), (self.width, width), (self.height, height)]
            .map(|(part, whole)| format!("{:.2}", 100.0 * f64::from(part) / f64::from(whole)))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}×{} pixels from x {}, y {}", self.width, self.height, self.x, self.y)
    }
}
