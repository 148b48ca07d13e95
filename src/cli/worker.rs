//! `jobctl worker`: works until it is told to stop.

use crate::cli::Outcome;
use crate::config::Config;
use crate::database;
use crate::store::artifact::Artifacts;
use crate::worker::agent::{Options, Until, work};
use crate::worker::machine;

/// Claim jobs and run them, until told to stop.
///
/// SIGTERM or Ctrl-C finishes what runs and stops; a second one gives it back at once, uncharged.
/// Several workers, on one machine or many, share the sweeps of one database.
///
/// Example: jobctl worker --slots 2 --until-idle
#[derive(clap::Args, Debug)]
pub struct Args {
    /// How many jobs to run at a time; the default is one for each core.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    slots: Option<u16>,
    /// Stop when no job is unfinished.
    #[arg(long)]
    until_idle: bool,
}

/// See [`Args`].
pub(super) async fn run(args: &Args, config: &Config) -> anyhow::Result<Outcome> {
    let n_slots = args.slots.map_or_else(machine::n_cores, usize::from);
    let pool = database::open(config, n_connections(n_slots)).await?;
    let options =
        Options { n_slots, times: config.times, until: if args.until_idle { Until::Idle } else { Until::Told } };
    work(pool, Artifacts::new(config.artifacts()), options).await?;
    Ok(Outcome::Done)
}

/// Enough for the beat, the listener and a few results at a time, however many slots there are.
pub(super) fn n_connections(n_slots: usize) -> u32 {
    4 + u32::try_from(n_slots.min(8)).unwrap_or(8)
}
