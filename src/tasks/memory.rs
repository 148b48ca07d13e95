//! What a slot keeps from one task to the next: the device, one part of a package or a network, the picture decoded last.

use std::path::Path;

use anyhow::{Context, anyhow};
use candle_core::Device;

use super::TaskError;
use super::inputs::Inputs;
use crate::gpu;
use crate::image::Rgb;
use crate::job::Hash;
use crate::job::task::making::{Denoise, Part, Precision};
use crate::metrics::{Network, Scorer};
use crate::models::hub;
use crate::models::memory;
use crate::models::package::{Layout, Package};
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
    /// The network of the metric of this name.
    Network(&'static str, Box<dyn Scorer>),
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
        let load = |package: &Package, device: &Device| {
            let loaded = TextEncoders::load(&package.root, device, gpu::dtype(dtype)).map_err(classed)?;
            Ok(Loaded::Text(Box::new(loaded)))
        };
        match self.part(hash, Part::Text, dtype, inputs, &load)? {
            Loaded::Text(it) => Ok(it),
            _ => Err(mixed_up()),
        }
    }

    /// The transformer that a task wants, if the memory that is free here is enough for its picture.
    ///
    /// # Errors
    /// No package with it is here, it cannot be loaded, or the picture is too large for it or for memory.
    pub(super) fn denoiser(&mut self, task: &Denoise, inputs: &Inputs) -> Result<&Denoiser, TaskError> {
        let load = |package: &Package, device: &Device| {
            let (is_guided, dtype) = (task.negative.is_some(), gpu::dtype(task.dtype));
            let fits = memory::free(device)
                .and_then(|free| memory::check(package, task.width, task.height, dtype, is_guided, free));
            // Elsewhere, or when others are done, there may be more.
            fits.map_err(TaskError::Retry)?;
            Ok(Loaded::Denoiser(Box::new(Denoiser::load(package, device, dtype).map_err(classed)?)))
        };
        match self.part(&task.model, Part::Denoiser, task.dtype, inputs, &load)? {
            Loaded::Denoiser(it) => Ok(it),
            _ => Err(mixed_up()),
        }
    }

    /// The autoencoder of this hash.
    ///
    /// # Errors
    /// No package with it is here, or it cannot be loaded.
    pub(super) fn vae(&mut self, hash: &Hash, dtype: Precision, inputs: &Inputs) -> Result<&Decoder, TaskError> {
        let load = |package: &Package, device: &Device| {
            let loaded = Decoder::load(package, device, gpu::dtype(dtype)).map_err(classed)?;
            Ok(Loaded::Vae(Box::new(loaded)))
        };
        match self.part(hash, Part::Vae, dtype, inputs, &load)? {
            Loaded::Vae(it) => Ok(it),
            _ => Err(mixed_up()),
        }
    }

    /// The network of this hash, as a metric looks through it.
    ///
    /// # Errors
    /// No folder with it is here, it is another network, or it cannot be loaded.
    pub(super) fn network(
        &mut self,
        hash: &Hash,
        network: &'static Network,
        inputs: &Inputs,
    ) -> Result<&dyn Scorer, TaskError> {
        // Two metrics may look through one network, each in its own way.
        if matches!(&self.loaded, Some((_, _, Loaded::Network(metric, _))) if *metric != network.metric) {
            self.loaded = None;
        }
        let load = |package: &Package, device: &Device| {
            Ok(Loaded::Network(network.metric, network.open(package, device).map_err(classed)?))
        };
        match self.part(hash, Part::Network, Precision::F32, inputs, &load)? {
            Loaded::Network(_, it) => Ok(it.as_ref()),
            _ => Err(mixed_up()),
        }
    }

    /// The part of this hash, loaded by `load` if need be.
    fn part(
        &mut self,
        hash: &Hash,
        part: Part,
        dtype: Precision,
        inputs: &Inputs,
        load: &dyn Fn(&Package, &Device) -> Result<Loaded, TaskError>,
    ) -> Result<&Loaded, TaskError> {
        let is_loaded = self.loaded.as_ref().is_some_and(|it| (it.0, it.1) == (*hash, dtype));
        if !is_loaded {
            // Two parts in memory at a time may be more than fits.
            self.loaded = None;
            self.decoded = None;
            let found = find(hash, part, inputs)?;
            let device = self.device()?;
            self.loaded = Some((*hash, dtype, load(&found.package, &device)?));
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
fn locate(name: &str, layout: Layout, inputs: &Inputs) -> anyhow::Result<std::path::PathBuf> {
    if Path::new(name).is_dir() {
        return Ok(name.into());
    }
    let mut hub = hub::Hub::from_env();
    hub.token = inputs.hub_token.as_ref().map(|it| it.0.clone()).or(hub.token);
    hub.locate_as(name, layout)
}

fn mixed_up() -> TaskError {
    TaskError::Fatal(anyhow!("the task asks for another part of a package than its hash is of"))
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
            match locate(&it.name, Layout::of(part), inputs).with_context(|| format!("{} is gone", seen.display())) {
                Ok(root) => root,
                Err(error) => {
                    last = Some(TaskError::Retry(error));
                    continue;
                }
            }
        };
        match hash_part(&root, part) {
            Ok(found) if found == *hash => {
                let package = Package::open_as(&root, Layout::of(part)).map_err(TaskError::Fatal)?;
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
