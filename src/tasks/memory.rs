//! What a slot keeps from one task to the next: the device, one part of a package, the picture decoded last.

use std::path::Path;

use anyhow::{Context, anyhow};
use candle_core::{DType, Device};

use super::TaskError;
use super::inputs::Inputs;
use crate::gpu;
use crate::image::Rgb;
use crate::job::Hash;
use crate::job::task::making::{Denoise, Part, Precision};
use crate::models::hub;
use crate::models::memory;
use crate::models::package::Package;
use crate::models::pipeline::{Decoder, Denoiser};
use crate::models::text::TextEncoders;
use crate::sweep::packages::hash_part;
use crate::train::part;

/// What a slot keeps from one task to the next.
pub struct Memory {
    device_name: String,
    device: Option<Device>,
    /// The file decoded last: most tasks in a row are about the same one.
    pub(super) decoded: Option<(Hash, Rgb)>,
    loaded: Option<(Hash, Precision, Loaded)>,
}

/// A part of a package that is ready to work.
enum Loaded {
    Text(Box<TextEncoders>),
    Denoiser(Box<Denoiser>),
    Vae(Box<Decoder>),
}

impl Memory {
    /// Nothing yet, on the device of this name: `cpu` or `cuda:N`. The device is opened when a task needs it.
    pub fn new(device: &str) -> Self {
        Self { device_name: device.to_owned(), device: None, decoded: None, loaded: None }
    }

    /// Nothing again: what was loaded may be half changed.
    pub fn clear(&mut self) {
        *self = Self::new(&self.device_name);
    }

    /// The text encoders of this hash.
    ///
    /// # Errors
    /// No package with them is here, or they cannot be loaded.
    pub(super) fn text(&mut self, hash: &Hash, dtype: Precision, inputs: &Inputs) -> Result<&TextEncoders, TaskError> {
        match self.part(hash, Part::Text, dtype, inputs, &|_, _| Ok(()))? {
            Loaded::Text(it) => Ok(it),
            _ => Err(mixed_up()),
        }
    }

    /// The transformer that a task wants, if the memory that is free here is enough for its picture.
    ///
    /// # Errors
    /// No package with it is here, it cannot be loaded, or the picture is too large for it or for memory.
    pub(super) fn denoiser(&mut self, task: &Denoise, inputs: &Inputs) -> Result<&Denoiser, TaskError> {
        let fits = |package: &Package, device: &Device| {
            let is_guided = task.negative.is_some();
            memory::check(package, task.width, task.height, gpu::dtype(task.dtype), is_guided, memory::free(device)?)
        };
        match self.part(&task.model, Part::Denoiser, task.dtype, inputs, &fits)? {
            Loaded::Denoiser(it) => Ok(it),
            _ => Err(mixed_up()),
        }
    }

    /// The autoencoder of this hash.
    ///
    /// # Errors
    /// No package with it is here, or it cannot be loaded.
    pub(super) fn vae(&mut self, hash: &Hash, dtype: Precision, inputs: &Inputs) -> Result<&Decoder, TaskError> {
        match self.part(hash, Part::Vae, dtype, inputs, &|_, _| Ok(()))? {
            Loaded::Vae(it) => Ok(it),
            _ => Err(mixed_up()),
        }
    }

    /// The part of this hash; `fits` is asked before it is loaded.
    fn part(
        &mut self,
        hash: &Hash,
        part: Part,
        dtype: Precision,
        inputs: &Inputs,
        fits: &dyn Fn(&Package, &Device) -> anyhow::Result<()>,
    ) -> Result<&Loaded, TaskError> {
        let is_loaded = self.loaded.as_ref().is_some_and(|it| (it.0, it.1) == (*hash, dtype));
        if !is_loaded {
            // Two parts in memory at a time may be more than fits.
            self.loaded = None;
            self.decoded = None;
            let found = find(hash, part, inputs)?;
            let package = found.package;
            let device = self.device()?;
            // Elsewhere, or when others are done, there may be more.
            fits(&package, &device).map_err(TaskError::Retry)?;
            let loaded = load(&package, part, &device, gpu::dtype(dtype)).map_err(classed)?;
            self.loaded = Some((*hash, dtype, loaded));
        }
        Ok(&self.loaded.as_ref().expect("it is loaded").2)
    }

    /// The part of this hash before anything of it is loaded, and the device, whose memory holds nothing of ours then:
    /// for who trains it.
    ///
    /// # Errors
    /// No package with it is here, or the device cannot be opened.
    pub(super) fn untouched(&mut self, hash: &Hash, part: Part, inputs: &Inputs) -> Result<(Found, Device), TaskError> {
        self.loaded = None;
        self.decoded = None;
        Ok((find(hash, part, inputs)?, self.device()?))
    }

    /// The device, opened if need be.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(super) fn device(&mut self) -> Result<Device, TaskError> {
        if self.device.is_none() {
            self.device = Some(gpu::device(&self.device_name).map_err(TaskError::Retry)?);
        }
        Ok(self.device.clone().expect("it was opened just now"))
    }
}

/// The package's folder on this machine, downloaded with the agent's token if need be.
fn locate(name: &str, inputs: &Inputs) -> anyhow::Result<std::path::PathBuf> {
    if Path::new(name).is_dir() {
        return Ok(name.into());
    }
    let mut hub = hub::Hub::from_env();
    hub.token = inputs.hub_token.as_ref().map(|it| it.0.clone()).or(hub.token);
    hub.locate(name)
}

fn mixed_up() -> TaskError {
    TaskError::Fatal(anyhow!("the task asks for another part of a package than its hash is of"))
}

fn load(package: &Package, part: Part, device: &Device, dtype: DType) -> anyhow::Result<Loaded> {
    Ok(match part {
        Part::Text => Loaded::Text(Box::new(TextEncoders::load(&package.root, device, dtype)?)),
        Part::Denoiser => Loaded::Denoiser(Box::new(Denoiser::load(package, device, dtype)?)),
        Part::Vae => Loaded::Vae(Box::new(Decoder::load(package, device, dtype)?)),
    })
}

/// A package with the part that was looked for.
pub(super) struct Found {
    pub(super) package: Package,
    /// What a trained part was unpacked to; weights that are mapped outlive it.
    _folder: Option<tempfile::TempDir>,
}

/// The package with this part, every byte of which is what it was when the sweep was enqueued or the part was trained.
pub(super) fn find(hash: &Hash, part: Part, inputs: &Inputs) -> Result<Found, TaskError> {
    if inputs.files.iter().any(|it| it.of == *hash) {
        let path = inputs.path(hash)?;
        let folder = tempfile::tempdir().context("make a folder").map_err(TaskError::Retry)?;
        let package = part::unpack(&path, folder.path()).map_err(TaskError::Fatal)?;
        return Ok(Found { package, _folder: Some(folder) });
    }
    let mut last = None;
    for it in inputs.parts.iter().filter(|it| it.part == part) {
        let seen = Path::new(&it.root).to_owned();
        let root = if seen.is_dir() {
            seen
        } else {
            match locate(&it.name, inputs).with_context(|| format!("{} is gone", seen.display())) {
                Ok(root) => root,
                Err(error) => {
                    last = Some(TaskError::Retry(error));
                    continue;
                }
            }
        };
        match hash_part(&root, part) {
            Ok(found) if found == *hash => {
                let package = Package::open(&root).map_err(TaskError::Fatal)?;
                return Ok(Found { package, _folder: None });
            }
            Ok(_) => {
                let (what, root) = (part.word(), root.display());
                let error = anyhow!("the {what} of {root} has changed since it was enqueued; enqueue the sweep again");
                last = Some(TaskError::Fatal(error));
            }
            Err(error) => last = Some(TaskError::Retry(error)),
        }
    }
    Err(last.unwrap_or_else(|| {
        TaskError::Retry(anyhow!("no package with the {} {hash} is known, and no job that trains it", part.word()))
    }))
}

/// Whose fault an error of a model's is: that memory ran out may be another task's.
pub(super) fn classed(error: anyhow::Error) -> TaskError {
    let text = format!("{error:#}").to_lowercase();
    if text.contains("out of memory") || text.contains("out_of_memory") {
        TaskError::Memory(error)
    } else {
        TaskError::Fatal(error)
    }
}
