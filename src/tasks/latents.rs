//! Cuts pictures into squares for training, and takes the squares to their latents.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Context, anyhow};
use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use super::evaluate::scores;
use super::inputs::Inputs;
use super::memory::{Memory, classed};
use super::supervisor::Supervisor;
use super::{Output, TaskError};
use crate::image::{self, MAX_PIXELS, Rgb};
use crate::job::Hash;
use crate::job::task::finetune::{Bound, CURATED, Drawn, Prepare};
use crate::metrics::{self, Subject};
use crate::models::memory::BANDS;
use crate::train::data::nearest;
use crate::train::random::{Purpose, Stream};

/// Where a file's description stands among its metadata; the only key, so that equal work makes equal bytes.
pub(super) const KEY: &str = "jobctl_prepared";

/// What a file of prepared pictures says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct About {
    /// The hashes of the pictures' files.
    pub(super) pictures: Vec<Hash>,
    /// Squares of each picture.
    pub(super) views: u32,
    /// Pictures that could not be decoded or are unlike what is asked for, by their places, and why.
    pub(super) left_out: BTreeMap<usize, String>,
}

/// The name of a square's tensor.
pub(super) fn name(picture: usize, view: u32) -> String {
    format!("{picture:06}.{view:06}")
}

/// Prepares pictures: a safetensors file with a tensor for each picture and view, latents in f32 as [C, h, w], pixels in
/// 8 bits as [3, side, side]. The crop of a picture follows from its content, the seed and the view alone.
///
/// # Errors
/// A picture is not here or has changed, the autoencoder is not here, or the disk is full.
pub fn run(
    task: &Prepare,
    inputs: &Inputs,
    memory: &mut Memory,
    supervisor: &mut dyn Supervisor,
) -> Result<Output, TaskError> {
    let mut about = About { pictures: task.pictures.clone(), views: task.views, left_out: BTreeMap::new() };
    let mut tensors: BTreeMap<String, Tensor> = BTreeMap::new();
    let mut n_curated = 0;
    let refused = refused_by_networks(task, inputs, memory)?;
    for (idx, content) in task.pictures.iter().enumerate() {
        let bytes = inputs.read(content)?;
        match image::decode(&bytes, MAX_PIXELS) {
            Ok(picture) => {
                let bounds = task.curation.iter().filter(|it| it.network.is_none());
                let why = refusal(task, bounds, &picture, content, inputs, memory)?;
                if let Some(why) = why.or_else(|| refused.get(&idx).cloned()) {
                    eprintln!("{} is left out: {why}", called(content, inputs));
                    about.left_out.insert(idx, format!("{CURATED}{why}"));
                    n_curated += 1;
                    continue;
                }
                for view in 0..task.views {
                    let tensor = one(task, &square(task, &picture, content, view), content, view, inputs, memory)?;
                    tensors.insert(name(idx, view), tensor);
                }
            }
            Err(error) => {
                eprintln!("{} is left out: {error}", called(content, inputs));
                about.left_out.insert(idx, error.to_string());
            }
        }
        supervisor.progress(idx + 1, task.pictures.len());
    }
    if !task.curation.is_empty() {
        eprintln!("{n_curated} of {} pictures are left out by curation", task.pictures.len());
    }
    let said = serde_json::to_string(&about).context("describe the pictures").map_err(TaskError::Fatal)?;
    let metadata = HashMap::from([(KEY.to_owned(), said)]);
    let bytes = safetensors::serialize(&tensors, Some(metadata));
    let bytes = bytes.map_err(|error| TaskError::Fatal(anyhow!(error)))?;
    let file = inputs.write("prepared", &bytes)?;
    Ok(Output::Made { file: file.into_os_string(), size: None, n_cut: None })
}

/// What people find a picture by.
fn called(content: &Hash, inputs: &Inputs) -> String {
    let path = inputs.files.iter().find(|it| it.of == *content).map(|it| Path::new(&it.path).display());
    path.map_or_else(|| content.to_string(), |it| it.to_string())
}

/// A view of a picture.
fn square(task: &Prepare, picture: &Rgb, content: &Hash, view: u32) -> Rgb {
    let mut random = Stream::new(task.seed, Purpose::Crop, u64::from(view), first_bytes(content));
    let size = nearest(&task.buckets, (picture.width, picture.height)).unwrap_or((task.cut.side, task.cut.side));
    task.cut.sized(picture, size, &mut random)
}

/// Which pictures are unlike what metrics that look through a network ask for, by their places, and why. All pictures are
/// looked at before an autoencoder takes the network's place in memory.
fn refused_by_networks(
    task: &Prepare,
    inputs: &Inputs,
    memory: &mut Memory,
) -> Result<BTreeMap<usize, String>, TaskError> {
    let mut refused = BTreeMap::new();
    for bound in task.curation.iter().filter(|it| it.network.is_some()) {
        for (idx, content) in task.pictures.iter().enumerate() {
            // What cannot be decoded is told later.
            let Ok(picture) = image::decode(&inputs.read(content)?, MAX_PIXELS) else { continue };
            if let Some(why) = refusal(task, [bound], &picture, content, inputs, memory)? {
                refused.entry(idx).or_insert(why);
            }
        }
    }
    Ok(refused)
}

/// Why a picture is not learnt from, if it is unlike what these bounds ask for.
fn refusal<'a>(
    task: &Prepare,
    bounds: impl IntoIterator<Item = &'a Bound>,
    picture: &Rgb,
    content: &Hash,
    inputs: &Inputs,
    memory: &mut Memory,
) -> Result<Option<String>, TaskError> {
    for it in bounds {
        let label = it.metric.metric.replace('_', " ");
        let metric = metrics::find(&it.metric).with_context(|| format!("{} is not known here", it.metric));
        let metric = metric.map_err(TaskError::Fatal)?;
        let mut sum = 0.0;
        for view in 0..task.views {
            let subject = Subject { rgb: &square(task, picture, content, view), file_bytes: None, reference: None };
            match scores(&[metric], &subject, it.network.as_ref(), inputs, memory)?.remove(0).value {
                Ok(score) => sum += score,
                Err(why) => return Ok(Some(format!("its {label} is undefined: {why}"))),
            }
        }
        let mean = sum / f64::from(task.views);
        match (it.min, it.max) {
            (Some(min), _) if mean < min => return Ok(Some(format!("its {label} is {mean:.4}, below {min}"))),
            (_, Some(max)) if mean > max => return Ok(Some(format!("its {label} is {mean:.4}, above {max}"))),
            _ => {}
        }
    }
    Ok(None)
}

/// One square of a picture as a tensor.
fn one(
    task: &Prepare,
    square: &Rgb,
    content: &Hash,
    view: u32,
    inputs: &Inputs,
    memory: &mut Memory,
) -> Result<Tensor, TaskError> {
    let Some(model) = &task.model else { return pixels(square).map_err(TaskError::Fatal) };
    let seed = match task.latent {
        Drawn::Mean => None,
        Drawn::Sample => Some(first_bytes(&Hash::of_value(&(task.seed, content, view)))),
    };
    let decoder = memory.vae(model, task.dtype, inputs)?;
    let latent = decoder.encode(square, seed, BANDS).and_then(|it| Ok(it.squeeze(0)?.to_dtype(DType::F32)?));
    latent.map_err(classed)
}

/// [3, side, side] in 8 bits.
fn pixels(square: &Rgb) -> anyhow::Result<Tensor> {
    let shape = (square.height as usize, square.width as usize, 3);
    let tensor = Tensor::from_vec(square.pixels.clone(), shape, &Device::Cpu)?;
    Ok(tensor.permute((2, 0, 1))?.contiguous()?)
}

fn first_bytes(hash: &Hash) -> u64 {
    u64::from_be_bytes(hash.0[..8].try_into().expect("a hash has more than 8 bytes"))
}
