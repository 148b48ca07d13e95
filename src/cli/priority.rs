//! `jobctl priority`: which sweep goes first.

use super::Outcome;
use super::lines::say;
use crate::config::Config;
use crate::database;
use crate::queue::{look, order};

/// Change the priority of a sweep: jobs of a higher one are claimed first, those of equal ones take turns.
///
/// Example: jobctl priority demo 10
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The sweep: its id, the beginning of it, or its name.
    sweep: String,
    /// From -32768 to 32767; a sweep file that says nothing means 0.
    #[arg(allow_negative_numbers = true)]
    priority: i16,
}

/// See [`Args`].
pub(super) async fn run(args: &Args, config: &Config) -> anyhow::Result<Outcome> {
    let pool = database::open(config, 2).await?;
    let (sweep, slug) = look::find_sweep(&pool, &args.sweep).await?;
    let mut tx = pool.begin().await?;
    order::set_priority(&mut tx, sweep, args.priority).await?;
    tx.commit().await?;
    say(format_args!("{slug} has priority {}", args.priority));
    Ok(Outcome::Done)
}
