//! `jobctl slot`: what a worker starts for each job that it runs at a time.

use anyhow::Context;

use super::Outcome;
use crate::worker::slot;

/// Run tasks for a worker, over a pipe.
#[derive(clap::Args, Debug)]
#[command(hide = true)]
pub struct Args {
    /// How many threads a task may use.
    #[arg(long)]
    threads: usize,
    /// Where models compute: `cpu` or `cuda:N`.
    #[arg(long, default_value = "cpu")]
    device: String,
}

/// See [`Args`].
pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    rayon::ThreadPoolBuilder::new().num_threads(args.threads).build_global().context("start the threads")?;
    slot::serve(&args.device)?;
    Ok(Outcome::Done)
}
