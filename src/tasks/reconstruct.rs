//! Takes a picture to an autoencoder's latent and back.

use super::generate::bytes;
use super::inputs::Inputs;
use super::memory::{Memory, classed};
use super::{Output, TaskError};
use crate::image::{self, MAX_PIXELS};
use crate::job::task::making::{FileFormat, Latent, Reconstruct};
use crate::models::memory::BANDS;

/// Reconstructs a picture. The file is a PNG: nothing but the autoencoder stands between it and the original.
///
/// # Errors
/// The original or the autoencoder are not here, a side that the autoencoder does not divide, or the disk is full.
pub fn run(task: &Reconstruct, inputs: &Inputs, memory: &mut Memory) -> Result<Output, TaskError> {
    let original = image::decode(&inputs.read(&task.picture.content)?, MAX_PIXELS)
        .and_then(|it| image::apply(it, &task.picture.steps))
        .map_err(|error| TaskError::Fatal(error.into()))?;
    let (latent_word, seed) = match task.latent {
        Latent::Mean => ("mean", None),
        Latent::Sample { seed } => ("sample", Some(seed)),
    };
    let decoder = memory.vae(&task.model, task.dtype, inputs)?;
    let latent = decoder.encode(&original, seed, BANDS).map_err(classed)?;
    let rgb = decoder.decode(&latent, task.partition, BANDS).map_err(classed)?;
    let mut labels = vec![("reconstruction_of", task.picture.content.to_string()), ("latent", latent_word.to_owned())];
    labels.extend(seed.map(|it| ("seed", it.to_string())));
    labels.extend([
        ("dtype", task.dtype.word().to_owned()),
        ("partition", task.partition.word().to_owned()),
        ("vae", task.model.to_string()),
    ]);
    let file = inputs.write("image", &bytes(&rgb, FileFormat::Png, &labels)?)?;
    Ok(Output::Made { file: file.into_os_string(), size: Some((rgb.width, rgb.height)), n_cut: None })
}
