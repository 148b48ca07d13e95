//! Makes one picture and scores it.

use anyhow::{Context, anyhow};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::memory::classed;
use super::{Inputs, Memory, Output, TaskError};
use crate::image::{self, MAX_PIXELS, Rgb};
use crate::job::Hash;
use crate::job::outcome::{Made, Scored};
use crate::job::task::{Evaluate, Picture};
use crate::metrics::{self, Metric, Needs, Score, Subject};

/// The longer side of a preview in pixels.
const PREVIEW_SIDE: u32 = 384;
/// The JPEG quality of a preview.
const PREVIEW_QUALITY: u8 = 80;

/// Makes the picture and its reference, and computes the scores.
///
/// # Errors
/// The file is gone (the machine's fault) or is no picture (the task's).
pub fn run(task: &Evaluate, inputs: &Inputs, memory: &mut Memory) -> Result<Output, TaskError> {
    let wanted = wanted(task).map_err(TaskError::Fatal)?;
    let max_pixels = task.max_pixels.unwrap_or(MAX_PIXELS);
    let file_bytes = decode(&task.picture, inputs, max_pixels, memory)?;
    let rgb = make(&task.picture, memory)?;
    let reference = match &task.reference {
        Some(reference) => {
            decode(reference, inputs, max_pixels, memory)?;
            Some(make(reference, memory)?)
        }
        None => None,
    };
    let subject = Subject {
        rgb: &rgb,
        file_bytes: task.picture.steps.is_empty().then_some(file_bytes).flatten(),
        reference: reference.as_ref(),
    };
    let scores = scores(&wanted, &subject, task.network.as_ref(), inputs, memory)?;
    let scores = scores
        .into_iter()
        .map(|score| {
            let (value, why) = match score.value {
                Ok(value) => (Some(value), None),
                Err(why) => (None, Some(why)),
            };
            let with_reference = score.metric.needs == Needs::Reference;
            Scored { metric: score.metric.id(), with_reference, value, why, note: score.note }
        })
        .collect();
    let preview = image::jpeg::encode(&image::thumbnail(&rgb, PREVIEW_SIDE), PREVIEW_QUALITY)
        .map_err(|error| TaskError::Fatal(error.into()))?;
    Ok(Output::Evaluated {
        made: Made { pixels: Hash::of(&rgb.pixels), width: rgb.width, height: rgb.height },
        preview: STANDARD.encode(preview),
        scores,
    })
}

/// Scores of one picture by metrics that all look through the network of this hash, or all through none.
///
/// # Errors
/// Metrics that do not go together, a network that is not here, or no memory.
pub(super) fn scores(
    wanted: &[&'static Metric],
    subject: &Subject,
    network: Option<&Hash>,
    inputs: &Inputs,
    memory: &mut Memory,
) -> Result<Vec<Score>, TaskError> {
    let through = wanted.first().and_then(|it| metrics::network(it));
    let is_so = |it: &&Metric| metrics::network(it).map(|it| it.metric) == through.map(|it| it.metric);
    match (through, network) {
        (None, None) if wanted.iter().all(is_so) => Ok(metrics::evaluate(wanted, subject)),
        (Some(through), Some(hash)) if wanted.iter().all(is_so) => {
            memory.network(hash, through, inputs)?.score(wanted, subject).map_err(classed)
        }
        _ => Err(TaskError::Fatal(anyhow!("the task's metrics do not all look through the network that it names"))),
    }
}

fn wanted(task: &Evaluate) -> anyhow::Result<Vec<&'static Metric>> {
    task.metrics
        .iter()
        .map(|id| {
            metrics::find(id).with_context(|| {
                let (metric, variant, version) = (&id.metric, &id.variant, id.version);
                format!("this jobctl has no {metric}:{variant} of version {version}; update the worker")
            })
        })
        .collect()
}

/// Has the picture's file decoded in memory. Returns its length in bytes where it was read just now.
fn decode(
    picture: &Picture,
    inputs: &Inputs,
    max_pixels: u64,
    memory: &mut Memory,
) -> Result<Option<usize>, TaskError> {
    // The file's length matters only to a picture that is the file itself; such a picture comes once.
    if !picture.steps.is_empty() && memory.decoded.as_ref().is_some_and(|it| it.0 == picture.content) {
        return Ok(None);
    }
    let bytes = inputs.read(&picture.content)?;
    memory.decoded = None;
    let rgb = image::decode(&bytes, max_pixels).map_err(|error| TaskError::Fatal(error.into()))?;
    memory.decoded = Some((picture.content, rgb));
    Ok(Some(bytes.len()))
}

fn make(picture: &Picture, memory: &Memory) -> Result<Rgb, TaskError> {
    let (_, decoded) = memory.decoded.as_ref().expect("the file was decoded just now");
    image::apply(decoded.clone(), &picture.steps).map_err(|error| TaskError::Fatal(error.into()))
}
