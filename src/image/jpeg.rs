//! JPEG: libjpeg-turbo's pixels in, Pillow's bytes out.

use std::io::{BufRead, Read, Seek};

use libjpeg_turbo_rs::{Decoder, JpegError, PixelFormat, Subsampling};

use super::exif::Orientation;
use super::{Format, ImageError, Rgb, Stored};

/// The longest side that libjpeg writes (its JPEG_MAX_DIMENSION).
const MAX_SIDE: u32 = 65_500;

const START_OF_SCAN: u8 = 0xDA;
const END_OF_IMAGE: u8 = 0xD9;

/// Encodes to the bytes of Pillow's `save(quality=…)`: baseline, 4:2:0, standard tables, JFIF, nothing else in it.
///
/// # Errors
/// A side over 65,500 pixels or no pixels.
pub fn encode(image: &Rgb, quality: u8) -> Result<Vec<u8>, ImageError> {
    let (width, height) = (image.width, image.height);
    if width > MAX_SIDE || height > MAX_SIDE {
        return Err(ImageError::TooLongForJpeg { width, height });
    }
    let pixels = &image.pixels;
    libjpeg_turbo_rs::compress(pixels, width as usize, height as usize, PixelFormat::Rgb, quality, Subsampling::S420)
        .map_err(explained)
}

/// Walks the markers up to the first scan.
pub(super) fn stored<R: BufRead + Seek>(mut reader: R) -> Result<Stored, ImageError> {
    let mut walk = || -> Result<Stored, ImageError> {
        reader.seek_relative(2)?;
        let mut frame = None;
        let mut orientation = None;
        loop {
            let code = next_marker(&mut reader)?;
            match code {
                END_OF_IMAGE => return Err(ImageError::corrupt(Format::Jpeg, "it holds no image")),
                // Markers without content.
                0x01 | 0xD0..=0xD8 => continue,
                _ => {}
            }
            let mut length = [0; 2];
            reader.read_exact(&mut length)?;
            let Some(length) = u16::from_be_bytes(length).checked_sub(2) else {
                return Err(ImageError::corrupt(Format::Jpeg, "a segment's length is below 2"));
            };
            match code {
                START_OF_SCAN => {
                    let (width, height) =
                        frame.ok_or_else(|| ImageError::corrupt(Format::Jpeg, "a scan comes before the frame"))?;
                    return Ok(Stored { width, height, orientation: orientation.unwrap_or(Orientation::UPRIGHT) });
                }
                // The frame headers: all of C0 to CF but the tables DHT, JPG and DAC.
                0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF => {
                    frame = Some(read_frame(&mut reader, length)?);
                }
                0xE1 => {
                    let mut content = vec![0; usize::from(length)];
                    reader.read_exact(&mut content)?;
                    if let Some(block) = content.strip_prefix(b"Exif\0\0") {
                        orientation.get_or_insert_with(|| Orientation::from_exif(block.to_vec()));
                    }
                }
                _ => reader.seek_relative(i64::from(length))?,
            }
        }
    };
    walk().map_err(|error| match error {
        ImageError::Io(error) => ImageError::reading(Format::Jpeg, error),
        other => other,
    })
}

/// The code of the next marker, whatever stray bytes come before it.
fn next_marker<R: Read>(reader: &mut R) -> std::io::Result<u8> {
    let mut byte = [0];
    loop {
        reader.read_exact(&mut byte)?;
        while byte[0] == 0xFF {
            reader.read_exact(&mut byte)?;
            if !matches!(byte[0], 0 | 0xFF) {
                return Ok(byte[0]);
            }
        }
    }
}

/// Width and height of a frame header of `length` bytes, all of which are read.
fn read_frame<R: Read>(reader: &mut R, length: u16) -> Result<(u32, u32), ImageError> {
    let mut content = vec![0; usize::from(length)];
    reader.read_exact(&mut content)?;
    let &[precision, h1, h0, w1, w0, components, ..] = content.as_slice() else {
        return Err(ImageError::corrupt(Format::Jpeg, "the frame header is too short"));
    };
    let unsupported = |what: String| Err(ImageError::Unsupported { format: Format::Jpeg, what });
    match (precision, components) {
        (8, 4) => Err(ImageError::Cmyk),
        (8, 1 | 3) => Ok((u32::from(u16::from_be_bytes([w1, w0])), u32::from(u16::from_be_bytes([h1, h0])))),
        (8, n) => unsupported(format!("{n} components")),
        (n, _) => unsupported(format!("{n} bits a sample")),
    }
}

/// Whether the end-of-image marker is there: a decoder alone would not notice that a progressive file lost its last
/// scans. Segments are stepped over, so the end of a thumbnail inside one is not taken for the image's.
fn is_whole(bytes: &[u8]) -> bool {
    let mut rest = &bytes[2..];
    loop {
        // Inside a scan FF is followed by 0 (a stuffed byte), by a restart marker or by the scan's end.
        let Some(start) = rest.iter().position(|&it| it == 0xFF) else { return false };
        let Some(&code) = rest.get(start + 1) else { return false };
        let body = start + 2;
        match code {
            END_OF_IMAGE => return true,
            0xFF => rest = &rest[start + 1..],
            0x00 | 0x01 | 0xD0..=0xD8 => rest = &rest[body..],
            _ => {
                let Some(&[high, low]) = rest.get(body..body + 2) else { return false };
                let length = usize::from(u16::from_be_bytes([high, low]));
                let Some(next) = rest.get(body + length..) else { return false };
                rest = next;
            }
        }
    }
}

/// Decodes with libjpeg's defaults: accurate integer DCT, smooth chroma upsampling, block smoothing.
pub(super) fn decode(bytes: &[u8], stored: &Stored) -> Result<Rgb, ImageError> {
    if !is_whole(bytes) {
        return Err(ImageError::Truncated(Format::Jpeg));
    }
    let mut decoder = Decoder::new(bytes).map_err(explained)?;
    decoder.set_output_format(PixelFormat::Rgb);
    decoder.set_block_smoothing(true);
    // The limit is the caller's and has been checked; the crate's own must not be lower.
    decoder.set_max_pixels(usize::MAX);
    let mut image = Rgb::new(stored.width, stored.height);
    let info = decoder.decode_image_into(&mut image.pixels).map_err(explained)?;
    if (info.width, info.height) != (stored.width as usize, stored.height as usize) {
        return Err(ImageError::corrupt(Format::Jpeg, "two frame headers disagree on the size"));
    }
    Ok(image)
}

fn explained(error: JpegError) -> ImageError {
    match error {
        JpegError::UnexpectedEof => ImageError::Truncated(Format::Jpeg),
        JpegError::Unsupported(what) => ImageError::Unsupported { format: Format::Jpeg, what },
        JpegError::Io(error) => ImageError::reading(Format::Jpeg, error),
        other => ImageError::corrupt(Format::Jpeg, other),
    }
}
