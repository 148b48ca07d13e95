//! Checkpoints: files that are whole or not there, hashed, and refused where they do not belong.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor};
use safetensors::{Dtype, View};
use serde::{Deserialize, Serialize};

use super::trainer::Snapshot;
use crate::job::Hash;

/// The form of what is written; a reader of another one refuses it.
const VERSION: u32 = 1;
/// Where a file's state stands among its metadata.
const STATE: &str = "checkpoint";
/// Longer headers are no checkpoint's: SD3 has 10³ tensors, each some 100 bytes.
const MOST_HEADER: u64 = 1 << 28;

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

/// What a file says of itself.
#[derive(Serialize, Deserialize)]
struct State {
    version: u32,
    n_done: usize,
    /// The loss on what is held out, if it was looked at.
    held_out: Option<f64>,
    run: Run,
    /// The hash of the tensors' bytes, in the order of their names.
    data: Hash,
}

/// What keeps checkpoints.
pub trait Keeper {
    /// The newest that is whole, and what is wrong with newer ones; none where there is none.
    ///
    /// # Errors
    /// It is of another model, other data or other settings.
    fn newest(&mut self) -> Result<(Option<Snapshot>, Vec<String>)>;

    /// Keeps one more, with these weights' loss on what is held out, if that was looked at.
    ///
    /// # Errors
    /// It cannot be written; those before it stay.
    fn save(&mut self, snapshot: &Snapshot, held_out: Option<f64>) -> Result<()>;

    /// The step with the least loss on what is held out, and that loss, up to the newest that is whole.
    ///
    /// # Errors
    /// What is kept cannot be looked through.
    fn best(&self) -> Result<Option<(usize, f64)>>;

    /// What was kept after this step: the newest, or the best.
    ///
    /// # Errors
    /// It is not there, or damaged.
    fn at(&self, step: usize) -> Result<Snapshot>;
}

/// Writes one checkpoint to a file: safetensors, `value.`, `mean.`, `square.` and `ema.` before the parameters' names.
/// The file is whole or not there.
///
/// # Errors
/// A full disk, for one.
pub fn write(path: &Path, snapshot: &Snapshot, run: &Run, held_out: Option<f64>) -> Result<()> {
    let kinds = [
        ("value.", &snapshot.values),
        ("mean.", &snapshot.means),
        ("square.", &snapshot.squares),
        ("ema.", &snapshot.ema),
    ];
    let mut tensors: BTreeMap<String, Stored> = BTreeMap::new();
    for (kind, values) in kinds {
        let names = snapshot.names.iter().map(|it| format!("{kind}{it}"));
        tensors.extend(names.zip(values.iter().map(|it| Stored(it.clone()))));
    }
    let data = hash(&tensors);
    let state = State { version: VERSION, n_done: snapshot.n_done, held_out, run: run.clone(), data };
    let about = HashMap::from([(STATE.to_owned(), serde_json::to_string(&state)?)]);
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let go = || -> Result<()> {
        let beside = tempfile::Builder::new().prefix(".unfinished-").tempfile_in(folder)?;
        safetensors::serialize_to_file(tensors, Some(about), beside.path())?;
        File::open(beside.path())?.sync_all()?;
        beside.persist(path)?;
        File::open(folder)?.sync_all()?;
        Ok(())
    };
    go().with_context(|| format!("save the checkpoint of step {}", snapshot.n_done))
}

/// The hash of all tensors' bytes, in the order of their names.
fn hash(tensors: &BTreeMap<String, Stored>) -> Hash {
    let mut hasher = blake3::Hasher::new();
    for it in tensors.values() {
        hasher.update(&it.data());
    }
    Hash(*hasher.finalize().as_bytes())
}

/// Reads a file that [`write`] wrote.
///
/// # Errors
/// It is damaged, or of another model, other data or other settings than `run`.
pub fn read(path: &Path, run: &Run) -> Result<Snapshot> {
    let state = state(path)?;
    run.check(&state.run).with_context(|| format!("{} cannot be continued", path.display()))?;
    tensors(path, &state)
}

/// What a safetensors file says of itself under a key of its metadata.
///
/// # Errors
/// It is no such file, or has no such key.
pub fn about(path: &Path, key: &str) -> Result<String> {
    #[derive(Deserialize)]
    struct Header {
        #[serde(rename = "__metadata__")]
        about: HashMap<String, String>,
    }
    let mut file = File::open(path)?;
    let mut n = [0; 8];
    file.read_exact(&mut n)?;
    let n = u64::from_le_bytes(n);
    ensure!(n < MOST_HEADER, "its header is longer than any of ours");
    let mut header = vec![0; n as usize];
    file.read_exact(&mut header)?;
    let mut header: Header = serde_json::from_slice(&header)?;
    header.about.remove(key).with_context(|| format!("it says nothing of its {key}"))
}

fn state(path: &Path) -> Result<State> {
    let go = || -> Result<State> {
        let state: State = serde_json::from_str(&about(path, STATE)?)?;
        ensure!(state.version == VERSION, "it is of version {}, not {VERSION}", state.version);
        Ok(state)
    };
    go().with_context(|| format!("{} is no checkpoint", path.display()))
}

fn tensors(path: &Path, state: &State) -> Result<Snapshot> {
    let found =
        candle_core::safetensors::load(path, &Device::Cpu).with_context(|| format!("{} is damaged", path.display()))?;
    let found: BTreeMap<String, Stored> = found.into_iter().map(|(name, it)| (name, Stored(it))).collect();
    ensure!(hash(&found) == state.data, "{} is damaged: its tensors are not those that were written", path.display());
    let kind = |kind: &str| -> (Vec<String>, Vec<Tensor>) {
        let of = found.iter().filter_map(|(name, it)| Some((name.strip_prefix(kind)?.to_owned(), it.0.clone())));
        of.unzip()
    };
    let (names, values) = kind("value.");
    let [(mean_names, means), (square_names, squares), (ema_names, ema)] = ["mean.", "square.", "ema."].map(kind);
    let is_whole = mean_names == names && square_names == names && (ema.is_empty() || ema_names == names);
    ensure!(is_whole, "{} lacks moments of some parameters", path.display());
    Ok(Snapshot { n_done: state.n_done, names, values, means, squares, ema })
}

/// A run's folder of checkpoints on this machine.
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

    /// The steps of the checkpoints that are there, the newest first.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn steps(&self) -> Result<Vec<usize>> {
        let mut steps = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            let step = name.to_str().and_then(|it| it.strip_prefix("step-")?.strip_suffix(".safetensors"));
            steps.extend(step.and_then(|it| it.parse::<usize>().ok()));
        }
        steps.sort_unstable_by_key(|it| std::cmp::Reverse(*it));
        Ok(steps)
    }

    /// The file of a step's checkpoint.
    pub fn path(&self, step: usize) -> PathBuf {
        self.folder.join(format!("step-{step:08}.safetensors"))
    }

    fn forget(&self) -> Result<()> {
        let best = self.best()?.map(|it| it.0);
        for step in self.steps()?.into_iter().skip(self.keep_last).filter(|it| Some(*it) != best) {
            fs::remove_file(self.path(step)).with_context(|| format!("forget the checkpoint of step {step}"))?;
        }
        Ok(())
    }
}

impl Keeper for Shelf {
    fn newest(&mut self) -> Result<(Option<Snapshot>, Vec<String>)> {
        let mut damaged = Vec::new();
        for step in self.steps()? {
            let path = self.path(step);
            let state = match state(&path) {
                Ok(state) => state,
                Err(error) => {
                    damaged.push(format!("{error:#}"));
                    continue;
                }
            };
            self.run.check(&state.run).with_context(|| format!("{} cannot be continued", path.display()))?;
            match tensors(&path, &state) {
                Ok(snapshot) => return Ok((Some(snapshot), damaged)),
                Err(error) => damaged.push(format!("{error:#}")),
            }
        }
        Ok((None, damaged))
    }

    fn save(&mut self, snapshot: &Snapshot, held_out: Option<f64>) -> Result<()> {
        write(&self.path(snapshot.n_done), snapshot, &self.run, held_out)?;
        self.forget()
    }

    fn best(&self) -> Result<Option<(usize, f64)>> {
        let looked = self.steps()?.into_iter().rev().filter_map(|it| {
            let loss = state(&self.path(it)).ok()?.held_out?;
            Some((it, loss))
        });
        Ok(looked.min_by(|a, b| a.1.total_cmp(&b.1)))
    }

    fn at(&self, step: usize) -> Result<Snapshot> {
        read(&self.path(step), &self.run)
    }
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
