//! `jobctl run`: enqueue a sweep, work until it ends, render its report.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::ensure;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sqlx::PgPool;

use super::enqueue::{Confirm, enqueue, load, tell};
use super::lines::{say, say_json};
use super::{Outcome, report, worker};
use crate::config::Config;
use crate::database;
use crate::job::State;
use crate::queue::look;
use crate::store::artifact::Artifacts;
use crate::worker::agent::{Options, Until, work};
use crate::worker::machine;

/// Enqueue a sweep, work until it ends, render its report.
///
/// What is done already is not done again: a run that was interrupted goes on where it was.
///
/// Example: jobctl run jobs/demo.toml
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The sweep file.
    sweep: PathBuf,
    /// What to work on: `cpu`.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// How many jobs to run at a time; the default is one for each core.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    slots: Option<u16>,
    /// Enqueue even very many cells without asking.
    #[arg(long, short)]
    yes: bool,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

/// See [`Args`].
pub(super) async fn run(args: &Args, config: &Config) -> anyhow::Result<Outcome> {
    if args.device != "cpu" {
        eprintln!("error: no task of this version needs a GPU: --device takes `cpu`, not `{}`", args.device);
        return Ok(Outcome::Misused);
    }
    let Some(loaded) = load(&args.sweep)? else { return Ok(Outcome::Misused) };
    let n_slots = args.slots.map_or_else(machine::n_cores, usize::from);
    let pool = database::open(config, 2 + worker::n_connections(n_slots)).await?;
    let confirm = if args.yes { Confirm::Assume } else { Confirm::Ask };
    let Some(summary) = enqueue(&pool, &loaded, confirm, false).await? else { return Ok(Outcome::Misused) };
    tell(&summary, false, args.json)?;
    let row = summary.row.expect("an enqueued sweep has a row");

    let artifacts = Artifacts::new(config.artifacts());
    let options = Options { n_slots, times: config.times, until: Until::SweepEnds(row) };
    let working = work(pool.clone(), artifacts.clone(), options);
    let watching = watch(&pool, row);
    tokio::pin!(working, watching);
    tokio::select! {
        ended = &mut working => ended?,
        // The bar never ends by itself.
        never = &mut watching => never?,
    }
    ensure!(
        !look::any_unfinished(&pool, Some(row)).await?,
        "stopped before the sweep ended; the same command goes on where it was"
    );
    let written = report::render(&pool, config, row, None).await?;
    let counts = look::counts(&pool, row).await?;
    let n_not_done: u64 = counts.iter().filter(|it| it.0 != State::Done).map(|it| it.1).sum();
    if args.json {
        say_json(&serde_json::json!({ "sweep": summary.sweep, "jobs": counts_json(&counts), "report": written.html }))?;
    } else {
        let parts: Vec<String> = counts.iter().map(|(state, n)| format!("{n} {state}")).collect();
        say(format_args!("jobs     {}", parts.join(", ")));
        say(format_args!("report   {}", written.html.display()));
    }
    Ok(if n_not_done == 0 { Outcome::Done } else { Outcome::Failed })
}

fn counts_json(counts: &[(State, u64)]) -> serde_json::Value {
    counts.iter().map(|(state, n)| (state.word().to_owned(), (*n).into())).collect::<serde_json::Map<_, _>>().into()
}

/// Shows the progress of a sweep until it is dropped: a bar on a terminal, elsewhere a line now and then.
async fn watch(pool: &PgPool, sweep: i32) -> anyhow::Result<()> {
    let style = "{bar:30} {pos}/{len} jobs  {per_sec:.1}  {eta} left  {msg}";
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr())
        .with_style(ProgressStyle::with_template(style).expect("the template is right"));
    let mut told = Instant::now();
    let mut first = true;
    loop {
        let counts = look::counts(pool, sweep).await?;
        let n = |wanted: &dyn Fn(State) -> bool| counts.iter().filter(|it| wanted(it.0)).map(|it| it.1).sum::<u64>();
        let (n_jobs, n_ended) = (n(&|_| true), n(&State::is_final));
        let n_failed = n(&|state| matches!(state, State::Failed | State::Skipped));
        bar.set_length(n_jobs);
        bar.set_position(n_ended);
        if first {
            // What was done before this run says nothing of its pace.
            bar.reset_eta();
            first = false;
        }
        bar.set_message(if n_failed > 0 { format!("{n_failed} failed") } else { String::new() });
        if bar.is_hidden() && told.elapsed() >= Duration::from_secs(10) {
            told = Instant::now();
            tracing::info!(
                n_ended,
                n_jobs,
                n_failed,
                rate_per_s = bar.per_sec(),
                left_s = bar.eta().as_secs(),
                "working"
            );
        }
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
}
