//! Seeded Gaussian noise: whole numbers only while drawing, so that a seed means the same bytes everywhere.

use rand_pcg::Pcg32;
use rand_pcg::rand_core::{Rng, SeedableRng};
use statrs::function::erf::erfc;

use super::Rgb;

/// The largest change that shows in 8 bits.
const LIMIT: i32 = 255;

/// How many of a draw's upper bits choose where the search starts.
const GUIDE_BITS: u32 = 12;

/// Adds noise to every value in turn, one draw each, and clamps to 0..=255.
pub(super) fn gaussian(mut image: Rgb, sigma: f64, seed: u64) -> Rgb {
    let levels = Levels::new(sigma);
    let mut random = Pcg32::seed_from_u64(seed);
    for value in &mut image.pixels {
        *value = (i32::from(*value) + levels.pick(random.next_u32())).clamp(0, 255) as u8;
    }
    image
}

/// The distribution of round(σ·z), z ~ N(0, 1): the level n has the weight Φ((n+½)/σ) − Φ((n−½)/σ), to 2⁻³².
/// A value is a whole number, so rounding the noise is rounding the sum.
struct Levels {
    /// For each level from −[`LIMIT`] on: the draws below this mean it or a lower one.
    ends: Vec<u64>,
    /// For each value of the upper bits: the first level that a draw may mean.
    guide: Vec<u16>,
}

impl Levels {
    fn new(sigma: f64) -> Self {
        let below = |n: i32| 0.5 * erfc(-(f64::from(n) + 0.5) / (sigma * std::f64::consts::SQRT_2));
        let mut ends: Vec<u64> = (-LIMIT..LIMIT).map(|n| (below(n) * 2f64.powi(32)).round() as u64).collect();
        ends.push(1 << 32);
        let first = |start: u64| ends.partition_point(|&end| end <= start) as u16;
        let guide = (0..1 << GUIDE_BITS).map(|it: u64| first(it << (32 - GUIDE_BITS))).collect();
        Self { ends, guide }
    }

    fn pick(&self, draw: u32) -> i32 {
        let mut i = usize::from(self.guide[(draw >> (32 - GUIDE_BITS)) as usize]);
        while self.ends[i] <= u64::from(draw) {
            i += 1;
        }
        i as i32 - LIMIT
    }
}
