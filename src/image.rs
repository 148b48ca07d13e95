//! 8-bit RGB images: decoding as OpenCV's `imread` does, encoding as Pillow does.

pub mod damage;
pub mod files;
pub mod jpeg;
pub mod labels;
pub mod png;
pub mod resize;

mod blur;
mod error;
mod exif;
mod noise;
mod resample;
mod webp;

use std::io::{BufRead, Read, Seek, SeekFrom};

pub use damage::{apply, make};
pub use error::ImageError;
pub use resample::thumbnail;

use self::exif::Orientation;

/// The most pixels that an image may have unless `max_pixels` says otherwise.
pub const MAX_PIXELS: u64 = 1 << 28;

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

impl Rgb {
    /// A black image.
    pub fn new(width: u32, height: u32) -> Self {
        Self { width, height, pixels: vec![0; 3 * width as usize * height as usize] }
    }

    /// Bytes from one row to the next.
    pub fn stride(&self) -> usize {
        3 * self.width as usize
    }

    /// The `width`×`height` pixels from (`x`, `y`) on, or what of them lies inside the image.
    pub fn crop(&self, x: u32, y: u32, width: u32, height: u32) -> Self {
        let (x, y) = (x.min(self.width), y.min(self.height));
        let (width, height) = (width.min(self.width - x), height.min(self.height - y));
        let (from, len) = (3 * x as usize, 3 * width as usize);
        let mut pixels = Vec::with_capacity(len * height as usize);
        if len > 0 {
            let rows = self.pixels.chunks_exact(self.stride()).skip(y as usize).take(height as usize);
            rows.for_each(|row| pixels.extend_from_slice(&row[from..from + len]));
        }
        Self { width, height, pixels }
    }
}

impl std::fmt::Debug for Rgb {
    /// Says the size alone: the pixels of one photograph would fill a terminal for minutes.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rgb({}×{})", self.width, self.height)
    }
}

/// The formats that are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Baseline, extended and progressive, grey or colour.
    Jpeg,
    /// Any bit depth and colour type.
    Png,
    /// Lossy and lossless.
    Webp,
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::Webp => "WebP",
        })
    }
}

/// What a file's header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Header {
    /// Told by the content, never by the name.
    pub format: Format,
    /// Width in pixels, after the turn that EXIF asks for.
    pub width: u32,
    /// Height in pixels, after the turn that EXIF asks for.
    pub height: u32,
}

impl Header {
    /// Refuses more than `max_pixels` pixels.
    ///
    /// # Errors
    /// [`ImageError::TooLarge`].
    pub fn check(self, max_pixels: u64) -> Result<(), ImageError> {
        let Self { width, height, .. } = self;
        if u64::from(width) * u64::from(height) > max_pixels {
            return Err(ImageError::TooLarge { width, height, max_pixels });
        }
        Ok(())
    }
}

/// Size as stored and the turn that EXIF asks for: what each format's reader finds out.
struct Stored {
    width: u32,
    height: u32,
    orientation: Orientation,
}

/// Tells the format by the first bytes.
fn sniff(start: &[u8]) -> Result<Format, ImageError> {
    match start {
        [] => Err(ImageError::Empty),
        [0xFF, 0xD8, 0xFF, ..] => Ok(Format::Jpeg),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n', ..] => Ok(Format::Png),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Ok(Format::Webp),
        _ => Err(ImageError::unknown(start)),
    }
}

/// Reads format and size, and no more of the file than that takes.
///
/// # Errors
/// Not a JPEG, PNG or WebP file, or one whose header is cut off or broken.
pub fn header<R: BufRead + Seek>(mut reader: R) -> Result<Header, ImageError> {
    let mut start = Vec::with_capacity(16);
    reader.by_ref().take(16).read_to_end(&mut start)?;
    let format = sniff(&start)?;
    reader.seek(SeekFrom::Start(0))?;
    let stored = stored(format, reader)?;
    let (width, height) = stored.orientation.turned(stored.width, stored.height);
    Ok(Header { format, width, height })
}

fn stored<R: BufRead + Seek>(format: Format, reader: R) -> Result<Stored, ImageError> {
    let stored = match format {
        Format::Jpeg => jpeg::stored(reader),
        Format::Png => png::stored(reader),
        Format::Webp => webp::stored(reader),
    }?;
    if stored.width == 0 || stored.height == 0 {
        return Err(ImageError::corrupt(format, "the header says that it has no pixels"));
    }
    Ok(stored)
}

/// Decodes to the pixels of OpenCV 5's `imread(IMREAD_COLOR)`, in RGB order: EXIF's turn is obeyed, grey and palette
/// are expanded, 16 bits shifted right by 8, alpha dropped, colour profiles ignored. An animation gives its first frame.
///
/// # Errors
/// Anything but a whole, undamaged JPEG, PNG or WebP file of at most `max_pixels` pixels (told from the header, before
/// any memory is taken), and CMYK.
pub fn decode(bytes: &[u8], max_pixels: u64) -> Result<Rgb, ImageError> {
    let format = sniff(bytes)?;
    let stored = stored(format, std::io::Cursor::new(bytes))?;
    let (width, height) = stored.orientation.turned(stored.width, stored.height);
    Header { format, width, height }.check(max_pixels)?;
    let rgb = match format {
        Format::Jpeg => jpeg::decode(bytes, &stored),
        Format::Png => png::decode(bytes, &stored),
        Format::Webp => webp::decode(bytes, &stored),
    }?;
    Ok(stored.orientation.apply(rgb))
}
