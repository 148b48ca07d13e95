//! The tensors of one component: from safetensors files, or as a blueprint of their names and shapes.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use candle_core::safetensors::MmapedSafetensors;
use candle_core::{DType, Device, Result, Shape, Tensor};
use safetensors::Dtype;

/// Tensors under a common prefix. Cheap to clone.
#[derive(Clone)]
pub struct Weights {
    source: Arc<Source>,
    prefix: String,
}

struct Source {
    kind: Kind,
    device: Device,
    dtype: DType,
    asked: Mutex<BTreeMap<String, Asked>>,
}

enum Kind {
    Files {
        files: Vec<MmapedSafetensors>,
        by_name: HashMap<String, usize>,
        /// Names, shapes and types are looked at, and no data is read.
        only_looks: bool,
    },
    Given(HashMap<String, Tensor>),
    Blueprint,
    Random,
}

/// A tensor that a model asked for.
struct Asked {
    shape: Vec<usize>,
    /// What the files have of this name; none where they have nothing.
    found: Option<(Vec<usize>, Dtype)>,
}

/// What weights may be stored as.
const STORED: [Dtype; 4] = [Dtype::F64, Dtype::F32, Dtype::F16, Dtype::BF16];

impl Weights {
    /// The tensors of these files, which are mapped, not read; each becomes `dtype` on `device` when it is asked for.
    ///
    /// # Errors
    /// A file that cannot be read, or is truncated or no safetensors file; a name that stands in two files.
    pub fn open(files: &[PathBuf], device: &Device, dtype: DType) -> anyhow::Result<Self> {
        Self::map(files, device, dtype, false)
    }

    /// The names, shapes and types of these files' tensors. A model that is made of them reads no data and holds zeros
    /// that take no memory; [`faults`](Self::faults) then tells what does not fit.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn look(files: &[PathBuf]) -> anyhow::Result<Self> {
        Self::map(files, &Device::Cpu, DType::F32, true)
    }

    fn map(files: &[PathBuf], device: &Device, dtype: DType, only_looks: bool) -> anyhow::Result<Self> {
        let mut by_name = HashMap::new();
        let mut mapped = Vec::with_capacity(files.len());
        for (idx, path) in files.iter().enumerate() {
            #[expect(
                unsafe_code,
                reason = "weights are mapped: whoever changes a file in use breaks only this process"
            )]
            let file = unsafe { MmapedSafetensors::new(path) }
                .with_context(|| format!("read {}: is it complete, and a safetensors file?", path.display()))?;
            for (name, _) in file.tensors() {
                if by_name.insert(name.clone(), idx).is_some() {
                    anyhow::bail!("{}: the tensor `{name}` stands in another file too", path.display());
                }
            }
            mapped.push(file);
        }
        Ok(Self::new(Kind::Files { files: mapped, by_name, only_looks }, device, dtype))
    }

    /// These very tensors, by their full names, as they are: a model that is made of them trains those that are variables.
    pub fn given(tensors: HashMap<String, Tensor>, device: &Device, dtype: DType) -> Self {
        Self::new(Kind::Given(tensors), device, dtype)
    }

    /// Weights that are all zero and take no memory: a model that is made of them tells which tensors it wants.
    pub fn blueprint() -> Self {
        Self::new(Kind::Blueprint, &Device::Cpu, DType::F32)
    }

    /// Weights drawn anew each time: matrices from N(0, 1/fan-in), vectors that scale are 1, others 0.
    /// For measuring what a model takes, not what it makes.
    pub fn random(device: &Device, dtype: DType) -> Self {
        Self::new(Kind::Random, device, dtype)
    }

    fn new(kind: Kind, device: &Device, dtype: DType) -> Self {
        let source = Source { kind, device: device.clone(), dtype, asked: Mutex::default() };
        Self { source: Arc::new(source), prefix: String::new() }
    }

    /// Those under `name.`.
    #[must_use]
    pub fn at(&self, name: impl fmt::Display) -> Self {
        Self { source: self.source.clone(), prefix: format!("{}{name}.", self.prefix) }
    }

    /// Whether there is a tensor of this name. A blueprint has every one.
    pub fn has(&self, name: &str) -> bool {
        match &self.source.kind {
            Kind::Files { by_name, .. } => by_name.contains_key(&self.full(name)),
            Kind::Given(tensors) => tensors.contains_key(&self.full(name)),
            Kind::Blueprint | Kind::Random => true,
        }
    }

    /// The tensor of this name. One that is missing, has another shape or is not of floating point is noted for [`finish`](Self::finish),
    /// and zeros stand in for it, so that all faults are told at once.
    ///
    /// # Errors
    /// It cannot be read or there is no memory for it.
    pub fn get(&self, shape: impl Into<Shape>, name: &str) -> Result<Tensor> {
        let (shape, name) = (shape.into(), self.full(name));
        let mut found = None;
        let mut tensor = None;
        if let Kind::Files { files, by_name, only_looks } = &self.source.kind
            && let Some(&idx) = by_name.get(&name)
        {
            let view = files[idx].get(&name)?;
            found = Some((view.shape().to_vec(), view.dtype()));
            if view.shape() == shape.dims() && STORED.contains(&view.dtype()) && !only_looks {
                tensor = Some(files[idx].load(&name, &self.source.device)?.to_dtype(self.source.dtype)?);
            }
        }
        if let Kind::Given(tensors) = &self.source.kind {
            match tensors.get(&name) {
                Some(given) if given.shape() == &shape => tensor = Some(given.clone()),
                Some(given) => candle_core::bail!("{name} is {:?}, wanted {shape:?}", given.shape()),
                None => candle_core::bail!("no tensor {name} is given"),
            }
        }
        if matches!(self.source.kind, Kind::Random) {
            tensor = Some(self.draw(&shape, &name)?);
        }
        let asked = Asked { shape: shape.dims().to_vec(), found };
        self.source.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(name, asked);
        match tensor {
            Some(tensor) => Ok(tensor),
            None => Tensor::zeros((), self.source.dtype, &self.source.device)?.broadcast_as(shape),
        }
    }

    fn draw(&self, shape: &Shape, name: &str) -> Result<Tensor> {
        let (dtype, device) = (self.source.dtype, &self.source.device);
        match shape.dims() {
            [_] if name.ends_with("weight") => Tensor::ones(shape, dtype, device),
            [_] => Tensor::zeros(shape, dtype, device),
            dims => {
                let fan_in: usize = dims[1..].iter().product();
                Tensor::randn(0_f32, 1.0 / (fan_in as f32).sqrt(), shape, device)?.to_dtype(dtype)
            }
        }
    }

    /// Where the tensors are.
    pub fn device(&self) -> &Device {
        &self.source.device
    }

    /// What their numbers are.
    pub fn dtype(&self) -> DType {
        self.source.dtype
    }

    /// Every tensor that was asked for, by its full name, with the shape wanted.
    pub fn asked(&self) -> Vec<(String, Vec<usize>)> {
        let asked = self.source.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.iter().map(|(name, it)| (name.clone(), it.shape.clone())).collect()
    }

    /// What does not fit between the files and what was asked for.
    pub fn faults(&self) -> Faults {
        let asked = self.source.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let Kind::Files { by_name, .. } = &self.source.kind else { return Faults::default() };
        let mut faults = Faults::default();
        for (name, it) in asked.iter() {
            match &it.found {
                None => faults.missing.push((name.clone(), it.shape.clone())),
                Some((found, _)) if *found != it.shape => {
                    faults.misshaped.push((name.clone(), it.shape.clone(), found.clone()));
                }
                Some((_, dtype)) if !STORED.contains(dtype) => {
                    faults.mistyped.push((name.clone(), format!("{dtype:?}")));
                }
                Some(_) => {}
            }
        }
        faults.surplus = by_name.keys().filter(|it| !asked.contains_key(*it)).cloned().collect();
        faults.surplus.sort_unstable();
        faults
    }

    /// Call when the model is made.
    ///
    /// # Errors
    /// Tensors that are missing, have another shape or are not of floating point, all of them. Surplus ones do no harm.
    pub fn finish(&self) -> anyhow::Result<()> {
        let faults = self.faults();
        anyhow::ensure!(!faults.are_fatal(), "{faults}");
        Ok(())
    }

    /// Every tensor of the files: its name, shape and type. None of a blueprint.
    pub fn stored(&self) -> Vec<(String, Vec<usize>, Dtype)> {
        let Kind::Files { files, .. } = &self.source.kind else { return Vec::new() };
        let tensors = files.iter().flat_map(MmapedSafetensors::tensors);
        tensors.map(|(name, it)| (name, it.shape().to_vec(), it.dtype())).collect()
    }

    fn full(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

/// What does not fit between files and a model.
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct Faults {
    /// Tensors that the files lack: name and shape.
    pub missing: Vec<(String, Vec<usize>)>,
    /// Tensors of another shape: name, the shape wanted, the shape found.
    pub misshaped: Vec<(String, Vec<usize>, Vec<usize>)>,
    /// Tensors that are not of floating point (or in 8 bits): name and type.
    pub mistyped: Vec<(String, String)>,
    /// Tensors that the model does not use.
    pub surplus: Vec<String>,
}

impl Faults {
    /// Whether everything fits.
    pub fn is_empty(&self) -> bool {
        !self.are_fatal() && self.surplus.is_empty()
    }

    /// Whether no model can be made.
    pub fn are_fatal(&self) -> bool {
        !(self.missing.is_empty() && self.misshaped.is_empty() && self.mistyped.is_empty())
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.listed(10))
    }
}

impl Faults {
    /// All of them by name, where [`Display`](fmt::Display) stops at ten of a kind.
    pub fn in_full(&self) -> String {
        self.listed(usize::MAX)
    }

    fn listed(&self, most: usize) -> String {
        let mut text = String::new();
        let mut part = |what: &str, lines: Vec<String>| {
            if lines.is_empty() {
                return;
            }
            text += &format!("{} {what}:\n", lines.len());
            for line in lines.iter().take(most) {
                text += &format!("  {line}\n");
            }
            if lines.len() > most {
                text += &format!("  and {} more\n", lines.len() - most);
            }
        };
        part("tensors are missing", self.missing.iter().map(|(name, shape)| format!("{name} {shape:?}")).collect());
        let misshaped = self.misshaped.iter();
        let misshaped = misshaped.map(|(name, want, found)| format!("{name} is {found:?}, wanted {want:?}"));
        part("tensors contradict the config", misshaped.collect());
        let mistyped = self.mistyped.iter().map(|(name, dtype)| format!("{name} is {dtype}"));
        part("tensors are of a type that no weights have (they have F64, F32, F16 or BF16)", mistyped.collect());
        part("tensors are not used", self.surplus.clone());
        text
    }
}
