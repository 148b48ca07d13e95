//! `jobctl jobs`: a list of jobs.

use super::Outcome;
use super::lines::{plain, say, say_json, table};
use crate::config::Config;
use crate::database;
use crate::job::State;
use crate::queue::look::{self, Filter};

/// List jobs, the newest first.
///
/// Example: jobctl jobs --sweep demo --state failed
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Of this sweep: its id, the beginning of it, or its name.
    #[arg(long)]
    sweep: Option<String>,
    /// In this state: waiting, ready, running, done, failed, cancelled or skipped.
    #[arg(long)]
    state: Option<State>,
    /// Of this kind: evaluate or pool.
    #[arg(long)]
    kind: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 50)]
    limit: u32,
    /// Answer in JSON, a line for each job.
    #[arg(long)]
    json: bool,
}

/// See [`Args`].
pub(super) async fn run(args: &Args, config: &Config) -> anyhow::Result<Outcome> {
    let pool = database::open(config, 4).await?;
    let sweep = match &args.sweep {
        Some(word) => Some(look::find_sweep(&pool, word).await?.0),
        None => None,
    };
    let filter = Filter { sweep, state: args.state, kind: args.kind.clone(), limit: args.limit.into() };
    let jobs = look::jobs(&pool, &filter).await?;
    if args.json {
        return jobs.iter().try_for_each(say_json).map(|()| Outcome::Done);
    }
    let mut rows = table(&["JOB", "KIND", "STATE", "TRIES", "SOURCE", "SAMPLE", ""]);
    for job in &jobs {
        let remark = job.error.as_deref().or(job.waits_for.as_deref()).unwrap_or_default();
        rows.add_row([
            job.job.to_string(),
            job.kind.clone(),
            job.state.clone(),
            job.n_attempts.to_string(),
            plain(job.source.as_deref().unwrap_or_default()),
            plain(job.sample.as_deref().unwrap_or_default()),
            plain(remark),
        ]);
    }
    say(rows);
    if jobs.len() == args.limit as usize {
        say(format_args!("(the newest {}; --limit shows more)", args.limit));
    }
    Ok(Outcome::Done)
}
