//! Checkpoints: folders that are whole or not there, hashed, and refused where they do not belong.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Device, Tensor};
use safetensors::{Dtype, View};
use serde::{Deserialize, Serialize};

use super::trainer::Snapshot;
use crate::job::Hash;

/// The form of what is written; a reader of another one refuses it.
const VERSION: u32 = 1;
const STATE: &str = "state.json";
const VALUES: &str = "values.safetensors";
const MOMENTS: &str = "moments.safetensors";
const EMA: &str = "ema.safetensors";

/// What a run is: a checkpoint continues this run and no other.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Run {
    /// What the model was before.
    pub model: Hash,
    /// The data: every picture and caption, and how they are cut.
    pub data: Hash,
    /// Its settings, by name. The seed is among them: all random numbers and the order of the data follow from it and
    /// from the number of steps done, so no other state of theirs is kept.
    pub settings: BTreeMap<String, serde_json::Value>,
}

impl Run {
    /// Says why a checkpoint of `other` is none of this run.
    fn check(&self, other: &Self) -> Result<()> {
        ensure!(
            self.model == other.model,
            "it is of another model ({}, not {})",
            other.model.short(),
            self.model.short()
        );
        ensure!(
            self.data == other.data,
            "the data has changed since it was written ({}, now {})",
            other.data.short(),
            self.data.short()
        );
        let names = self.settings.keys().chain(other.settings.keys());
        let mut changed: Vec<&str> =
            names.filter(|it| self.settings.get(*it) != other.settings.get(*it)).map(String::as_str).collect();
        changed.sort_unstable();
        changed.dedup();
        ensure!(changed.is_empty(), "other settings were used: {}", changed.join(", "));
        Ok(())
    }
}

/// `state.json`.
#[derive(Serialize, Deserialize)]
struct Written {
    version: u32,
    n_done: usize,
    /// The loss on what is held out, if it was looked at.
    held_out: Option<f64>,
    run: Run,
    /// Each file's hash.
    files: BTreeMap<String, Hash>,
}

/// A run's folder of checkpoints.
#[derive(Clone, Debug)]
pub struct Shelf {
    folder: PathBuf,
    run: Run,
    keep_last: usize,
}

impl Shelf {
    /// In `folder`, which is made if need be. The newest `keep_last` are kept (at least one), and the one with the
    /// least loss on what is held out.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new(folder: &Path, run: Run, keep_last: usize) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        Ok(Self { folder: folder.to_owned(), run, keep_last: keep_last.max(1) })
    }

    /// Writes a checkpoint, then forgets older ones. Until the end it has another name; a full disk leaves the others
    /// as they were.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self, snapshot: &Snapshot, held_out: Option<f64>) -> Result<PathBuf> {
        let path = self.folder.join(format!("step-{:08}", snapshot.n_done));
        let beside = tempfile::Builder::new().prefix(".unfinished-").tempdir_in(&self.folder)?;
        self.write(beside.path(), snapshot, held_out)
            .with_context(|| format!("save the checkpoint of step {}", snapshot.n_done))?;
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::rename(beside.keep(), &path)?;
        File::open(&self.folder)?.sync_all()?;
        self.forget()?;
        Ok(path)
    }

    fn write(&self, folder: &Path, snapshot: &Snapshot, held_out: Option<f64>) -> Result<()> {
        let named = |prefix: &str, tensors: &[Tensor]| -> Vec<(String, Stored)> {
            let names = snapshot.names.iter().map(|it| format!("{prefix}{it}"));
            names.zip(tensors.iter().map(|it| Stored(it.clone()))).collect()
        };
        let mut moments = named("mean.", &snapshot.means);
        moments.extend(named("square.", &snapshot.squares));
        let mut files = BTreeMap::new();
        for (name, tensors) in
            [(VALUES, named("", &snapshot.values)), (MOMENTS, moments), (EMA, named("", &snapshot.ema))]
        {
            if tensors.is_empty() {
                continue;
            }
            let path = folder.join(name);
            safetensors::serialize_to_file(tensors, None, &path)?;
            File::open(&path)?.sync_all()?;
            files.insert(name.to_owned(), hash(&path)?);
        }
        let written = Written { version: VERSION, n_done: snapshot.n_done, held_out, run: self.run.clone(), files };
        let path = folder.join(STATE);
        fs::write(&path, serde_json::to_string_pretty(&written)? + "\n")?;
        File::open(&path)?.sync_all()?;
        File::open(folder)?.sync_all()?;
        Ok(())
    }

    /// The steps of the checkpoints that are there, the newest first.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn steps(&self) -> Result<Vec<usize>> {
        let mut steps = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            steps.extend(name.to_str().and_then(|it| it.strip_prefix("step-")?.parse::<usize>().ok()));
        }
        steps.sort_unstable_by_key(|it| std::cmp::Reverse(*it));
        Ok(steps)
    }

    /// The newest checkpoint that is whole, and what is wrong with newer ones; none where there is none.
    ///
    /// # Errors
    /// The newest whole one is of another model, other data or other settings.
    pub fn newest(&self) -> Result<(Option<Snapshot>, Vec<String>)> {
        let mut damaged = Vec::new();
        for step in self.steps()? {
            let path = self.path(step);
            match Self::state(&path) {
                Err(error) => damaged.push(format!("{error:#}")),
                Ok(written) => {
                    self.run.check(&written.run).with_context(|| format!("{} cannot be continued", path.display()))?;
                    match Self::read(&path, &written) {
                        Err(error) => damaged.push(format!("{error:#}")),
                        Ok(snapshot) => return Ok((Some(snapshot), damaged)),
                    }
                }
            }
        }
        Ok((None, damaged))
    }

    /// The step with the least loss on what is held out, and that loss.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn best(&self) -> Result<Option<(usize, f64)>> {
        let looked = self.steps()?.into_iter().filter_map(|it| {
            let loss = Self::state(&self.path(it)).ok()?.held_out?;
            Some((it, loss))
        });
        Ok(looked.min_by(|a, b| a.1.total_cmp(&b.1)))
    }

    /// The checkpoint of a step.
    ///
    /// # Errors
    /// It is not there, is damaged, or of another run.
    pub fn at(&self, step: usize) -> Result<Snapshot> {
        let path = self.path(step);
        let written = Self::state(&path)?;
        self.run.check(&written.run).with_context(|| format!("{} cannot be continued", path.display()))?;
        Self::read(&path, &written)
    }

    fn path(&self, step: usize) -> PathBuf {
        self.folder.join(format!("step-{step:08}"))
    }

    fn forget(&self) -> Result<()> {
        let best = self.best()?.map(|it| it.0);
        for step in self.steps()?.into_iter().skip(self.keep_last).filter(|it| Some(*it) != best) {
            fs::remove_dir_all(self.path(step)).with_context(|| format!("forget the checkpoint of step {step}"))?;
        }
        Ok(())
    }

    fn state(path: &Path) -> Result<Written> {
        let at = path.join(STATE);
        let text = fs::read_to_string(&at).with_context(|| format!("read {}", at.display()))?;
        let written: Written = serde_json::from_str(&text).with_context(|| format!("understand {}", at.display()))?;
        ensure!(written.version == VERSION, "{} is of version {}, not {VERSION}", at.display(), written.version);
        Ok(written)
    }

    fn read(path: &Path, written: &Written) -> Result<Snapshot> {
        let read = |name: &str| -> Result<HashMap<String, Tensor>> {
            let Some(wanted) = written.files.get(name) else { return Ok(HashMap::new()) };
            let at = path.join(name);
            let found = hash(&at)?;
            ensure!(
                found == *wanted,
                "{} is damaged: its hash is {}, not {}",
                at.display(),
                found.short(),
                wanted.short()
            );
            Ok(candle_core::safetensors::load(&at, &Device::Cpu)?)
        };
        let (values, mut moments, mut ema) = (read(VALUES)?, read(MOMENTS)?, read(EMA)?);
        let (mut names, mut tensors): (Vec<_>, Vec<_>) = (Vec::new(), Vec::new());
        let mut sorted: Vec<_> = values.into_iter().collect();
        sorted.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, value) in sorted {
            names.push(name);
            tensors.push(value);
        }
        let mut all = |prefix: &str| -> Result<Vec<Tensor>> {
            let one = |name: &String| moments.remove(&format!("{prefix}{name}"));
            names.iter().map(one).collect::<Option<_>>().with_context(|| format!("{} lacks moments", path.display()))
        };
        let (means, squares) = (all("mean.")?, all("square.")?);
        let ema: Vec<Tensor> = names.iter().filter_map(|it| ema.remove(it)).collect();
        if !ema.is_empty() && ema.len() != names.len() {
            bail!("{} lacks running means", path.display());
        }
        Ok(Snapshot { n_done: written.n_done, names, values: tensors, means, squares, ema })
    }
}

/// The hash of a file's bytes.
fn hash(path: &Path) -> Result<Hash> {
    let mut hasher = blake3::Hasher::new();
    let file = File::open(path).with_context(|| format!("read {}", path.display()))?;
    hasher.update_reader(file).with_context(|| format!("read {}", path.display()))?;
    Ok(Hash(*hasher.finalize().as_bytes()))
}

/// A tensor as safetensors writes it, brought to the CPU when its turn comes.
pub(super) struct Stored(pub(super) Tensor);

impl View for Stored {
    fn dtype(&self) -> Dtype {
        match self.0.dtype() {
            DType::BF16 => Dtype::BF16,
            DType::F16 => Dtype::F16,
            DType::F64 => Dtype::F64,
            _ => Dtype::F32,
        }
    }

    fn shape(&self) -> &[usize] {
        self.0.dims()
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let flat = self.0.flatten_all().and_then(|it| it.to_device(&Device::Cpu)).expect("there is memory for a copy");
        let bytes = match flat.dtype() {
            DType::BF16 => flat.to_vec1::<half::bf16>().map(|it| it.iter().flat_map(|it| it.to_le_bytes()).collect()),
            DType::F16 => flat.to_vec1::<half::f16>().map(|it| it.iter().flat_map(|it| it.to_le_bytes()).collect()),
            DType::F64 => flat.to_vec1::<f64>().map(|it| it.iter().flat_map(|it| it.to_le_bytes()).collect()),
            _ => flat.to_vec1::<f32>().map(|it| it.iter().flat_map(|it| it.to_le_bytes()).collect()),
        };
        Cow::Owned(bytes.expect("its type has just been looked at"))
    }

    fn data_len(&self) -> usize {
        self.0.elem_count() * self.0.dtype().size_in_bytes()
    }
}
