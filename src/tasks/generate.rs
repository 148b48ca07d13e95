//! Makes pictures of prompts, in three tasks: encodes a prompt, denoises a latent, decodes a picture.

use std::time::Instant;

use super::inputs::Inputs;
use super::memory::{Memory, classed};
use super::supervisor::Point;
use super::{Output, Supervisor, TaskError};
use crate::gpu::usage;
use crate::image::labels;
use crate::image::{Rgb, jpeg, png};
use crate::job::task::making::{Decode, Denoise, Encode, FileFormat, MEMORY_GIB, STEP_S};
use crate::models::memory::BANDS;
use crate::models::noise::Recipe;
use crate::models::pipeline::{Sampling, latent_from_bytes, latent_to_bytes};
use crate::models::text::Encoded;
use crate::stats::describe::quantile;

/// The quality of [`FileFormat::Jpeg95`].
const QUALITY: u8 = 95;

/// Encodes a prompt.
///
/// # Errors
/// The encoders are not here or cannot be loaded, or the disk is full.
pub fn encode(task: &Encode, inputs: &Inputs, memory: &mut Memory) -> Result<Output, TaskError> {
    let encoders = memory.text(&task.model, task.dtype, inputs)?;
    let encoded = encoders.encode(&task.prompt, task.t5_tokens as usize).map_err(classed)?;
    let file = inputs.write("encoded", &encoded.to_bytes().map_err(TaskError::Fatal)?)?;
    Ok(Output::Made { file: file.into_os_string(), size: None, n_cut: Some(encoded.n_cut) })
}

/// Makes a latent. Two curves of one point each say how long a step took (the median without the first) and the most memory.
///
/// # Errors
/// The encoded prompts or the transformer are not here, the latent is no longer finite, or the disk is full.
pub fn denoise(
    task: &Denoise,
    inputs: &Inputs,
    memory: &mut Memory,
    supervisor: &mut dyn Supervisor,
) -> Result<Output, TaskError> {
    let encoded =
        |key| -> Result<Encoded, TaskError> { Encoded::from_bytes(&inputs.read(key)?).map_err(TaskError::Fatal) };
    let prompt = encoded(&task.prompt)?;
    let negative = task.negative.as_ref().map(encoded).transpose()?;
    let sampling = Sampling {
        width: task.width,
        height: task.height,
        steps: task.steps as usize,
        guidance: task.guidance,
        seed: task.seed,
        noise: Recipe::Current,
    };
    let device = memory.device()?;
    let mut ends = Vec::with_capacity(sampling.steps);
    let (latent, most_gib) = usage::most(&device, || {
        let denoiser = memory.denoiser(task, inputs)?;
        let mut progress = |done, of| {
            ends.push(Instant::now());
            supervisor.progress(done, of);
        };
        denoiser.denoise(&prompt, negative.as_ref(), &sampling, &mut progress).map_err(classed)
    });
    let file = inputs.write("latent", &latent_to_bytes(&latent?).map_err(TaskError::Fatal)?)?;
    let steps: Vec<f64> = ends.windows(2).map(|it| (it[1] - it[0]).as_secs_f64()).collect();
    let step_s = quantile(&steps, 0.5).map(|it| Point::new(STEP_S, task.steps.into(), it));
    let memory = Point::new(MEMORY_GIB, task.steps.into(), most_gib);
    supervisor.points(&step_s.into_iter().chain([memory]).collect::<Vec<_>>());
    Ok(Output::Made { file: file.into_os_string(), size: None, n_cut: None })
}

/// Makes a picture of a latent and writes it with what it was made from. A curve of one point says the most memory.
///
/// # Errors
/// The latent or the autoencoder are not here, the picture is black or not finite, or the disk is full.
pub fn decode(
    task: &Decode,
    inputs: &Inputs,
    memory: &mut Memory,
    supervisor: &mut dyn Supervisor,
) -> Result<Output, TaskError> {
    let latent = latent_from_bytes(&inputs.read(&task.latent)?).map_err(TaskError::Fatal)?;
    let device = memory.device()?;
    let (rgb, most_gib) = usage::most(&device, || {
        let decoder = memory.vae(&task.model, task.dtype, inputs)?;
        decoder.decode(&latent, task.partition, BANDS).map_err(classed)
    });
    let rgb = rgb?;
    supervisor.point(MEMORY_GIB, 1, most_gib);
    let file = inputs.write("image", &bytes(&rgb, task.format, &labels(task))?)?;
    Ok(Output::Made { file: file.into_os_string(), size: Some((rgb.width, rgb.height)), n_cut: None })
}

/// The picture's file with labels in it.
pub(super) fn bytes(rgb: &Rgb, format: FileFormat, labels: &[(&str, String)]) -> Result<Vec<u8>, TaskError> {
    match format {
        FileFormat::Png => Ok(png::encode_labelled(rgb, labels)),
        FileFormat::Jpeg95 => {
            let plain = jpeg::encode(rgb, QUALITY).map_err(|error| TaskError::Fatal(error.into()))?;
            Ok(labels::in_jpeg(&plain, labels))
        }
    }
}

fn labels(task: &Decode) -> Vec<(&'static str, String)> {
    let of = &task.settings;
    let mut labels = vec![("prompt", of.prompt.clone())];
    labels.extend(of.negative.clone().map(|it| ("negative", it)));
    labels.extend([
        ("seed", of.seed.to_string()),
        ("steps", of.steps.to_string()),
        ("guidance", of.guidance.to_string()),
        ("size", format!("{}x{}", of.width, of.height)),
        ("t5_tokens", of.t5_tokens.to_string()),
        ("dtype", task.dtype.word().to_owned()),
        ("partition", task.partition.word().to_owned()),
        ("text_encoders", of.text.to_string()),
        ("denoiser", of.denoiser.to_string()),
        ("vae", task.model.to_string()),
    ]);
    labels
}
