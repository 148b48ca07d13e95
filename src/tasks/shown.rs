//! Makes the pictures ready that a machine is asked about: cropped, made smaller, as JPEG files. The agent asks.

use std::ffi::OsString;

use super::{Inputs, Output, TaskError};
use crate::image::{self, MAX_PIXELS};
use crate::job::task::Picture;
use crate::job::task::asking::{Caption, Crop, Judge};

/// The JPEG quality of what is sent.
const QUALITY: u8 = 95;

/// The two pictures of a question, in the order in which they are shown.
///
/// # Errors
/// A file is gone (the machine's fault) or is no picture (the task's).
pub fn judge(task: &Judge, inputs: &Inputs) -> Result<Output, TaskError> {
    let mut files = Vec::with_capacity(2);
    for (idx, picture) in task.shown().into_iter().enumerate() {
        files.push(ready(picture, task.crop, task.manner.side, &format!("{idx}.jpg"), inputs)?);
    }
    Ok(Output::Ready { files })
}

/// The picture that is captioned.
///
/// # Errors
/// As [`judge`].
pub fn caption(task: &Caption, inputs: &Inputs) -> Result<Output, TaskError> {
    Ok(Output::Ready { files: vec![ready(&task.picture, None, task.manner.side, "0.jpg", inputs)?] })
}

fn ready(picture: &Picture, crop: Option<Crop>, side: u32, name: &str, inputs: &Inputs) -> Result<OsString, TaskError> {
    let bytes = inputs.read(&picture.content)?;
    let fatal = |error: image::ImageError| TaskError::Fatal(error.into());
    let mut rgb = image::make(&bytes, &picture.steps, MAX_PIXELS).map_err(fatal)?;
    if let Some(it) = crop {
        let whole = (rgb.width, rgb.height);
        rgb = rgb.crop(it.x, it.y, it.width, it.height);
        if (rgb.width, rgb.height) != (it.width, it.height) {
            return Err(TaskError::Fatal(anyhow::anyhow!(
                "the crop {}×{} at {}, {} does not lie in a picture of {}×{}",
                it.width,
                it.height,
                it.x,
                it.y,
                whole.0,
                whole.1
            )));
        }
    }
    let jpeg = image::jpeg::encode(&image::thumbnail(&rgb, side), QUALITY).map_err(fatal)?;
    Ok(inputs.write(name, &jpeg)?.into_os_string())
}
