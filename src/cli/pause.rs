//! `jobctl pause` and `jobctl resume`: whether more of a sweep's jobs may start.

use super::Outcome;
use super::lines::say;
use crate::config::Config;
use crate::database;
use crate::queue::{control, look};

/// Start no more jobs of a sweep; what runs goes on.
///
/// Example: jobctl pause demo
#[derive(clap::Args, Debug)]
pub struct PauseArgs {
    /// The sweep: its id, the beginning of it, or its name.
    sweep: String,
}

/// Let the jobs of a paused sweep start again.
///
/// Example: jobctl resume demo
#[derive(clap::Args, Debug)]
pub struct ResumeArgs {
    /// The sweep: its id, the beginning of it, or its name.
    sweep: String,
}

/// See [`PauseArgs`].
pub(super) async fn pause(args: &PauseArgs, config: &Config) -> anyhow::Result<Outcome> {
    set(&args.sweep, true, config).await
}

/// See [`ResumeArgs`].
pub(super) async fn resume(args: &ResumeArgs, config: &Config) -> anyhow::Result<Outcome> {
    set(&args.sweep, false, config).await
}

async fn set(word: &str, paused: bool, config: &Config) -> anyhow::Result<Outcome> {
    let pool = database::open(config, 2).await?;
    let (sweep, slug) = look::find_sweep(&pool, word).await?;
    let mut tx = pool.begin().await?;
    control::set_paused(&mut tx, sweep, paused).await?;
    tx.commit().await?;
    say(format_args!("{slug} is {}", if paused { "paused" } else { "resumed" }));
    Ok(Outcome::Done)
}
