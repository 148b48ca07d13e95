//! `jobctl run`: enqueue a sweep, work until it ends, render its report.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sqlx::PgPool;

use super::enqueue::{Ask, Confirm, enqueue, load, tell};
use super::lines::{say, say_json};
use super::{Outcome, report, worker};
use crate::config::Config;
use crate::database;
use crate::job::State;
use crate::queue::look;
use crate::store::artifact::Artifacts;
use crate::worker::agent::{Options, Until, asking, work};
use crate::worker::devices::{SlotDevice, slots};

/// Enqueue a sweep, work until it ends, render its report.
///
/// What is done already is not done again: a run that was interrupted goes on where it was.
///
/// Examples: jobctl run jobs/demo.toml, jobctl run jobs/sd3-2048.toml --device cuda:0
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The sweep file.
    sweep: PathBuf,
    /// Where to work: `cpu`, `cuda:N`, or several with commas between them; the default is every GPU, or the processor
    /// where there is none (or a jobctl without CUDA). A GPU runs one job at a time.
    #[arg(long)]
    device: Option<String>,
    /// How many jobs the processor runs at a time; the default is one for each core.
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
    let slots = match slots(args.device.as_deref(), args.slots.map(usize::from)) {
        Ok(slots) => slots,
        Err(error) => {
            eprintln!("error: {error:#}");
            return Ok(Outcome::Misused);
        }
    };
    let Some(loaded) = load(&args.sweep)? else { return Ok(Outcome::Misused) };
    let pool = database::open_for_work(config, 2 + worker::n_connections(slots.len()), config.times.stale).await?;
    database::roles::check_worker(&pool).await?;
    let artifacts = Artifacts::open(&config.store)?;
    let mut offers = SlotDevice::offers(&slots);
    offers.extend(config.judge.iter().map(|it| asking::offer(it, &[])));
    let ask = Ask {
        confirm: if args.yes { Confirm::Assume } else { Confirm::Ask },
        // What nobody in sight can do would keep this command waiting for ever.
        own: Some((offers, config.times.stale)),
        dry_run: false,
        // Workers elsewhere may help.
        upload: artifacts.is_remote().then_some(&artifacts),
        firing: None,
    };
    let Some(summary) = enqueue(&pool, loaded, &ask).await? else { return Ok(Outcome::Misused) };
    tell(&summary, false, args.json)?;
    let row = summary.row.expect("an enqueued sweep has a row");

    let options = Options {
        slots,
        times: config.times,
        until: Until::SweepEnds(row),
        labels: Vec::new(),
        vitals: Arc::default(),
        judge: config.judge.clone(),
    };
    let working = work(pool.clone(), artifacts.clone(), options);
    let watching = watch(&pool, row);
    tokio::pin!(working, watching);
    tokio::select! {
        ended = &mut working => ended?,
        // The bar never ends by itself.
        never = &mut watching => match never {},
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
async fn watch(pool: &PgPool, sweep: i32) -> Infallible {
    let style = "{bar:30} {pos}/{len} jobs  {per_sec:.1}  {eta} left  {msg}";
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr())
        .with_style(ProgressStyle::with_template(style).expect("the template is right"));
    let mut told = Instant::now();
    let mut first = true;
    loop {
        let Ok(counts) = look::counts(pool, sweep).await else {
            // The worker says that Postgres does not answer, and goes on when it does: so does the bar.
            tokio::time::sleep(Duration::from_secs(1)).await;
            continue;
        };
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
