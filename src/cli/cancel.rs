//! `jobctl cancel`: ends sweeps and jobs.

use super::Outcome;
use super::lines::{say, say_json};
use crate::config::Config;
use crate::database;
use crate::queue::{control, look};

/// Cancel a sweep or jobs. What runs is told to end; what another sweep wants goes on.
///
/// Examples: jobctl cancel demo, jobctl cancel 17 18
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
    let cancelled = match target {
        super::Target::Sweep(sweep) => control::cancel_sweep(&mut tx, sweep).await?,
        super::Target::Jobs(jobs) => control::cancel_jobs(&mut tx, &jobs).await?,
    };
    tx.commit().await?;
    if args.json {
        say_json(&cancelled)?;
    } else {
        say(format_args!("cancelled {} jobs; {} that run were told to end", cancelled.ended, cancelled.asked));
        if cancelled.ended + cancelled.asked == 0 {
            let n = look::sweeps(&pool, None).await?.len();
            say(format_args!("nothing was unfinished ({n} sweeps: see `jobctl status`)"));
        }
    }
    Ok(Outcome::Done)
}
