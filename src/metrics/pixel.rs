//! PSNR and NMSE: what follows from the squared differences of pixels.

use super::{Better, Group, How, Metric, Needs, Score, Subject};
use crate::image::Rgb;

const PSNR: Metric = Metric {
    name: "psnr",
    variant: "rgb",
    version: 1,
    needs: Needs::Reference,
    better: Better::Higher,
    unit: "dB",
    about: "Peak signal-to-noise ratio, 10 log10(255² / MSE), over the pixels of all three channels.",
    pooled: false,
};

const NMSE: Metric = Metric {
    name: "nmse",
    variant: "rmse_over_mean",
    better: Better::Lower,
    unit: "",
    about: "Root of the mean squared error by the reference's mean: the reading that fits the published NMSE.",
    ..PSNR
};

pub(super) const GROUP: Group = Group {
    rows: &[
        PSNR,
        NMSE,
        Metric { variant: "energy", about: "Mean squared error by the reference's mean square.", ..NMSE },
        Metric { variant: "variance", about: "Mean squared error by the reference's variance.", ..NMSE },
        Metric {
            variant: "rmse_over_range",
            about: "Root of the mean squared error by the reference's maximum less its minimum.",
            ..NMSE
        },
        Metric {
            variant: "rmse_over_rms",
            about: "Root of the mean squared error by the root of the reference's mean square.",
            ..NMSE
        },
    ],
    score: How::Alone(score),
    pool: |_| None,
};

fn score(wanted: &[&'static Metric], subject: &Subject) -> Vec<Score> {
    let sums = subject.pair().map(|(rgb, reference)| Sums::of(rgb, reference));
    wanted
        .iter()
        .map(|&metric| {
            let value = sums.clone().and_then(|it| if metric.name == PSNR.name { it.psnr() } else { it.nmse(metric) });
            Score { metric, value, note: None }
        })
        .collect()
}

/// Exact sums over the samples (three a pixel) of a picture and its reference, 0 to 255 each.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sums {
    /// How many samples.
    pub n: u64,
    /// Of the squared differences.
    pub squared_error: u64,
    /// Of the reference.
    pub reference: u64,
    /// Of the reference's squares.
    pub reference_squared: u64,
    /// The least sample of the reference.
    pub min: u8,
    /// Its greatest.
    pub max: u8,
}

impl Sums {
    /// Of two pictures of equal size.
    pub fn of(rgb: &Rgb, reference: &Rgb) -> Self {
        let mut sums = Self { n: reference.pixels.len() as u64, min: u8::MAX, ..Self::default() };
        // 2^15 squares of bytes fit into 32 bits.
        for (x, y) in rgb.pixels.chunks(1 << 15).zip(reference.pixels.chunks(1 << 15)) {
            let (error, sum, squares, min, max) = block(x, y);
            sums.squared_error += u64::from(error);
            sums.reference += u64::from(sum);
            sums.reference_squared += u64::from(squares);
            sums.min = sums.min.min(min);
            sums.max = sums.max.max(max);
        }
        sums
    }

    fn mse(&self) -> f64 {
        self.squared_error as f64 / self.n as f64
    }

    fn psnr(&self) -> Result<f64, String> {
        match self.squared_error {
            0 => Err("the picture equals its reference, so its PSNR is infinite".to_owned()),
            _ => Ok(10.0 * (255.0 * 255.0 / self.mse()).log10()),
        }
    }

    fn nmse(&self, metric: &Metric) -> Result<f64, String> {
        let n = self.n as f64;
        let mean_square = self.reference_squared as f64 / n;
        // Whole numbers up to the division: nothing cancels.
        let spread = u128::from(self.n) * u128::from(self.reference_squared) - u128::from(self.reference).pow(2);
        let (numerator, denominator, what) = match metric.variant {
            "energy" => (self.mse(), mean_square, "mean square"),
            "variance" => (self.mse(), spread as f64 / n / n, "variance"),
            "rmse_over_range" => (self.mse().sqrt(), f64::from(self.max.saturating_sub(self.min)), "range of values"),
            "rmse_over_rms" => (self.mse().sqrt(), mean_square.sqrt(), "mean square"),
            _ => (self.mse().sqrt(), self.reference as f64 / n, "mean"),
        };
        if denominator > 0.0 {
            Ok(numerator / denominator)
        } else {
            Err(format!("the reference's {what} is 0, by which it would be divided"))
        }
    }
}

/// Squared error, sum, sum of squares, least and greatest of at most 2^15 samples.
#[multiversion::multiversion(targets = "simd")]
fn block(x: &[u8], y: &[u8]) -> (u32, u32, u32, u8, u8) {
    let (mut error, mut sum, mut squares, mut min, mut max) = (0, 0, 0, u8::MAX, 0);
    for (&x, &y) in x.iter().zip(y) {
        let difference = i32::from(x) - i32::from(y);
        error += (difference * difference) as u32;
        sum += u32::from(y);
        squares += u32::from(y) * u32::from(y);
        min = min.min(y);
        max = max.max(y);
    }
    (error, sum, squares, min, max)
}
