//! `jobctl model export`: a model that a sweep has trained, as a package in the diffusers layout.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::cli::Outcome;
use crate::cli::lines::say;
use crate::config::Config;
use crate::database;
use crate::models::hub;
use crate::models::package::Package;
use crate::queue::look;
use crate::store::artifact::Artifacts;
use crate::store::{made, training};
use crate::train::output;

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The sweep: its id, the beginning of it, or its name
    sweep: String,
    /// What the sweep calls the model, such as `wlf` or `wlf bands=[1, 2, 2, 4]`
    model: String,
    /// A folder that does not exist yet
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// See [`Args`].
pub(super) async fn run(args: &Args, config: &Config) -> anyhow::Result<Outcome> {
    let pool = database::open(config, 2).await?;
    let (sweep, slug) = look::find_sweep(&pool, &args.sweep).await?;
    let known = training::parts(&pool, sweep).await?;
    let artifacts = Artifacts::open(&config.store)?;
    // From the model back to the package that it comes from.
    let (mut parts, mut held, mut roots) = (Vec::new(), Vec::new(), Vec::new());
    let mut name = args.model.clone();
    while let Some(it) = known.iter().find(|it| it.name == name) {
        let Some(artifact) = it.artifact else { bail!("`{name}` of {slug} is not trained yet") };
        let fetched = artifacts.fetch(&artifact).await.with_context(|| format!("fetch what `{name}` is"))?;
        parts.push(fetched.path.clone());
        held.push(fetched);
        roots = made::part_at(&pool, &it.model).await?;
        name.clone_from(&it.base);
    }
    if parts.is_empty() {
        let names: Vec<String> = known.iter().map(|it| format!("`{}`", it.name)).collect();
        match names.is_empty() {
            true => bail!("{slug} trains no models"),
            false => bail!("{slug} trains no model `{}`; there is {}", args.model, names.join(", ")),
        }
    }
    let root = match roots.into_iter().find(|it| it.root.is_dir()) {
        Some(it) => it.root,
        None => hub::locate(&name).with_context(|| format!("find the package `{name}`, which it comes from"))?,
    };
    let (package, dir) = (Package::open(&root)?, args.dir.clone());
    // What was trained last stands for its part.
    tokio::task::spawn_blocking(move || output::assemble(&package, &parts, &dir)).await??;
    drop(held);
    say(Path::display(&args.dir));
    Ok(Outcome::Done)
}
