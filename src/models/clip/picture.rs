//! Pictures made ready for CLIP, as `CLIPImageProcessor` of transformers does it with Pillow.

use std::path::Path;

use anyhow::{Context, bail, ensure};
use candle_core::{Device, Tensor};
use serde_json::Value;

use crate::image::Rgb;
use crate::image::resize::{Filter, resize_part};
use crate::models::config::Keys;

/// The file that says how; without it, it is done as for OpenAI's models.
pub const FILE: &str = "preprocessor_config.json";

/// The shorter side is resized to `size`, the middle `crop`×`crop` pixels are taken, levels are scaled and normalised.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Preparation {
    /// Pixels of the shorter side.
    pub size: usize,
    /// Pixels a side of what is taken.
    pub crop: usize,
    filter: Filter,
    /// What 8-bit levels are multiplied with.
    factor: f64,
    mean: [f64; 3],
    deviation: [f64; 3],
}

impl Default for Preparation {
    /// OpenAI's.
    fn default() -> Self {
        Self {
            size: 224,
            crop: 224,
            filter: Filter::Bicubic,
            factor: 1.0 / 255.0,
            mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
            deviation: [0.268_629_54, 0.261_302_58, 0.275_777_11],
        }
    }
}

impl Preparation {
    /// Reads the preprocessor_config.json of a network's folder, if there is one.
    ///
    /// # Errors
    /// It asks for what is not done here; which key.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let (path, mut it) = (folder.join(FILE), Self::default());
        if !path.exists() {
            return Ok(it);
        }
        let keys = Keys::read(&path)?;
        for key in ["do_resize", "do_center_crop", "do_rescale", "do_normalize"] {
            let is_done = keys.find::<bool>(key)?.unwrap_or(true);
            ensure!(is_done, "{}: `{key}` is false: pictures are prepared with all four steps or not", path.display());
        }
        if let Some(size) = keys.find::<Value>("size")? {
            it.size = side(&size, &["shortest_edge"]).with_context(|| wrong(&path, "size", &size))?;
        }
        if let Some(crop) = keys.find::<Value>("crop_size")? {
            it.crop = side(&crop, &["height", "width"]).with_context(|| wrong(&path, "crop_size", &crop))?;
        }
        it.filter = match keys.find("resample")?.unwrap_or(3) {
            1 => Filter::Lanczos,
            2 => Filter::Bilinear,
            3 => Filter::Bicubic,
            4 => Filter::Box,
            other => bail!("{}: `resample` is {other}: 1, 2, 3 or 4 of Pillow's are known", path.display()),
        };
        it.factor = keys.find("rescale_factor")?.unwrap_or(it.factor);
        it.mean = keys.find("image_mean")?.unwrap_or(it.mean);
        it.deviation = keys.find("image_std")?.unwrap_or(it.deviation);
        ensure!(it.deviation.iter().all(|it| *it > 0.0), "{}: `image_std` is not above 0", path.display());
        let (size, crop) = (it.size, it.crop);
        ensure!(crop <= size, "{}: `crop_size` {crop} is more than `size` {size}", path.display());
        Ok(it)
    }

    /// The picture's middle, normalised: [1, 3, crop, crop] in f32 on the CPU.
    ///
    /// # Errors
    /// No memory.
    pub fn prepare(&self, picture: &Rgb) -> anyhow::Result<Tensor> {
        let (width, height) = (u64::from(picture.width), u64::from(picture.height));
        let (size, crop) = (self.size as u64, self.crop as u64);
        // Cut off, as Python's `int` does.
        let to = |side: u64| u32::try_from(size * side / width.min(height).max(1));
        let (width, height) = (to(width)?, to(height)?);
        // Where the middle cannot be met, half a pixel further left and up; torchvision would round to even.
        let at = |side: u32| (side - crop as u32) / 2;
        let part = (at(width), at(height), crop as u32, crop as u32);
        let middle = resize_part(picture, (width, height), part, self.filter);
        let level = |channel: usize| {
            let (mean, deviation) = (self.mean[channel] as f32, self.deviation[channel] as f32);
            let normalised = move |it: &u8| ((f64::from(*it) * self.factor) as f32 - mean) / deviation;
            middle.pixels.iter().skip(channel).step_by(3).map(normalised)
        };
        let levels: Vec<f32> = (0..3).flat_map(level).collect();
        Ok(Tensor::from_vec(levels, (1, 3, self.crop, self.crop), &Device::Cpu)?)
    }
}

/// A number, or an object with exactly these keys, all of one value.
fn side(value: &Value, keys: &[&str]) -> Option<usize> {
    let number =
        |it: &Value| it.as_u64().filter(|it| (1..=65_500).contains(it)).and_then(|it| usize::try_from(it).ok());
    let Some(map) = value.as_object() else { return number(value) };
    let sides: Vec<usize> = keys.iter().map(|it| map.get(*it).and_then(number)).collect::<Option<_>>()?;
    let is_plain = map.iter().all(|(key, it)| keys.contains(&key.as_str()) || it.is_null());
    sides.first().copied().filter(|first| is_plain && sides.iter().all(|it| it == first))
}

fn wrong(path: &Path, key: &str, value: &Value) -> String {
    format!(
        "{}: `{key}` is {value}: one number of pixels, for the shorter side and for a square, is known",
        path.display()
    )
}
