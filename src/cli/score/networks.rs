//! The networks that the wanted metrics look through: which weights, found and loaded.

use anyhow::Context;

use crate::gpu;
use crate::metrics::{self, Metric, Network, Scorer};
use crate::models::hub;
use crate::models::package::{Layout, Package};

/// Why there are none.
pub enum Fault {
    /// The arguments are wrong.
    Misused(String),
    /// The weights are not there or are not the network's.
    Failed(anyhow::Error),
}

/// A network that metrics look through, and what scores by it.
pub type Loaded = (&'static Network, Box<dyn Scorer>);

/// Loads what `wanted` looks through, each network once; `named` are METRIC=PACKAGE.
pub fn open(wanted: &[&'static Metric], named: &[String], device: &str) -> Result<Vec<Loaded>, Fault> {
    let mut networks: Vec<(&'static Network, &str)> = Vec::new();
    for network in wanted.iter().filter_map(|it| metrics::network(it)) {
        if networks.iter().all(|it| it.0.metric != network.metric) {
            networks.push((network, network.default));
        }
    }
    for text in named {
        let parts = text.split_once('=').filter(|it| !it.1.is_empty());
        let (metric, package) =
            parts.ok_or_else(|| Fault::Misused(format!("--network `{text}`: it is METRIC=PACKAGE")))?;
        let Some(network) = networks.iter_mut().find(|it| it.0.metric == metric) else {
            let why = if metrics::TABLE.iter().any(|it| it.name == metric) {
                "looks through no network, or is not asked for by --metric"
            } else {
                "is no metric"
            };
            return Err(Fault::Misused(format!("--network {text}: `{metric}` {why}")));
        };
        network.1 = package;
    }
    networks.into_iter().map(|(network, package)| Ok((network, load(network, package, device)?))).collect()
}

fn load(network: &'static Network, package: &str, device: &str) -> Result<Box<dyn Scorer>, Fault> {
    let open = || {
        let folder = hub::locate_as(package, Layout::Transformers)?;
        let package = Package::open_as(&folder, Layout::Transformers)?;
        network.check(&package)?;
        network.open(&package, &gpu::device(device)?)
    };
    let help = || {
        let metric = network.metric;
        format!(
            "{metric} looks through a network: --network {metric}=PACKAGE says where it lies, {package} is looked for"
        )
    };
    open().with_context(help).map_err(Fault::Failed)
}
