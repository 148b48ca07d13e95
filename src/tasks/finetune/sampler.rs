//! Pictures that are made on the way, of the weights that would come out then.

use anyhow::{Context, Result};
use candle_core::Device;

use super::desk::Desk;
use crate::gpu;
use crate::image::png;
use crate::job::task::finetune::{Finetune, Samples};
use crate::job::task::making::{Part, Partition};
use crate::models::memory::BANDS;
use crate::models::noise::Recipe;
use crate::models::package::Package;
use crate::models::pipeline::{Decoder, Denoiser, Sampling, Sizes};
use crate::models::text::Encoded;
use crate::models::{schedule, sd3};
use crate::tasks::inputs::Inputs;
use crate::tasks::memory::find;
use crate::tasks::supervisor::Sample;
use crate::train::parameters::Parameters;

/// Makes them. Nothing that training draws depends on it: the noise has a seed of its own.
pub(super) struct Sampler<'a> {
    task: &'a Finetune,
    samples: &'a Samples,
    inputs: &'a Inputs,
    base: &'a Package,
    device: Device,
}

impl<'a> Sampler<'a> {
    /// For a task that wants some; `base` is the package of what is trained.
    pub(super) fn new(task: &'a Finetune, inputs: &'a Inputs, base: &'a Package, device: &Device) -> Option<Self> {
        let samples = task.samples.as_ref()?;
        Some(Self { task, samples, inputs, base, device: device.clone() })
    }

    /// Whether pictures are made after this step.
    pub(super) fn is_due(&self, step: usize) -> bool {
        self.samples.is_due(step as u64, self.task.steps.into())
    }

    /// Makes and shows them. What cannot be made is said on standard error and costs no training.
    ///
    /// # Errors
    /// The attempt is over.
    pub(super) fn make(&self, step: usize, parameters: &Parameters, desk: &Desk<'_>) -> Result<()> {
        let files = match self.files(parameters) {
            Ok(files) => files,
            Err(error) => {
                eprintln!("step {step}: no sample is made: {error:#}");
                return Ok(());
            }
        };
        for (idx, bytes) in files.into_iter().enumerate() {
            let file = self.inputs.write("sample.png", &bytes)?;
            desk.show(&Sample { file: &file, step: step as u64, idx })?;
        }
        Ok(())
    }

    /// The pictures as PNG files, in the order of the prompts. The decoder is in memory only while it is used.
    fn files(&self, parameters: &Parameters) -> Result<Vec<Vec<u8>>> {
        let samples = self.samples;
        let encoded = |key| -> Result<Encoded> { Encoded::from_bytes(&self.inputs.read(key)?) };
        let negative = samples.negative.as_ref().map(encoded).transpose()?;
        let config = sd3::Config::read(&self.base.config("transformer"))?;
        let schedule = schedule::Config::read(&self.base.config("scheduler"))?;
        let denoiser = Denoiser::new(&config, schedule, Sizes::of(self.base)?, &parameters.still()?)?;
        let sampling = Sampling {
            width: samples.side,
            height: samples.side,
            steps: samples.steps as usize,
            guidance: samples.guidance,
            seed: samples.seed,
            noise: Recipe::Current,
        };
        let mut latents = Vec::with_capacity(samples.texts.len());
        for text in &samples.texts {
            let prompt = encoded(&text.key)?;
            let latent = denoiser.denoise(&prompt, negative.as_ref(), &sampling, &mut |_, _| {});
            latents.push(latent.with_context(|| format!("make a picture of `{}`", text.prompt))?);
        }
        drop(denoiser);
        let found = find(&samples.vae, Part::Vae, self.inputs)?;
        let decoder = Decoder::load(&found.package, &self.device, gpu::dtype(self.task.dtype))?;
        let picture = |latent| Ok(png::encode(&decoder.decode(latent, Partition::Exact, BANDS)?));
        latents.iter().map(picture).collect()
    }
}
