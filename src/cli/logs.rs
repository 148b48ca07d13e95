//! `jobctl logs`: what a job's attempts printed.

use std::time::Duration;

use super::Outcome;
use super::lines::{plain, say, say_json};
use crate::config::Config;
use crate::database;
use crate::job::JobId;
use crate::queue::look;

/// Print what the attempts of a job have printed.
///
/// Example: jobctl logs -f 17
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The job's number.
    job: i64,
    /// Go on printing until the job ends.
    #[arg(long, short)]
    follow: bool,
    /// Answer in JSON, a line for each line.
    #[arg(long)]
    json: bool,
}

/// See [`Args`].
pub(super) async fn run(args: &Args, config: &Config) -> anyhow::Result<Outcome> {
    let pool = database::open(config, 2).await?;
    let id = JobId(args.job);
    let mut last = (0, 0);
    let mut seen_any = false;
    loop {
        // Whether it has ended is asked first: what it printed before its end is then complete.
        let ended = look::has_ended(&pool, id).await?;
        let lines = look::log(&pool, id, last).await?;
        for it in &lines {
            if seen_any && it.lease != last.0 && !args.json {
                say("--- next attempt ---");
            }
            (last, seen_any) = ((it.lease, it.seq), true);
            if args.json { say_json(it)? } else { say(plain(&it.line)) }
        }
        if lines.is_empty() {
            if ended || !args.follow {
                return Ok(Outcome::Done);
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}
