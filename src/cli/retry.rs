//! `jobctl retry`: gives ended jobs another chance.

use super::Outcome;
use super::lines::{say, say_json};
use crate::config::Config;
use crate::database;
use crate::queue::control;

/// Try again what failed, was cancelled or was skipped, with all attempts before it, and what depends on it.
/// Of jobs that are named, those that are done and have made an artifact make it again.
///
/// Examples: jobctl retry demo, jobctl retry 17
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A sweep (its id, the beginning of it, or its name), or the numbers of jobs.
    #[arg(required = true)]
    what: Vec<String>,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

/// See [`Args`].
pub(super) async fn run(args: &Args, config: &Config) -> anyhow::Result<Outcome> {
    let pool = database::open(config, 2).await?;
    let target = super::target(&pool, &args.what).await?;
    let mut tx = pool.begin().await?;
    let n_revived = match target {
        super::Target::Sweep(sweep) => {
            let n_cancelled = control::revive_sweep(&mut tx, sweep).await?;
            let others = control::retryable(&mut tx, sweep).await?;
            n_cancelled + control::retry(&mut tx, &others).await?
        }
        super::Target::Jobs(jobs) => control::redo(&mut tx, &jobs).await?,
    };
    tx.commit().await?;
    if args.json {
        say_json(&serde_json::json!({ "revived": n_revived }))?;
    } else {
        say(format_args!("{n_revived} jobs are to run again"));
    }
    Ok(Outcome::Done)
}
