//! What training leaves behind: a package in the diffusers layout, or adapters that diffusers loads.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor};
use safetensors::View;
use serde_json::json;

use super::checkpoint::Stored;
use super::part;
use crate::gpu;
use crate::job::task::making::Precision;
use crate::models::package::Package;
use crate::models::weights::Weights;

/// The most bytes of one file of weights, as diffusers has it.
const MOST_BYTES: usize = 10_000_000_000;
const STEM: &str = "diffusion_pytorch_model";

/// Writes `base` anew at `folder`, with other weights of one component: the tensors that were trained, and the base's
/// own where they were not. They are stored as `precision`. The folder is whole or not there.
///
/// # Errors
/// Something is at `folder` already, a tensor that the base does not have or has in another shape, a full disk.
pub fn package(
    base: &Package,
    component: &str,
    trained: &[(String, Tensor)],
    precision: Precision,
    folder: &Path,
) -> Result<()> {
    ensure!(!folder.exists(), "{} is there already", folder.display());
    let parent = folder.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let beside = tempfile::Builder::new().prefix(".unfinished-").tempdir_in(parent)?;
    let own = base.folder(component);
    copy(&base.root, beside.path(), &[own]).with_context(|| format!("copy {}", base.root.display()))?;
    let weights = Weights::open(&base.weights(component)?, &Device::Cpu, gpu::dtype(precision))?;
    let mut trained: HashMap<&str, &Tensor> = trained.iter().map(|(name, it)| (name.as_str(), it)).collect();
    let mut tensors: BTreeMap<String, Tensor> = BTreeMap::new();
    for (name, shape, _) in weights.stored() {
        let tensor = match trained.remove(name.as_str()) {
            Some(tensor) => {
                ensure!(tensor.dims() == shape, "{name} is {:?}, in the base {shape:?}", tensor.dims());
                tensor.to_dtype(gpu::dtype(precision))?
            }
            None => weights.get(shape, &name)?,
        };
        tensors.insert(name, tensor);
    }
    ensure!(trained.is_empty(), "the base has no {}", trained.keys().copied().collect::<Vec<_>>().join(", "));
    weights_to(&beside.path().join(component), tensors, MOST_BYTES)?;
    readable(beside.path())?;
    fs::rename(beside.keep(), folder).with_context(|| format!("put the package at {}", folder.display()))?;
    Ok(())
}

/// Writes `base` anew at `folder` with trained parts in the place of its own: of several of one part the first. Adapters
/// that went into a part stand beside it, as [`adapters`] writes them. The folder is whole or not there.
///
/// # Errors
/// Something is at `folder` already, a file that is no trained part, a full disk.
pub fn assemble(base: &Package, parts: &[PathBuf], folder: &Path) -> Result<()> {
    ensure!(!folder.exists(), "{} is there already", folder.display());
    let parent = folder.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
    let beside = tempfile::Builder::new().prefix(".unfinished-").tempdir_in(parent)?;
    let mut trained: BTreeMap<&str, (&PathBuf, part::About)> = BTreeMap::new();
    for path in parts {
        let about = part::look(path)?;
        trained.entry(part::component(about.part)?).or_insert((path, about));
    }
    let own: Vec<PathBuf> = trained.keys().map(|it| base.folder(it)).collect();
    copy(&base.root, beside.path(), &own).with_context(|| format!("copy {}", base.root.display()))?;
    for (component, (path, about)) in &trained {
        for (name, text) in about.own_configs(component) {
            fs::write(beside.path().join(name), text)?;
        }
        let (mut tensors, mut beside_them) = (BTreeMap::new(), Vec::new());
        for (name, tensor) in candle_core::safetensors::load(path, &Device::Cpu)? {
            match name.strip_prefix(part::ADAPTER) {
                Some(name) => beside_them.push((name.to_owned(), tensor)),
                None => drop(tensors.insert(name, tensor)),
            }
        }
        weights_to(&beside.path().join(component), tensors, MOST_BYTES)?;
        if let Some(factor) = about.factor {
            beside_them.sort_by(|a, b| a.0.cmp(&b.0));
            adapters(&beside_them, factor, beside.path())?;
        }
    }
    readable(beside.path())?;
    fs::rename(beside.keep(), folder).with_context(|| format!("put the package at {}", folder.display()))?;
    Ok(())
}

/// Everything under `from` but the weights in the folders `own`.
fn copy(from: &Path, to: &Path, own: &[PathBuf]) -> Result<()> {
    for entry in walkdir::WalkDir::new(from).follow_links(true).min_depth(1) {
        let entry = entry?;
        let path = entry.path();
        let name = entry.file_name().to_string_lossy();
        if own.iter().any(|it| path.starts_with(it))
            && (name.ends_with(".safetensors") || name.ends_with(".index.json"))
        {
            continue;
        }
        let target = to.join(path.strip_prefix(from)?);
        if entry.file_type().is_dir() {
            fs::create_dir_all(&target)?;
        } else {
            fs::copy(path, &target).with_context(|| format!("copy {}", path.display()))?;
        }
    }
    Ok(())
}

/// Files of at most `most` bytes, unless one tensor alone has more, with an index where there are several.
fn weights_to(folder: &Path, tensors: BTreeMap<String, Tensor>, most: usize) -> Result<()> {
    let size = |it: &Tensor| it.elem_count() * it.dtype().size_in_bytes();
    let total: usize = tensors.values().map(size).sum();
    let mut files: Vec<Vec<(String, Stored)>> = vec![Vec::new()];
    let mut filled = 0;
    for (name, tensor) in tensors {
        let n = size(&tensor);
        if filled > 0 && filled + n > most {
            files.push(Vec::new());
            filled = 0;
        }
        filled += n;
        if let Some(last) = files.last_mut() {
            last.push((name, Stored(tensor)));
        }
    }
    let n_files = files.len();
    let mut places = BTreeMap::new();
    for (idx, file) in files.into_iter().enumerate() {
        let name = match n_files {
            1 => format!("{STEM}.safetensors"),
            _ => format!("{STEM}-{:05}-of-{n_files:05}.safetensors", idx + 1),
        };
        places.extend(file.iter().map(|it| (it.0.clone(), name.clone())));
        write(&folder.join(&name), file, HashMap::new())?;
    }
    if n_files > 1 {
        let index = json!({ "metadata": { "total_size": total }, "weight_map": places });
        fs::write(folder.join(format!("{STEM}.safetensors.index.json")), serde_json::to_string_pretty(&index)? + "\n")?;
    }
    Ok(())
}

fn write<V: View>(path: &Path, tensors: Vec<(String, V)>, about: HashMap<String, String>) -> Result<()> {
    // transformers and diffusers refuse files that don't say where they come from.
    let about = about.into_iter().chain([("format".to_owned(), "pt".to_owned())]).collect();
    safetensors::serialize_to_file(tensors, Some(about), path).with_context(|| format!("write {}", path.display()))?;
    fs::File::open(path)?.sync_all()?;
    Ok(())
}

/// Writes adapters as `pytorch_lora_weights.safetensors` in `folder`, as diffusers' `load_lora_weights` reads them.
/// Their factor alpha/rank is part of B there, so that the file means the same to every reader.
///
/// # Errors
/// The file cannot be written.
pub fn adapters(trained: &[(String, Tensor)], factor: f64, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let one = |(name, tensor): &(String, Tensor)| -> Result<(String, Stored)> {
        let tensor = tensor.to_dtype(DType::F32)?;
        let tensor = if name.ends_with(".lora_B.weight") { (tensor * factor)? } else { tensor };
        Ok((format!("transformer.{name}"), Stored(tensor)))
    };
    let tensors = trained.iter().map(one).collect::<Result<Vec<_>>>()?;
    let beside = folder.join(".pytorch_lora_weights.unfinished");
    write(&beside, tensors, HashMap::new())?;
    fs::rename(&beside, folder.join("pytorch_lora_weights.safetensors"))?;
    Ok(())
}

/// Folders made beside are for their maker alone; a package is for all who may read where it lies.
fn readable(root: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    for entry in walkdir::WalkDir::new(root) {
        let entry = entry?;
        let mode = if entry.file_type().is_dir() { 0o755 } else { 0o644 };
        fs::set_permissions(entry.path(), fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}
