//! PNG: libpng's pixels in, a fast lossless file out.

use std::io::{BufRead, Cursor, Seek};

use ::png::{ColorType, Compression, Decoder, DecodingError, Encoder, Limits, Reader, Transformations};

use super::exif::Orientation;
use super::{Format, ImageError, Rgb, Stored};

/// Encodes losslessly, with little effort for size.
pub fn encode(image: &Rgb) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, image.width, image.height);
    encoder.set_color(ColorType::Rgb);
    encoder.set_compression(Compression::Fast);
    encoder
        .write_header()
        .and_then(|mut it| it.write_image_data(&image.pixels).and_then(|()| it.finish()))
        .expect("memory takes every byte, and the image has a pixel at least");
    bytes
}

fn open<R: BufRead + Seek>(reader: R) -> Result<Reader<R>, ImageError> {
    let mut decoder = Decoder::new_with_limits(reader, Limits { bytes: usize::MAX });
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_transformations(Transformations::normalize_to_color8());
    decoder.read_info().map_err(explained)
}

/// Reads up to the pixels.
pub(super) fn stored<R: BufRead + Seek>(reader: R) -> Result<Stored, ImageError> {
    let reader = open(reader)?;
    let info = reader.info();
    let orientation =
        info.exif_metadata.as_ref().map_or(Orientation::UPRIGHT, |it| Orientation::from_exif(it.to_vec()));
    Ok(Stored { width: info.width, height: info.height, orientation })
}

/// Decodes the default image and checks that the file goes on to its end.
pub(super) fn decode(bytes: &[u8], stored: &Stored) -> Result<Rgb, ImageError> {
    let mut reader = open(Cursor::new(bytes))?;
    let too_large = || ImageError::corrupt(Format::Png, "its pixels do not fit into memory");
    let mut pixels = vec![0; reader.output_buffer_size().ok_or_else(too_large)?];
    let color = reader.next_frame(&mut pixels).map_err(explained)?.color_type;
    reader.finish().map_err(explained)?;
    let pixels = match color {
        ColorType::Rgb => pixels,
        ColorType::Rgba => without_alpha(pixels),
        ColorType::Grayscale => pixels.iter().flat_map(|&it| [it; 3]).collect(),
        ColorType::GrayscaleAlpha => pixels.as_chunks::<2>().0.iter().flat_map(|&[it, _]| [it; 3]).collect(),
        ColorType::Indexed => return Err(ImageError::corrupt(Format::Png, "it has no palette")),
    };
    Ok(Rgb { width: stored.width, height: stored.height, pixels })
}

/// Drops every fourth byte, in place.
pub(super) fn without_alpha(mut pixels: Vec<u8>) -> Vec<u8> {
    let count = pixels.len() / 4;
    for i in 1..count {
        pixels.copy_within(4 * i..4 * i + 3, 3 * i);
    }
    pixels.truncate(3 * count);
    pixels
}

fn explained(error: DecodingError) -> ImageError {
    match error {
        DecodingError::IoError(error) => ImageError::reading(Format::Png, error),
        other => ImageError::corrupt(Format::Png, other),
    }
}
