//! 8-bit RGB images: decoding as OpenCV's `imread` does, encoding as Pillow does.

/// An 8-bit RGB image.
#[derive(Clone, PartialEq, Eq)]
pub struct Rgb {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Row by row, red, green, blue: `3 * width * height` bytes.
    pub pixels: Vec<u8>,
}
