//! `jobctl report`: renders what a sweep has found so far.

use std::path::{Path, PathBuf};

use sqlx::PgPool;

use super::Outcome;
use super::lines::{say, say_json};
use crate::config::Config;
use crate::database;
use crate::job::Hash;
use crate::queue::look;
use crate::report::{self, Written};
use crate::store::artifact::Artifacts;
use crate::store::read::findings;

/// Render the report of a sweep, ended or not.
///
/// Example: jobctl report demo
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The sweep: its id, the beginning of it, or its name.
    sweep: String,
    /// The folder to write to; the default is $JOBCTL_HOME/reports/ID.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

/// See [`Args`].
pub(super) async fn run(args: &Args, config: &Config) -> anyhow::Result<Outcome> {
    let pool = database::open(config, 4).await?;
    let (sweep, slug) = look::find_sweep(&pool, &args.sweep).await?;
    let written = render(&pool, config, sweep, args.out.as_deref()).await?;
    if args.json {
        say_json(&serde_json::json!({ "sweep": slug, "report": written.html, "json": written.json }))?;
    } else {
        say(written.html.display());
    }
    Ok(Outcome::Done)
}

/// Renders the report of a sweep into `out`, or where reports are.
pub(super) async fn render(pool: &PgPool, config: &Config, sweep: i32, out: Option<&Path>) -> anyhow::Result<Written> {
    let artifacts = Artifacts::open(&config.store)?;
    let findings = findings(pool, &artifacts, sweep).await?;
    let folder = out.map_or_else(|| config.reports().join(&findings.sweep), Path::to_path_buf);
    let files = Library { artifacts, runtime: tokio::runtime::Handle::current() };
    let write = move || report::write_from(&findings, &folder, &report::Options::default(), &files);
    tokio::task::spawn_blocking(write).await?
}

/// Pictures on this machine's disks, and artifacts wherever they are.
pub(super) struct Library {
    pub(super) artifacts: Artifacts,
    pub(super) runtime: tokio::runtime::Handle,
}

impl report::Files for Library {
    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        let hash = path.file_name().and_then(|it| it.to_str()).and_then(|it| it.parse::<Hash>().ok());
        match hash.filter(|it| self.artifacts.path(it) == path) {
            // The threads that render are none of the runtime's.
            Some(hash) => self.runtime.block_on(self.artifacts.get(&hash)).map_err(std::io::Error::other),
            None => std::fs::read(path),
        }
    }
}
