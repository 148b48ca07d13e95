//! Why an image could not be read, in words that say what to do about it.

use super::Format;

/// Why an image could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Nothing in it.
    #[error("the file is empty")]
    Empty,
    /// Neither JPEG nor PNG nor WebP.
    #[error("not a JPEG, PNG or WebP file: {0}")]
    Unknown(&'static str),
    /// More pixels than allowed.
    #[error("{width}×{height} is {} pixels, over the limit of {max_pixels}; raise max_pixels to allow it", u64::from(*width) * u64::from(*height))]
    TooLarge {
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
        /// The limit.
        max_pixels: u64,
    },
    /// A part of the picture that it does not have.
    #[error("{width}×{height} pixels at {x}, {y} lie outside of a picture of {}×{}", size.0, size.1)]
    Outside {
        /// Left edge in pixels.
        x: u32,
        /// Upper edge.
        y: u32,
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
        /// Of the picture.
        size: (u32, u32),
    },
    /// The file ends before the image does.
    #[error("the {0} file is truncated: it ends before the image does")]
    Truncated(Format),
    /// CMYK or YCCK.
    #[error("the JPEG is CMYK; libraries disagree on its conversion, convert it to RGB first")]
    Cmyk,
    /// A feature of the format that is not read.
    #[error("{format} with {what} is not supported")]
    Unsupported {
        /// The file's format.
        format: Format,
        /// The feature.
        what: String,
    },
    /// Broken content.
    #[error("the {format} file is damaged: {what}")]
    Corrupt {
        /// The file's format.
        format: Format,
        /// What is wrong with it.
        what: String,
    },
    /// JPEG cannot hold it.
    #[error("{width}×{height} does not fit into a JPEG, whose sides end at 65500 pixels")]
    TooLongForJpeg {
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
    },
    /// The file system's fault.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl ImageError {
    pub(super) fn corrupt(format: Format, what: &(impl ToString + ?Sized)) -> Self {
        Self::Corrupt { format, what: what.to_string() }
    }

    /// An input error while parsing `format`: the end of the file means that it is cut off.
    pub(super) fn reading(format: Format, error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Self::Truncated(format),
            _ => Self::Io(error),
        }
    }

    /// Names what a file that is none of ours seems to be.
    pub(super) fn unknown(start: &[u8]) -> Self {
        let is_text = |it: &u8| it.is_ascii_graphic() || it.is_ascii_whitespace();
        Self::Unknown(match start {
            [b'G', b'I', b'F', b'8', ..] => "it is a GIF",
            [b'B', b'M', ..] if start.len() > 2 && !start.iter().all(is_text) => "it looks like a BMP",
            [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => "it looks like a TIFF",
            [_, _, _, _, b'f', b't', b'y', b'p', ..] => "it looks like an AVIF, a HEIC or a film",
            [0xFF, 0x0A, ..] | [0, 0, 0, 12, b'J', b'X', b'L', ..] => "it looks like a JPEG XL",
            [0xFF, 0xD8] | [0xFF] | [0x89, b'P', ..] => "it is cut off after its first bytes",
            _ if start.iter().take(16).all(is_text) => "it is text",
            _ => "its first bytes are unknown",
        })
    }
}
