//! The networks that a sweep's metrics look through: named, found, checked, hashed.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::Sweep;
use super::fault::Collector;
use super::inventory::{HashCache, Progress, hash_files};
use crate::job::Hash;
use crate::metrics::{self, Metric, Network};
use crate::models::hub;
use crate::models::package::{Layout, Package, Part};

/// A network that metrics of a block look through.
#[derive(Clone, Debug)]
pub struct Named {
    /// What it is for.
    pub network: &'static Network,
    /// Its folder relative to the sweep file, or its name on the Hugging Face hub.
    pub package: String,
    /// Where the file says so, or asks for the metric.
    pub place: Range<usize>,
}

/// What of `named` a metric looks through: the package's name in the sweep.
pub fn of<'a>(metric: &Metric, named: &'a [Named]) -> Option<&'a str> {
    let network = metrics::network(metric)?;
    named.iter().find(|it| it.network.metric == network.metric).map(|it| it.package.as_str())
}

/// A network as a plan needs it.
#[derive(Clone, PartialEq, Debug)]
pub struct NetworkFiles {
    /// Its folder: absolute.
    pub root: PathBuf,
    /// The hash of its files.
    pub hash: Hash,
    /// The files, with the hashes of their bytes.
    pub files: Vec<(PathBuf, Hash)>,
}

/// The folders, by the names that the sweep has for them.
pub(super) type Found = BTreeMap<String, Package>;

/// Finds the networks of all blocks, and whether they are what the metrics want.
pub(super) fn find(sweep: &Sweep, base: &Path, faults: &Collector) -> Found {
    let mut found = Found::new();
    let named = sweep.evaluate.networks.iter().chain(sweep.finetune.iter().flat_map(|it| &it.networks));
    for Named { network, package, place } in named {
        let folder = match found.get(package) {
            Some(folder) => Ok(folder.clone()),
            None => open(package, base),
        };
        match folder.and_then(|folder| network.check(&folder).map(|()| folder)) {
            Ok(folder) => drop(found.insert(package.clone(), folder)),
            Err(error) => {
                let metric = network.metric;
                let message = format!("{metric} looks through a network, and `{package}` will not do: {error:#}");
                let help =
                    format!("`networks = {{ {metric} = \"PACKAGE\" }}` says which: a folder with the weights of");
                faults.at(place, message, format!("{help} {}, or a name on the hub", network.default));
            }
        }
    }
    found
}

fn open(package: &str, base: &Path) -> anyhow::Result<Package> {
    let path = base.join(package);
    let root = if path.is_dir() { path } else { hub::locate_as(package, Layout::Transformers)? };
    let root = root.canonicalize().with_context(|| format!("find {}", root.display()))?;
    Package::open_as(&root, Layout::Transformers)
}

/// Hashes what was found.
///
/// # Errors
/// A file that cannot be read any more.
pub(super) fn hashed(
    found: Found,
    cache: &mut dyn HashCache,
    progress: &(dyn Fn(Progress) + Sync),
) -> anyhow::Result<BTreeMap<String, NetworkFiles>> {
    let mut networks = BTreeMap::new();
    for (name, package) in found {
        let paths = package.files(Part::Network)?;
        let hashes = hash_files(&paths, cache, progress)?;
        let files: Vec<(PathBuf, Hash)> = paths.into_iter().zip(hashes).collect();
        let hash = |path: &Path| {
            let file = files.iter().find(|it| it.0 == path);
            file.map(|it| it.1).context("a file that was not hashed")
        };
        let hash = package.part_hash(Part::Network, hash)?;
        networks.insert(name, NetworkFiles { root: package.root, hash, files });
    }
    Ok(networks)
}
