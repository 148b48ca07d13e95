//! `jobctl worker`: works until it is told to stop.

use std::convert::Infallible;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;

use super::mail::postman::Postman;
use super::schedule::keeper::keep;
use crate::cli::Outcome;
use crate::config::Config;
use crate::database;
use crate::job::needs::is_label;
use crate::store::artifact::Artifacts;
use crate::worker::agent::{Options, Until, work};
use crate::worker::devices::slots;
use crate::worker::health::{Health, bind};
use crate::worker::vitals::Vitals;

/// Claim jobs and run them, until told to stop.
///
/// SIGTERM or Ctrl-C finishes what runs and stops; a second one gives it back at once, uncharged.
/// Several workers, on one machine or many, share the sweeps of one database.
///
/// Examples: jobctl worker --slots 2 --until-idle, jobctl worker --device cuda:0,cuda:1
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Where to work: `cpu`, `cuda:N`, or several with commas between them; the default is every GPU, or the processor
    /// where there is none (or a jobctl without CUDA). A GPU runs one job at a time; `cuda:0+1` is one slot of two GPUs,
    /// for jobs that ask for two.
    #[arg(long)]
    device: Option<String>,
    /// How many jobs the processor runs at a time; the default is one for each core.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    slots: Option<u16>,
    /// A label: jobs whose sweep asks for labels go to workers that have all of them. Can be given several times.
    #[arg(long = "label", value_name = "LABEL", value_parser = label)]
    labels: Vec<String>,
    /// Stop when no job is unfinished.
    #[arg(long)]
    until_idle: bool,
    /// Tell metrics and health here over HTTP, such as `127.0.0.1:9464`: /metrics, /healthz, /readyz. Whoever reaches the
    /// address may read them.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Leave schedules to other workers: they read a sweep's files to enqueue it.
    #[arg(long)]
    no_schedules: bool,
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
    #[cfg(debug_assertions)]
    if config.no_fences {
        crate::queue::fence::take_down();
    }
    let pool = database::open_for_work(config, n_connections(slots.len()), config.times.stale).await?;
    database::roles::check_worker(&pool).await?;
    let artifacts = Artifacts::open(&config.store)?;
    let vitals = Arc::new(Vitals::new());
    // An address that cannot be had is told before anything is claimed.
    let listener = match args.listen {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    let until = if args.until_idle { Until::Idle } else { Until::Told };
    let (labels, judge) = (args.labels.clone(), config.judge.clone());
    let options = Options { slots, times: config.times, until, labels, vitals: vitals.clone(), judge };
    let health = Health::new(vitals, pool.clone(), config.times.stale);
    let keeping = async {
        if args.no_schedules {
            pending::<Infallible>().await
        } else {
            keep(pool.clone(), artifacts.clone(), config.clone()).await
        }
    };
    let telling = async {
        match listener {
            Some(listener) => health.serve(listener).await,
            None => pending().await,
        }
    };
    let postman = Postman::start(pool.clone(), artifacts.clone(), config)?;
    tokio::select! {
        ended = work(pool.clone(), artifacts.clone(), options) => ended?,
        never = keeping => match never {},
        never = telling => match never {},
    }
    postman.stop(config.times.grace).await;
    Ok(Outcome::Done)
}

/// A text that may be a label.
fn label(text: &str) -> Result<String, String> {
    if is_label(text) {
        Ok(text.to_owned())
    } else {
        Err("a label has at most 63 letters, digits, `-`, `_` and `.`".to_owned())
    }
}

/// Enough for the listener, schedules, mails and metrics, and a few results at a time, however many slots there are. The beat
/// has one more of its own. docs/operations.md and docs/capacity.md count connections by it.
pub(super) fn n_connections(n_slots: usize) -> u32 {
    4 + u32::try_from(n_slots.min(8)).unwrap_or(8)
}
