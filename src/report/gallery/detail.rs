//! Which part of a picture is worth a look: where pictures differ most.

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
        let grid = Grid::of_difference(a, b);
        if grid.cells.iter().all(|it| *it == 0) {
            return Self::of_largest_contrast(a, side);
        }
        grid.best(side)
    }

    /// The same of the differences between neighbours in a row.
    pub(super) fn of_largest_contrast(image: &Rgb, side: u32) -> Self {
        Grid::of_contrast(image).best(side)
    }

    pub(super) fn of(self, picture: &Rgb) -> Rgb {
        picture.crop(self.x, self.y, self.width, self.height)
    }

    fn overlaps(&self, other: &Self) -> bool {
        let apart = |a: u32, a_length: u32, b: u32, b_length: u32| a + a_length <= b || b + b_length <= a;
        !apart(self.x, self.width, other.x, other.width) && !apart(self.y, self.height, other.y, other.height)
    }

    /// Left, top, width and height in percent of a picture of `size`, for a drawing over it.
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

/// A picture in cells of [`STEP`] pixels a side, each with a sum over its pixels.
pub(super) struct Grid {
    size: (u32, u32),
    n_across: usize,
    n_down: usize,
    cells: Vec<u64>,
}

impl Grid {
    /// How much neighbours in a row differ.
    pub(super) fn of_contrast(image: &Rgb) -> Self {
        Self::of(image, |row, sums| {
            for (x, pair) in row.get(1..).unwrap_or_default().windows(4).step_by(3).enumerate() {
                sums[(x + 1) / STEP] += u64::from(pair[0].abs_diff(pair[3]));
            }
        })
    }

    /// How much two pictures differ; nothing where they are not of one size.
    pub(super) fn of_difference(a: &Rgb, b: &Rgb) -> Self {
        let mut others = b.pixels.chunks_exact((3 * b.width as usize).max(1));
        let comparable = (a.width, a.height) == (b.width, b.height);
        Self::of(a, |row, sums| {
            let Some(other) = others.next().filter(|_| comparable) else { return };
            for (at, (a, b)) in row.iter().zip(other).enumerate() {
                sums[at / (3 * STEP)] += u64::from(a.abs_diff(*b));
            }
        })
    }

    /// `add` is given each row and the sums of its cells.
    fn of(image: &Rgb, mut add: impl FnMut(&[u8], &mut [u64])) -> Self {
        let (width, height) = (image.width as usize, image.height as usize);
        let (n_across, n_down) = (width.div_ceil(STEP), height.div_ceil(STEP));
        let mut cells = vec![0_u64; n_across * n_down];
        for (y, row) in image.pixels.chunks_exact((3 * width).max(1)).enumerate() {
            add(row, &mut cells[y / STEP * n_across..][..n_across]);
        }
        Self { size: (image.width, image.height), n_across, n_down, cells }
    }

    fn best(&self, side: u32) -> Place {
        let places = self.places(side);
        places.into_iter().max_by_key(|it| self.sum(it)).unwrap_or(Place { x: 0, y: 0, width: side, height: side })
    }

    /// Up to `n` places of `side`×`side` pixels that do not overlap, where the sums of `grids` are furthest apart; where
    /// there is one grid alone, where its sum is largest.
    pub(super) fn furthest_apart(grids: &[Self], side: u32, n: usize) -> Vec<Place> {
        let Some(first) = grids.first() else { return Vec::new() };
        let alike = || grids.iter().filter(|it| it.size == first.size);
        let range = |it: &Place| {
            let (low, high) =
                alike().map(|grid| grid.sum(it)).fold((u64::MAX, 0), |(low, high), it| (low.min(it), high.max(it)));
            if alike().count() > 1 { high - low } else { high }
        };
        let mut places: Vec<(u64, Place)> = first.places(side).into_iter().map(|it| (range(&it), it)).collect();
        // Equal ranges in the order of the picture.
        places.sort_by_key(|it| std::cmp::Reverse(it.0));
        let mut chosen: Vec<Place> = Vec::new();
        for (_, it) in places {
            if chosen.len() < n && chosen.iter().all(|other| !other.overlaps(&it)) {
                chosen.push(it);
            }
        }
        chosen
    }

    /// Every place of `side`×`side` pixels, less where the picture is smaller.
    fn places(&self, side: u32) -> Vec<Place> {
        let fits = |n_cells: usize, n_pixels: u32| {
            (0..n_cells).filter(move |it| *it == 0 || it * STEP + side as usize <= n_pixels as usize)
        };
        let (width, height) = (side.min(self.size.0), side.min(self.size.1));
        let place = |left: usize, top: usize| Place { x: (left * STEP) as u32, y: (top * STEP) as u32, width, height };
        fits(self.n_down, self.size.1)
            .flat_map(|top| fits(self.n_across, self.size.0).map(move |left| place(left, top)))
            .collect()
    }

    /// The sum over the cells of a place.
    fn sum(&self, place: &Place) -> u64 {
        let (left, top) = (place.x as usize / STEP, place.y as usize / STEP);
        let right = (left + (place.width as usize).div_ceil(STEP)).min(self.n_across);
        let rows = top..(top + (place.height as usize).div_ceil(STEP)).min(self.n_down);
        rows.map(|row| self.cells[row * self.n_across..][left..right].iter().sum::<u64>()).sum()
    }
}
