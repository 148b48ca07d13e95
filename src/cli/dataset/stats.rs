//! The statistics of a set's sizes: those of the paper's Table 9 and Figure 13.

use std::collections::BTreeMap;

use serde::Serialize;

/// Width of the bins of an image's area, in 10⁶ pixels.
const MEGAPIXELS_BIN: f64 = 2.0;

/// Width of the bins of width / height.
const ASPECT_BIN: f64 = 0.25;

/// More bins than this are not all listed: the empty ones go.
const MAX_BINS: u64 = 100;

/// What a set's sizes are like.
#[derive(Serialize)]
pub struct Stats {
    /// How many images; stands in the line beside.
    #[serde(skip)]
    pub n: usize,
    /// In pixels.
    pub height: Side,
    /// In pixels.
    pub width: Side,
    /// How many images have which size.
    pub histograms: Histograms,
}

/// One side of the images, in pixels.
#[derive(Serialize)]
pub struct Side {
    /// The middle one, or the mean of the two in the middle.
    pub median: f64,
    /// The arithmetic mean.
    pub mean: f64,
    /// The least.
    pub min: u32,
    /// The greatest.
    pub max: u32,
}

/// Figure 13, and the same of area and shape.
#[derive(Serialize)]
pub struct Histograms {
    /// In pixels.
    pub height: Vec<Bin>,
    /// In pixels.
    pub width: Vec<Bin>,
    /// In 10⁶ pixels.
    pub megapixels: Vec<Bin>,
    /// Width / height.
    pub aspect: Vec<Bin>,
}

/// How many values lie in `from..to`.
#[derive(Serialize, PartialEq, Debug)]
pub struct Bin {
    /// The least value of the bin.
    pub from: f64,
    /// The least value of the next.
    pub to: f64,
    /// How many.
    pub n: usize,
}

impl Stats {
    /// Of (width, height) pairs, with bins of `bin` pixels for the sides; none of no pairs.
    pub fn of(sizes: &[(u32, u32)], bin: u32) -> Option<Self> {
        let width = Side::of(sizes.iter().map(|it| it.0))?;
        let height = Side::of(sizes.iter().map(|it| it.1))?;
        let sides = |value: fn(f64, f64) -> f64, step: f64| {
            histogram(sizes.iter().map(|&(width, height)| value(f64::from(width), f64::from(height))), step)
        };
        let histograms = Histograms {
            height: sides(|_, height| height, f64::from(bin)),
            width: sides(|width, _| width, f64::from(bin)),
            megapixels: sides(|width, height| width * height / 1e6, MEGAPIXELS_BIN),
            aspect: sides(|width, height| width / height, ASPECT_BIN),
        };
        Some(Self { n: sizes.len(), height, width, histograms })
    }
}

impl Side {
    fn of(values: impl Iterator<Item = u32>) -> Option<Self> {
        let mut values: Vec<u32> = values.collect();
        values.sort_unstable();
        let (n, min, max) = (values.len(), *values.first()?, *values.last()?);
        let median = (f64::from(values[(n - 1) / 2]) + f64::from(values[n / 2])) / 2.0;
        let mean = values.iter().map(|&it| u64::from(it)).sum::<u64>() as f64 / n as f64;
        Some(Self { median, mean, min, max })
    }
}

/// Bins from the least value's to the greatest's, each a multiple of `step`; without the empty ones where they are many.
fn histogram(values: impl Iterator<Item = f64>, step: f64) -> Vec<Bin> {
    let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
    for value in values {
        *counts.entry((value / step) as u64).or_default() += 1;
    }
    let ends = counts.first_key_value().zip(counts.last_key_value()).map(|(first, last)| (*first.0, *last.0));
    if let Some((first, last)) = ends.filter(|(first, last)| last - first < MAX_BINS) {
        (first..=last).for_each(|it| {
            counts.entry(it).or_default();
        });
    }
    counts.into_iter().map(|(i, n)| Bin { from: i as f64 * step, to: (i + 1) as f64 * step, n }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_count_is_the_mean_of_the_two_in_the_middle() {
        let side = Side::of([7, 1, 4, 2].into_iter()).unwrap();
        assert_eq!((side.median, side.mean, side.min, side.max), (3.0, 3.5, 1, 7));
        assert!(Side::of(std::iter::empty()).is_none());
    }

    #[test]
    fn bins_are_closed_below_and_open_above() {
        let bins = histogram([511.0, 512.0, 1536.0].into_iter(), 512.0);
        assert_eq!(
            bins.iter().map(|it| (it.from, it.n)).collect::<Vec<_>>(),
            [(0.0, 1), (512.0, 1), (1024.0, 0), (1536.0, 1)]
        );
        assert_eq!(histogram([1.0, 1e6].into_iter(), 1.0).len(), 2);
    }
}
