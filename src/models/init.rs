//! Random packages: of the right names, shapes and files, so that what is built on packages can be tried without one.

mod presets;
mod random;
mod shards;
mod tokenizers;

use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::package::{Package, config_name};
use super::text::{clip, t5};
use super::weights::Weights;
use super::{sd3, vae};
use crate::job::task::making::Precision;
pub use presets::Preset;
use shards::{Plan, Writer};

/// What a random package is like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// Its configs.
    pub preset: Preset,
    /// Equal seeds give equal bytes.
    pub seed: u64,
    /// What its weights are stored as.
    pub precision: Precision,
    /// Whether it has T5, which takes more than half of the space.
    pub with_t5: bool,
}

/// Writes a random package of Stable Diffusion 3 into the folder `dir`, which must be new or empty. `progress` hears of
/// bytes as they are written, and of how many there will be. diffusers loads it too.
///
/// # Errors
/// `dir` holds something, there is not enough space, or it cannot be written; nothing stays behind then.
pub fn write(dir: &Path, wanted: Wanted, progress: &(dyn Fn(u64, u64) + Sync)) -> anyhow::Result<()> {
    let about = || format!("write a package to {}", dir.display());
    if dir.exists() {
        let is_empty = fs::read_dir(dir).with_context(about)?.next().is_none();
        ensure!(is_empty, "{} is not empty: name a folder that does not exist yet", dir.display());
    }
    let parent = match dir.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => anyhow::bail!("{} is no place for a package", dir.display()),
    };
    fs::create_dir_all(parent).with_context(about)?;
    let draft = tempfile::Builder::new().prefix(".package-").tempdir_in(parent).with_context(about)?;
    fill(draft.path(), wanted, progress).with_context(about)?;
    open_to_all(draft.path()).with_context(about)?;
    // A rename replaces an empty folder.
    fs::rename(draft.path(), dir).with_context(about)?;
    // What it would take away when dropped is no longer there.
    let _ = draft.keep();
    Ok(())
}

fn fill(root: &Path, wanted: Wanted, progress: &(dyn Fn(u64, u64) + Sync)) -> anyhow::Result<()> {
    let configs = presets::configs(wanted.preset, wanted.precision.torch_name(), wanted.with_t5);
    for (component, config) in &configs {
        let folder = root.join(component);
        fs::create_dir_all(&folder)?;
        write_json(&folder.join(config_name(component)), config)?;
    }
    write_json(&root.join("model_index.json"), &presets::index(wanted.with_t5))?;
    let package = Package::open(root)?;
    let clip = clip::Config::read(&package.config("text_encoder"))?;
    tokenizers::write_clip(&package.folder("tokenizer"), clip.vocab_size, tokenizers::Pad::End)?;
    tokenizers::write_clip(&package.folder("tokenizer_2"), clip.vocab_size, tokenizers::Pad::First)?;
    if wanted.with_t5 {
        tokenizers::write_t5(&package.folder("tokenizer_3"))?;
    }

    let mut plans = Vec::new();
    for component in package.components.keys() {
        if let Some(tensors) = tensors(&package, component)? {
            plans.push((component, Plan::new(component, wanted.seed, wanted.precision, tensors)));
        }
    }
    let n_bytes = plans.iter().map(|(_, it)| it.n_bytes()).sum();
    let free = free_space(root)?;
    ensure!(n_bytes < free, "it takes {} MB, and {} MB are free", n_bytes >> 20, free >> 20);
    let report = move |written| progress(written, n_bytes);
    let writer = Writer::new(&report);
    for (component, plan) in &plans {
        writer.write(&package.folder(component), plan).with_context(|| format!("write {component}"))?;
    }
    Ok(())
}

/// The tensors of a component with the rules that they are drawn by; none of what has no weights.
fn tensors(package: &Package, component: &str) -> anyhow::Result<Option<Vec<random::Tensor>>> {
    let path = package.config(component);
    let weights = Weights::blueprint();
    let mut hints = random::Hints::default();
    match component {
        "transformer" => {
            let config = sd3::Config::read(&path)?;
            hints.table = Some((config.pos_embed_max_size, config.sample_size / config.patch_size));
            sd3::Sd3::load(&config, &weights).map(drop)?;
        }
        "vae" => vae::Vae::load(&vae::Config::read(&path)?, &weights).map(drop)?,
        "text_encoder" | "text_encoder_2" => {
            clip::ClipText::load(&clip::Config::read(&path)?, &weights).map(drop)?;
        }
        "text_encoder_3" => {
            let config = t5::Config::read(&path)?;
            hints.head = Some(config.d_kv);
            t5::T5Encoder::load(&config, &weights).map(drop)?;
        }
        _ => return Ok(None),
    }
    Ok(Some(weights.asked().into_iter().map(|(name, shape)| random::Tensor::new(name, shape, hints)).collect()))
}

/// diffusers' positional table of `side`×`side` patches, its coordinates scaled to `base`: [side·side, width] by rows.
pub fn positional_table(side: usize, base: usize, width: usize) -> Vec<f32> {
    random::positions(side, base, width)
}

fn write_json(path: &Path, value: &Value) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value)? + "\n";
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

/// The bytes that are free for this user where `path` is.
fn free_space(path: &Path) -> anyhow::Result<u64> {
    let found = rustix::fs::statvfs(path).with_context(|| format!("look at the space at {}", path.display()))?;
    Ok(found.f_bavail * found.f_frsize)
}

/// Files made beside are for their maker alone; a package is for all who may read the folder.
fn open_to_all(root: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    for entry in walkdir::WalkDir::new(root) {
        let entry = entry?;
        let mode = if entry.file_type().is_dir() { 0o755 } else { 0o644 };
        fs::set_permissions(entry.path(), fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}
