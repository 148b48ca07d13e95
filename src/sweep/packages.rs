//! The packages and prompts that a sweep names: found, checked against what is asked of them, hashed part by part.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use rayon::prelude::*;

use super::block::meant;
use super::datasets::{self, Datasets};
use super::fault::{Collector, Faults};
use super::inventory::{HashCache, Inventory, Progress, hash_file, hash_files};
use super::making::Places;
use super::prompts::{self, Prompt};
use super::{Sweep, making, networks};
use crate::job::Hash;
use crate::job::task::making::{Part, Partition};
use crate::models::package::{Layout, Package};
use crate::models::pipeline::Sizes;
use crate::models::{hub, vae};
use crate::train::data::bucket;

/// What a sweep's blocks need beside pictures, before anything is hashed.
#[derive(Debug, Default)]
pub struct Resources {
    /// The prompts of each `[[generate]]` block.
    prompts: Vec<Vec<Prompt>>,
    /// The packages by the names that the sweep has for them.
    packages: BTreeMap<String, Wanted>,
    /// What metrics look through.
    networks: networks::Found,
    /// What is trained on.
    data: Datasets,
    /// Which `[[images]]` blocks show only what a `[[finetune]]` block holds out: the indices of both.
    narrowed: Vec<(usize, usize)>,
}

/// A package and the parts of it that the sweep needs.
#[derive(Debug)]
struct Wanted {
    package: Package,
    /// How many pixels of a picture one of a latent stands for, along each axis.
    factor: u32,
    unit: u32,
    stride: usize,
    parts: BTreeSet<Part>,
}

/// A package as a plan needs it.
#[derive(Clone, PartialEq, Debug)]
pub struct PackageFiles {
    /// Its folder: absolute.
    pub root: PathBuf,
    /// How many pixels of a picture one of a latent stands for, along each axis.
    pub factor: u32,
    /// Sides that the transformer takes are multiples of this.
    pub unit: u32,
    /// The hash of each part that the sweep needs.
    pub parts: BTreeMap<Part, Hash>,
    /// The files of those parts, with the hashes of their bytes.
    pub files: Vec<(PathBuf, Hash)>,
}

impl Sweep {
    /// Reads the prompts and finds the packages; `base` is the folder of the sweep file, `text` and `file_name` are
    /// what it was parsed from. A package on the hub is fetched if this machine does not have it.
    ///
    /// # Errors
    /// Prompts that cannot be read, packages that are not there or not whole, sizes and partitions that a package
    /// does not have, each with its place in the sweep.
    pub fn look_up(&self, text: &str, file_name: &str, base: &Path) -> Result<Resources, Faults> {
        let faults = Collector::new(text, file_name);
        let narrowed = self.images.iter().enumerate().filter_map(|(idx, it)| Some((idx, it.held_out_of?))).collect();
        let data = Datasets::find(self, base, &faults);
        let mut resources = Resources { data, narrowed, ..Resources::default() };
        resources.find_bases(self, base, &faults);
        for block in &self.generate {
            let models: Vec<String> = block.model.values.iter().map(|it| self.root(it).to_owned()).collect();
            let read = prompts::read(&block.prompts, block.limit, base);
            resources.prompts.push(read.unwrap_or_else(|error| {
                let captions = self.caption.iter().map(|it| it.name.as_str());
                let help = match &block.prompts {
                    making::Prompts::File(path) => meant(path, captions),
                    _ => None,
                };
                faults.at(&block.places.subject, format!("{error:#}"), help);
                Vec::new()
            }));
            resources.find(&models, &block.places, &Part::ALL, base, &faults);
            let mut checked = BTreeSet::new();
            for point in block.points() {
                let Some(wanted) = resources.packages.get(&models[point.model]) else { continue };
                let (width, height) = block.size.values[point.size];
                if checked.insert((point.model, point.size))
                    && let Err(error) = Sizes::of(&wanted.package).and_then(|it| it.check(width, height))
                {
                    let place = block.places.size.get(point.size).cloned().unwrap_or_default();
                    faults.at(&place, format!("{error:#}"), None);
                }
            }
            resources.check_partitions(&models, &block.partition.values, &block.places, &faults);
        }
        for block in &self.reconstruct {
            let models: Vec<String> = block.model.values.iter().map(|it| self.root(it).to_owned()).collect();
            resources.find(&models, &block.places, &[Part::Vae], base, &faults);
            resources.check_partitions(&models, &block.partition.values, &block.places, &faults);
        }
        resources.networks = networks::find(self, base, &faults);
        match faults.finish() {
            Some(faults) => Err(faults),
            None => Ok(resources),
        }
    }
}

impl Resources {
    /// What the `[[finetune]]` blocks start from in the end, and whether it can be trained at their sizes.
    fn find_bases(&mut self, sweep: &Sweep, base: &Path, faults: &Collector) {
        for point in sweep.finetune.iter().flat_map(|it| &it.points) {
            let root = sweep.root(&point.model).to_owned();
            let is_denoiser = point.part() == Part::Denoiser;
            let parts: &[Part] = if is_denoiser { &Part::ALL } else { &[Part::Vae] };
            let places = Places { model: vec![point.places.model.clone()], ..Places::default() };
            self.find(std::slice::from_ref(&root), &places, parts, base, faults);
            let Some(wanted) = self.packages.get(&root) else { continue };
            let side = point.cut.side;
            let buckets = point.buckets.iter().map(|it| bucket(side, *it, wanted.unit));
            let fits = if is_denoiser {
                let sizes = Sizes::of(&wanted.package);
                let mut all = std::iter::once((side, side)).chain(buckets);
                sizes.and_then(|it| all.try_for_each(|(width, height)| it.check(width, height)))
            } else if side.is_multiple_of(wanted.factor) {
                Ok(())
            } else {
                Err(anyhow::anyhow!("the autoencoder takes sides that are multiples of {}", wanted.factor))
            };
            if let Err(error) = fits {
                faults.at(&point.places.size, format!("{error:#}"), None);
            }
        }
    }

    fn find(&mut self, models: &[String], places: &Places, parts: &[Part], base: &Path, faults: &Collector) {
        for (model, place) in models.iter().zip(&places.model) {
            if !self.packages.contains_key(model) {
                match Wanted::find(model, base) {
                    Ok(wanted) => drop(self.packages.insert(model.clone(), wanted)),
                    Err(error) => {
                        faults.at(place, format!("{error:#}"), None);
                        continue;
                    }
                }
            }
            let Some(wanted) = self.packages.get_mut(model) else { continue };
            for part in parts {
                if let Err(error) = wanted.package.files(*part) {
                    faults.at(place, format!("{error:#}"), None);
                }
            }
            wanted.parts.extend(parts);
        }
    }

    fn check_partitions(&self, models: &[String], partitions: &[Partition], places: &Places, faults: &Collector) {
        let Some(at) = partitions.iter().position(|it| *it == Partition::Legacy) else { return };
        let is_plain = |it: &&String| self.packages.get(*it).is_some_and(|it| it.stride == 1);
        if let Some(model) = models.iter().find(is_plain) {
            let message = format!("`legacy` is for strided autoencoders; that of `{model}` has stride 1");
            let place = places.partition.get(at).cloned().unwrap_or_default();
            faults.at(&place, message, "take `legacy` out, or write `exact`".to_owned());
        }
    }

    /// Hashes what the packages hold and adds all of it to the inventory.
    ///
    /// # Errors
    /// A file that cannot be read any more.
    pub fn add_to(
        self,
        inventory: &mut Inventory,
        cache: &mut dyn HashCache,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> anyhow::Result<()> {
        inventory.prompts = self.prompts;
        let held_out = self.narrowed.into_iter().map(|(images, block)| (images, block, self.data.splits(block)));
        let held_out: Vec<_> = held_out.collect();
        inventory.data = self.data.hashed(cache, progress)?;
        for (images, block, splits) in held_out {
            let shown = datasets::held_out(&inventory.data[block], &splits);
            let files = &mut inventory.blocks[images];
            files.retain(|it| shown.contains(&it.content));
            ensure!(!files.is_empty(), "none of the pictures of an [[images]] block is held out by its `held_out_of`");
        }
        inventory.networks = networks::hashed(self.networks, cache, progress)?;
        for (name, wanted) in self.packages {
            let mut files: BTreeMap<PathBuf, Hash> = BTreeMap::new();
            let mut parts = BTreeMap::new();
            for part in &wanted.parts {
                let paths = wanted.package.files(*part)?;
                let hashes = hash_files(&paths, cache, progress)?;
                files.extend(paths.into_iter().zip(hashes));
                let hash = |it: &Path| files.get(it).copied().context("a file that was not hashed");
                parts.insert(*part, wanted.package.part_hash(*part, hash)?);
            }
            let files = files.into_iter().collect();
            let package =
                PackageFiles { root: wanted.package.root, factor: wanted.factor, unit: wanted.unit, parts, files };
            inventory.packages.insert(name, package);
        }
        Ok(())
    }
}

impl Wanted {
    fn find(model: &str, base: &Path) -> anyhow::Result<Self> {
        let path = base.join(model);
        let root = if path.is_dir() { path } else { hub::locate(model)? };
        let root = root.canonicalize().with_context(|| format!("find {}", root.display()))?;
        let package = Package::open(&root)?;
        let vae = vae::Config::read(&package.config("vae"))?;
        let factor = u32::try_from(vae.factor()).context("the autoencoder's factor")?;
        // A package of an autoencoder alone has no transformer.
        let unit = Sizes::of(&package).ok().and_then(|it| u32::try_from(it.unit()).ok()).unwrap_or(factor);
        Ok(Self { package, factor, unit, stride: vae.stride, parts: BTreeSet::new() })
    }
}

/// The hash of a part as it lies on this machine's disk, every byte of it read.
///
/// # Errors
/// No package there, or a file that is missing or cannot be read.
pub fn hash_part(root: &Path, part: Part) -> anyhow::Result<Hash> {
    let root = root.canonicalize().with_context(|| format!("find {}", root.display()))?;
    let package = Package::open_as(&root, Layout::of(part))?;
    let paths = package.files(part)?;
    // All at a time: a part may be ten gigabytes.
    let hashes: HashMap<PathBuf, Hash> = paths
        .into_par_iter()
        .map(|it| Ok((it.clone(), hash_file(&it).with_context(|| format!("read {}", it.display()))?)))
        .collect::<anyhow::Result<_>>()?;
    package.part_hash(part, |it| hashes.get(it).copied().context("a file that was not hashed"))
}
