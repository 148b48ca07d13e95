//! Known damage: a picture's recipe carried out, the same on every machine.

use super::{ImageError, Rgb, blur, decode, jpeg, noise, resample};
use crate::job::task::Step;

/// Decodes a file and carries out the steps on it.
///
/// # Errors
/// As [`decode`] and [`apply`].
pub fn make(bytes: &[u8], steps: &[Step], max_pixels: u64) -> Result<Rgb, ImageError> {
    apply(decode(bytes, max_pixels)?, steps)
}

/// Carries out the steps, in order.
///
/// - Crop: the middle, from ⌊(side − size)/2⌋ on; a side that is shorter stays whole.
/// - Trim: the same middle, of the largest size whose sides are multiples of the unit; a side below the unit stays.
/// - Patch: those pixels.
/// - Blur: `scipy.ndimage.gaussian_filter`, `mode="reflect"`, `truncate=4`, each channel for itself, rounded half to
///   even.
/// - Resize: Pillow's `BICUBIC` to max(1, round(side/factor)) a side, and back by the same filter.
/// - Jpeg: [`jpeg::encode`] and [`decode`].
/// - Noise: each value is v + σ·N(0, 1), rounded and clamped to 0..=255; the draws follow from the seed alone.
///
/// # Errors
/// A side too long for JPEG in a Jpeg step; a patch that is empty or does not lie inside.
pub fn apply(image: Rgb, steps: &[Step]) -> Result<Rgb, ImageError> {
    steps.iter().try_fold(image, |image, &step| match step {
        Step::Crop { size } => Ok(middle(image, (size, size))),
        Step::Trim { unit } => {
            let whole = |side: u32| if side < unit || unit == 0 { side } else { side / unit * unit };
            let size = (whole(image.width), whole(image.height));
            Ok(middle(image, size))
        }
        Step::Patch { x, y, width, height } => {
            let size = (image.width, image.height);
            let is_inside = |at: u32, length: u32, side: u32| length > 0 && length <= side && at <= side - length;
            if !(is_inside(x, width, size.0) && is_inside(y, height, size.1)) {
                return Err(ImageError::Outside { x, y, width, height, size });
            }
            Ok(image.crop(x, y, width, height))
        }
        Step::Blur { sigma } => Ok(blur::gaussian(&image, sigma)),
        Step::Resize { factor } => Ok(resample::down_and_up(&image, factor)),
        Step::Jpeg { quality } => decode(&jpeg::encode(&image, quality)?, u64::MAX),
        Step::Noise { sigma, seed } => Ok(noise::gaussian(image, sigma, seed)),
    })
}

fn middle(image: Rgb, size: (u32, u32)) -> Rgb {
    let (width, height) = (image.width.min(size.0), image.height.min(size.1));
    if (width, height) == (image.width, image.height) {
        return image;
    }
    image.crop((image.width - width) / 2, (image.height - height) / 2, width, height)
}
