//! Resampling with Pillow's filters, in Pillow's order: rows first, then columns, 8 bits in between.

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};

use super::Rgb;

/// A smaller copy whose longer side is `long_side`; an image that is no larger stays as it is.
pub fn thumbnail(image: &Rgb, long_side: u32) -> Rgb {
    let longest = image.width.max(image.height);
    if longest <= long_side {
        return image.clone();
    }
    let factor = f64::from(longest) / f64::from(long_side.max(1));
    resized(image, shrunk(image.width, factor), shrunk(image.height, factor), FilterType::Lanczos3)
}

/// Down by `factor` and up again to the same size, both with Pillow's `BICUBIC`.
pub(super) fn down_and_up(image: &Rgb, factor: f64) -> Rgb {
    let small = resized(image, shrunk(image.width, factor), shrunk(image.height, factor), FilterType::CatmullRom);
    resized(&small, image.width, image.height, FilterType::CatmullRom)
}

/// A side divided and rounded, halves up, at least 1.
fn shrunk(side: u32, factor: f64) -> u32 {
    ((f64::from(side) / factor).round() as u32).max(1)
}

fn resized(image: &Rgb, width: u32, height: u32, filter: FilterType) -> Rgb {
    // One call for both sides would sum the columns first.
    one_side(&one_side(image, width, image.height, filter), width, height, filter)
}

fn one_side(image: &Rgb, width: u32, height: u32, filter: FilterType) -> Rgb {
    if (width, height) == (image.width, image.height) {
        return image.clone();
    }
    // Typed images: the untyped ones compile the convolutions of every pixel type there is.
    let from = TypedImageRef::<U8x3>::from_buffer(image.width, image.height, &image.pixels)
        .expect("an Rgb holds three bytes a pixel");
    let mut to = Rgb::new(width, height);
    let mut into =
        TypedImage::<U8x3>::from_buffer(width, height, &mut to.pixels).expect("an Rgb holds three bytes a pixel");
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter));
    Resizer::new().resize_typed(&from, &mut into, &options).expect("the whole image is resized");
    to
}
