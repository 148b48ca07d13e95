//! PNG: libpng's pixels in, a fast lossless file out.

use std::io::{BufRead, Cursor, Read, Seek, SeekFrom};

use ::png::{ColorType, Compression, Decoder, DecodingError, Encoder, Limits, Reader, Transformations};

use super::exif::Orientation;
use super::{Format, ImageError, Rgb, Stored};

const SIGNATURE_LEN: u64 = 8;
const CHECKSUM_LEN: i64 = 4;

/// Encodes losslessly, with little effort for size.
pub fn encode(image: &Rgb) -> Vec<u8> {
    encode_labelled(image, &[])
}

/// The same with texts in it, one `iTXt` chunk each, under keywords of 1 to 79 letters.
pub fn encode_labelled(image: &Rgb, labels: &[(&str, String)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, image.width, image.height);
    encoder.set_color(ColorType::Rgb);
    encoder.set_compression(Compression::Fast);
    for (keyword, text) in labels {
        encoder.add_itxt_chunk((*keyword).to_owned(), text.clone()).expect("memory takes every text");
    }
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

/// Reads the header and looks for EXIF, which may also stand behind the pixels; those are stepped over.
pub(super) fn stored<R: BufRead + Seek>(mut reader: R) -> Result<Stored, ImageError> {
    let mut decoder = Decoder::new(&mut reader);
    let info = decoder.read_header_info().map_err(explained)?;
    let (width, height) = (info.width, info.height);
    reader.seek(SeekFrom::Start(SIGNATURE_LEN))?;
    // A file that is cut off still has a size, and decoding it will say so.
    let orientation = find_exif(&mut reader).map_or(Orientation::UPRIGHT, Orientation::from_exif);
    Ok(Stored { width, height, orientation })
}

/// The content of the first `eXIf` chunk.
fn find_exif<R: BufRead + Seek>(reader: &mut R) -> Option<Vec<u8>> {
    loop {
        let mut head = [0; 8];
        reader.read_exact(&mut head).ok()?;
        let [l3, l2, l1, l0, kind @ ..] = head;
        let length = u32::from_be_bytes([l3, l2, l1, l0]);
        match &kind {
            b"eXIf" => {
                let mut content = Vec::new();
                reader.take(u64::from(length)).read_to_end(&mut content).ok()?;
                return Some(content);
            }
            b"IEND" => return None,
            _ => reader.seek_relative(i64::from(length) + CHECKSUM_LEN).ok()?,
        }
    }
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
        other => ImageError::corrupt(Format::Png, &other),
    }
}
