//! Best shift: by how many whole pixels a picture has moved against its reference.

use rayon::prelude::*;

use super::{Better, Group, How, Metric, Needs, Score, Subject};
use crate::image::Rgb;

/// How far is looked along each axis, in pixels.
const REACH: i64 = 4;

pub(super) const GROUP: Group = Group {
    rows: &[Metric {
        name: "best_shift",
        variant: "rgb",
        version: 1,
        needs: Needs::Reference,
        better: Better::Higher,
        unit: "dB",
        about: "PSNR where the picture lies best on its reference when it is moved by whole pixels, up to 4 along \
                each axis; the remark says by how many.",
        pooled: false,
    }],
    score: How::Alone(score),
    pool: |_| None,
};

fn score(wanted: &[&'static Metric], subject: &Subject) -> Vec<Score> {
    let found = subject.pair().map(|(rgb, reference)| Shift::best(rgb, reference));
    wanted
        .iter()
        .map(|&metric| match &found {
            Ok(found) => Score { metric, value: found.psnr(), note: Some(found.words()) },
            Err(why) => Score { metric, value: Err(why.clone()), note: None },
        })
        .collect()
}

/// A picture's place against its reference.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Shift {
    /// How many pixels further right the picture's content lies than its reference's.
    pub dx: i64,
    /// How many pixels further down.
    pub dy: i64,
    /// The mean squared error over what both have in common then.
    pub mse: f64,
}

impl Shift {
    /// The place with the least error; of equally good ones that which moves least. The pictures have one size.
    pub fn best(rgb: &Rgb, reference: &Rgb) -> Self {
        let (width, height) = (i64::from(rgb.width), i64::from(rgb.height));
        let places: Vec<(i64, i64)> =
            (-REACH..=REACH).flat_map(|dy| (-REACH..=REACH).map(move |dx| (dx, dy))).collect();
        let fitting = places.into_par_iter().filter(|(dx, dy)| dx.abs() < width && dy.abs() < height);
        let shifts: Vec<Self> = fitting.map(|(dx, dy)| Self { dx, dy, mse: mse(rgb, reference, dx, dy) }).collect();
        let order = |it: &Self| (it.mse, it.dx.abs() + it.dy.abs());
        shifts
            .into_iter()
            .min_by(|a, b| order(a).0.total_cmp(&order(b).0).then(order(a).1.cmp(&order(b).1)))
            .expect("a picture can stay where it is")
    }

    fn psnr(&self) -> Result<f64, String> {
        if self.mse > 0.0 {
            Ok(10.0 * (255.0 * 255.0 / self.mse).log10())
        } else {
            Err(format!("the picture equals its reference, {}, so the PSNR is infinite", self.words()))
        }
    }

    fn words(&self) -> String {
        let along = |n: i64, more: &str, less: &str| match n {
            0 => None,
            n => Some(format!("{} px {}", n.abs(), if n > 0 { more } else { less })),
        };
        match (along(self.dx, "right", "left"), along(self.dy, "down", "up")) {
            (None, None) => "not moved".to_owned(),
            (Some(one), None) | (None, Some(one)) => format!("moved {one}"),
            (Some(x), Some(y)) => format!("moved {x} and {y}"),
        }
    }
}

/// Mean squared error of the picture at (x + dx, y + dy) against the reference at (x, y), where both are.
fn mse(rgb: &Rgb, reference: &Rgb, dx: i64, dy: i64) -> f64 {
    let (width, height) = (i64::from(rgb.width), i64::from(rgb.height));
    let n_across = (width - dx.abs()) as usize;
    let stride = rgb.stride();
    let from = |shift: i64| shift.max(0) as usize;
    let mut sum = 0_u64;
    for row in 0..(height - dy.abs()) as usize {
        let x = (row + from(dy)) * stride + 3 * from(dx);
        let y = (row + from(-dy)) * stride + 3 * from(-dx);
        let (x, y) = (&rgb.pixels[x..x + 3 * n_across], &reference.pixels[y..y + 3 * n_across]);
        // 2^15 squares of bytes fit into 32 bits.
        sum += x.chunks(1 << 15).zip(y.chunks(1 << 15)).map(|(x, y)| u64::from(squared_error(x, y))).sum::<u64>();
    }
    sum as f64 / (3 * n_across) as f64 / (height - dy.abs()) as f64
}

#[multiversion::multiversion(targets = "simd")]
fn squared_error(x: &[u8], y: &[u8]) -> u32 {
    x.iter().zip(y).map(|(&x, &y)| (i32::from(x) - i32::from(y)).pow(2) as u32).sum()
}

#[cfg(test)]
mod tests {
    use super::Shift;
    use crate::image::Rgb;

    /// A picture of which no two places are alike, its content moved.
    fn grain(dx: u32, dy: u32) -> Rgb {
        let mut image = Rgb::new(60, 50);
        for (idx, pixel) in image.pixels.chunks_exact_mut(3).enumerate() {
            let (x, y) = (idx as u32 % 60 + 10 - dx, idx as u32 / 60 + 10 - dy);
            let hash = x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(2_246_822_519);
            pixel.copy_from_slice(&hash.wrapping_mul(3_266_489_917).to_le_bytes()[1..]);
        }
        image
    }

    #[test]
    fn a_moved_picture_is_found() {
        for (dx, dy, words) in
            [(0, 0, "not moved"), (1, 1, "moved 1 px right and 1 px down"), (3, 0, "moved 3 px right")]
        {
            let found = Shift::best(&grain(dx, dy), &grain(0, 0));
            assert_eq!((found.dx, found.dy, found.mse), (i64::from(dx), i64::from(dy), 0.0));
            assert_eq!(found.words(), words);
            let back = Shift::best(&grain(0, 0), &grain(dx, dy));
            assert_eq!((back.dx, back.dy), (-i64::from(dx), -i64::from(dy)));
        }
    }

    #[test]
    fn flat_pictures_stay_where_they_are() {
        let found = Shift::best(&Rgb::new(2, 9), &Rgb::new(2, 9));
        assert_eq!((found.dx, found.dy), (0, 0));
        assert!(found.psnr().unwrap_err().contains("not moved"));
    }
}
