//! Pictures and captions in a folder, and how a picture is cut for training.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use candle_core::{Device, Tensor};
use serde::Deserialize;

use super::random::Stream;
use crate::image::resize::resize;
use crate::image::{Rgb, files};
pub use crate::job::task::training::{Cut, Filter, Place, Scale};

/// A picture to learn from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Picture {
    /// Its file.
    pub path: PathBuf,
    /// Its caption.
    pub caption: String,
    /// Pixels, as it is looked at.
    pub width: u32,
    /// Pixels, as it is looked at.
    pub height: u32,
}

/// What a folder holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Folder {
    /// The pictures that can be learnt from, sorted by their paths.
    pub pictures: Vec<Picture>,
    /// The others, each with its reason.
    pub left_out: Vec<(PathBuf, String)>,
}

impl Folder {
    /// Reads a folder's captions and the pictures' headers. Captions are those of `metadata.jsonl` (`file_name` and
    /// `text`, as the Hugging Face library has them) where there is one, else those of `NAME.txt` beside each picture.
    /// A picture that cannot be read or has no caption is left out and named.
    ///
    /// # Errors
    /// No such folder, a `metadata.jsonl` that cannot be read or names a file twice or one that is not there, no
    /// picture with a caption.
    pub fn read(folder: &Path) -> Result<Self> {
        Self::captioned(folder, None)
    }

    /// The same, with `other` as the caption of pictures that have none.
    ///
    /// # Errors
    /// Those of [`read`](Self::read).
    pub fn captioned(folder: &Path, other: Option<&str>) -> Result<Self> {
        ensure!(folder.is_dir(), "{} is no folder", folder.display());
        let listed = folder.join("metadata.jsonl");
        let captions = if listed.exists() { Some(captions(&listed)?) } else { None };
        let (paths, unreadable) = files::under(folder);
        let mut found = Self::default();
        found.left_out.extend(unreadable.into_iter().map(|it| (it.path, it.error.to_string())));
        let mut unused = captions.clone().unwrap_or_default();
        for path in paths {
            let below = path.strip_prefix(folder).unwrap_or(&path).to_owned();
            let caption = match &captions {
                Some(captions) => captions.get(&below).cloned(),
                None => fs::read_to_string(path.with_extension("txt")).ok().map(|it| it.trim().to_owned()),
            };
            unused.remove(&below);
            let caption = caption.filter(|it| !it.is_empty()).or_else(|| other.map(str::to_owned));
            let Some(caption) = caption else {
                found.left_out.push((path, "it has no caption".to_owned()));
                continue;
            };
            match files::header_of(&path) {
                Ok(header) => {
                    found.pictures.push(Picture { path, caption, width: header.width, height: header.height });
                }
                Err(error) => found.left_out.push((path, error.to_string())),
            }
        }
        if let Some(name) = unused.keys().min() {
            bail!("{} names {}, which is not there, and {} more", listed.display(), name.display(), unused.len() - 1);
        }
        ensure!(
            !found.pictures.is_empty(),
            "{} has no picture with a caption: captions stand in metadata.jsonl, or in NAME.txt beside NAME.jpg",
            folder.display()
        );
        Ok(found)
    }

    /// Reads the pictures' headers alone: what an autoencoder learns from needs no captions, and has empty ones.
    ///
    /// # Errors
    /// No such folder, no picture in it that can be read.
    pub fn without_captions(folder: &Path) -> Result<Self> {
        ensure!(folder.is_dir(), "{} is no folder", folder.display());
        let (paths, unreadable) = files::under(folder);
        let mut found = Self::default();
        found.left_out.extend(unreadable.into_iter().map(|it| (it.path, it.error.to_string())));
        for path in paths {
            match files::header_of(&path) {
                Ok(header) => {
                    let (width, height) = (header.width, header.height);
                    found.pictures.push(Picture { path, caption: String::new(), width, height });
                }
                Err(error) => found.left_out.push((path, error.to_string())),
            }
        }
        ensure!(!found.pictures.is_empty(), "{} has no picture that can be read", folder.display());
        Ok(found)
    }

    /// The pictures whose shorter side is below `side`: they would be enlarged.
    pub fn smaller_than(&self, side: u32) -> Vec<&Picture> {
        self.pictures.iter().filter(|it| it.width.min(it.height) < side).collect()
    }
}

fn captions(path: &Path) -> Result<HashMap<PathBuf, String>> {
    #[derive(Deserialize)]
    struct Line {
        file_name: String,
        text: String,
    }
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let mut captions = HashMap::new();
    for (idx, line) in text.lines().enumerate().filter(|it| !it.1.trim().is_empty()) {
        let place = || format!("{}:{}", path.display(), idx + 1);
        let line: Line = serde_json::from_str(line).with_context(place)?;
        let name = Path::new(&line.file_name).components().filter(|it| *it != Component::CurDir).collect();
        if captions.insert(name, line.text.trim().to_owned()).is_some() {
            bail!("{}: a second caption of {}", place(), line.file_name);
        }
    }
    Ok(captions)
}

impl Cut {
    /// As the released scripts do it.
    pub fn released(side: u32) -> Self {
        Self { side, scale: Scale::Fit, place: Place::Random, flip: true, filter: Filter::Bilinear }
    }

    /// The square of a picture; chance comes from `random`.
    pub fn of(&self, image: &Rgb, random: &mut Stream) -> Rgb {
        self.sized(image, (self.side, self.side), random)
    }

    /// The same, of any width and height.
    pub fn sized(&self, image: &Rgb, wanted: (u32, u32), random: &mut Stream) -> Rgb {
        // What is longer than it need be is cut off to a whole number, as torchvision's Resize does.
        let longer = |side: u32, long: u32, short: u32| (u64::from(side) * u64::from(long) / u64::from(short)) as u32;
        let is_whole = self.scale == Scale::Native && image.width >= wanted.0 && image.height >= wanted.1;
        let is_narrow = u64::from(image.width) * u64::from(wanted.1) <= u64::from(image.height) * u64::from(wanted.0);
        let (width, height) = if is_whole {
            (image.width, image.height)
        } else if is_narrow {
            (wanted.0, longer(wanted.0, image.height, image.width))
        } else {
            (longer(wanted.1, image.width, image.height), wanted.1)
        };
        let image =
            &*if is_whole { Cow::Borrowed(image) } else { Cow::Owned(resize(image, width, height, self.filter)) };
        let mut at = |rest: u32| match self.place {
            Place::Random => random.below(rest as usize + 1) as u32,
            // To the even number, as torchvision's CenterCrop rounds.
            Place::Centre => (f64::from(rest) / 2.0).round_ties_even() as u32,
        };
        let (top, left) = (at(height - wanted.1), at(width - wanted.0));
        let mut square = image.crop(left, top, wanted.0, wanted.1);
        if self.flip && random.uniform() < 0.5 {
            let stride = square.stride();
            square.pixels.chunks_exact_mut(stride).for_each(|row| row.as_chunks_mut::<3>().0.reverse());
        }
        square
    }
}

/// The width and height of an aspect: about as many pixels as a square of this side, multiples of `unit`, and the aspect as
/// near as these allow.
pub fn bucket(side: u32, (width, height): (u32, u32), unit: u32) -> (u32, u32) {
    let unit = unit.max(1);
    let root = (f64::from(width) / f64::from(height)).sqrt();
    let whole = |it: f64| (it / f64::from(unit)).round().max(1.0) as u32 * unit;
    (whole(f64::from(side) * root), whole(f64::from(side) / root))
}

/// The bucket whose aspect is most like a picture's, the first of equal ones; none where there are no buckets.
pub fn nearest(buckets: &[(u32, u32)], (width, height): (u32, u32)) -> Option<(u32, u32)> {
    let log = |(width, height): (u32, u32)| (f64::from(width) / f64::from(height)).ln();
    let off = |it: &&(u32, u32)| (log(**it) - log((width, height))).abs();
    buckets.iter().min_by(|a, b| off(a).total_cmp(&off(b))).copied()
}

/// Squares of one size as [B, 3, side, side] from −1 to 1: (v/255 − 0.5)/0.5.
///
/// # Errors
/// Pictures of several sizes, or no memory.
pub fn stacked(squares: &[Rgb], device: &Device) -> Result<Tensor> {
    let first = squares.first().context("no picture to stack")?;
    let size = (first.width, first.height);
    ensure!(squares.iter().all(|it| (it.width, it.height) == size), "pictures of several sizes");
    let values = squares.iter().flat_map(|it| &it.pixels).map(|it| (f32::from(*it) / 255.0 - 0.5) / 0.5).collect();
    let shape = (squares.len(), first.height as usize, first.width as usize, 3);
    let tensor = Tensor::from_vec::<_, f32>(values, shape, &Device::Cpu)?;
    Ok(tensor.permute((0, 3, 1, 2))?.contiguous()?.to_device(device)?)
}
