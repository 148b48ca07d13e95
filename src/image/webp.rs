//! WebP: libwebp's pixels in.

use std::io::{BufRead, Cursor, Seek};

use image_webp::{DecodingError, WebPDecoder};

use super::exif::Orientation;
use super::png::without_alpha;
use super::{Format, ImageError, Rgb, Stored};

/// Reads the chunks' headers and the EXIF.
pub(super) fn stored<R: BufRead + Seek>(reader: R) -> Result<Stored, ImageError> {
    let mut decoder = WebPDecoder::new(reader).map_err(explained)?;
    let (width, height) = decoder.dimensions();
    let block = decoder.exif_metadata().map_err(explained)?;
    let orientation = block.map_or(Orientation::UPRIGHT, |it| {
        // Some writers keep the prefix that EXIF has in JPEG.
        Orientation::from_exif(it.strip_prefix(b"Exif\0\0").map_or_else(|| it.clone(), <[u8]>::to_vec))
    });
    Ok(Stored { width, height, orientation })
}

/// Decodes the image or, of an animation, the first frame.
pub(super) fn decode(bytes: &[u8], stored: &Stored) -> Result<Rgb, ImageError> {
    // The decoder would read zeros past the end of what is there.
    let promised = bytes.get(4..8).map_or(0, |it| u64::from(u32::from_le_bytes([it[0], it[1], it[2], it[3]])) + 8);
    if (bytes.len() as u64) < promised {
        return Err(ImageError::Truncated(Format::Webp));
    }
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(explained)?;
    let too_large = || ImageError::corrupt(Format::Webp, "its pixels do not fit into memory");
    let mut pixels = vec![0; decoder.output_buffer_size().ok_or_else(too_large)?];
    decoder.read_image(&mut pixels).map_err(explained)?;
    let pixels = if decoder.has_alpha() { without_alpha(pixels) } else { pixels };
    Ok(Rgb { width: stored.width, height: stored.height, pixels })
}

fn explained(error: DecodingError) -> ImageError {
    match error {
        DecodingError::IoError(error) => ImageError::reading(Format::Webp, error),
        other => ImageError::corrupt(Format::Webp, &other),
    }
}
