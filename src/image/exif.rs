//! The turn that EXIF asks for, and turning.

use super::Rgb;

/// EXIF's orientation, 1 to 8: how the stored pixels must be turned to be looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Orientation {
    /// Rows and columns change places, before the flips.
    transposed: bool,
    flipped_x: bool,
    flipped_y: bool,
}

impl Orientation {
    /// Stored as looked at.
    pub const UPRIGHT: Self = Self { transposed: false, flipped_x: false, flipped_y: false };

    /// From a block of EXIF (a TIFF header, then tags); upright when it says nothing that can be read.
    pub fn from_exif(block: Vec<u8>) -> Self {
        let parsed = ::exif::Reader::new().continue_on_error(true).read_raw(block);
        let parsed = parsed.or_else(|error| error.distill_partial_result(|_| ()));
        let field = parsed.ok().and_then(|it| {
            it.get_field(::exif::Tag::Orientation, ::exif::In::PRIMARY).and_then(|field| field.value.get_uint(0))
        });
        let [transposed, flipped_x, flipped_y] = match field {
            Some(2) => [false, true, false],
            Some(3) => [false, true, true],
            Some(4) => [false, false, true],
            Some(5) => [true, false, false],
            Some(6) => [true, true, false],
            Some(7) => [true, true, true],
            Some(8) => [true, false, true],
            _ => [false; 3],
        };
        Self { transposed, flipped_x, flipped_y }
    }

    /// Width and height after the turn.
    pub fn turned(self, width: u32, height: u32) -> (u32, u32) {
        if self.transposed { (height, width) } else { (width, height) }
    }

    /// Turns the pixels.
    pub fn apply(self, mut image: Rgb) -> Rgb {
        if self.transposed {
            image = transpose(&image);
        }
        let stride = image.stride();
        if self.flipped_x {
            for row in image.pixels.chunks_exact_mut(stride) {
                row.as_chunks_mut::<3>().0.reverse();
            }
        }
        if self.flipped_y {
            let rows = image.height as usize;
            let (top, bottom) = image.pixels.split_at_mut(rows / 2 * stride);
            let bottom = bottom.chunks_exact_mut(stride).rev();
            top.chunks_exact_mut(stride).zip(bottom).for_each(|(a, b)| a.swap_with_slice(b));
        }
        image
    }
}

fn transpose(image: &Rgb) -> Rgb {
    // Square blocks: both sides of the copy stay in the cache.
    const BLOCK: usize = 32;
    let (width, height) = (image.width as usize, image.height as usize);
    let mut turned = Rgb::new(image.height, image.width);
    let from = image.pixels.as_chunks::<3>().0;
    let to = turned.pixels.as_chunks_mut::<3>().0;
    for top in (0..height).step_by(BLOCK) {
        for left in (0..width).step_by(BLOCK) {
            for x in left..(left + BLOCK).min(width) {
                for y in top..(top + BLOCK).min(height) {
                    to[x * height + y] = from[y * width + x];
                }
            }
        }
    }
    turned
}
