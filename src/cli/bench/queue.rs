//! `jobctl bench queue`: how many jobs a second the queue hands out and settles, how soon one starts, and what a long
//! history, a crowd of other jobs and an old snapshot cost.

mod burn;
mod enqueue;
mod executors;
mod open_loop;
mod workers;

use std::time::Duration;

use anyhow::Context;
use serde::Serialize;
use sqlx::PgPool;

use self::executors::How;
use crate::cli::Outcome;
use crate::cli::lines::{say, say_json};
use crate::config::Config;
use crate::database::{self, throwaway::Throwaway};
use crate::plan::Plan;
use crate::queue::{Tx, load};

/// Time the queue: jobs that do nothing, each scenario in a database of its own that is dropped afterwards.
///
/// The server is $DATABASE_URL's, or the private one. Without --only all of it is measured.
///
/// Examples: jobctl bench queue --only burn --executors 1,16,256 --how single,batched,
/// jobctl bench queue --only latency --rate 200 --seconds 30 --history 10000000
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// What to measure: `burn` jobs down, `latency` from enqueue to start, `enqueue` many, `workers` that beat.
    #[arg(long, value_delimiter = ',', value_enum)]
    only: Vec<What>,
    /// How many jobs are run at a time, in turns.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 256], value_parser = clap::value_parser!(u16).range(1..=4096))]
    executors: Vec<u16>,
    /// How jobs are claimed and settled: one by one, gathered into batches, or by an agent with slots, which `latency`
    /// leaves out.
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = [How::Single, How::Batched, How::Slots])]
    how: Vec<How>,
    /// How many jobs are burned down.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    jobs: u32,
    /// How many jobs are enqueued at once, in turns.
    #[arg(long, value_delimiter = ',', default_values_t = [100_000, 1_000_000])]
    enqueue: Vec<u32>,
    /// Jobs enqueued a second, whether or not earlier ones have started.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// So many of them at once, as one sweep.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    each: u32,
    /// For so long.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,
    /// Simulated workers that beat and claim nothing.
    #[arg(long, value_delimiter = ',', default_values_t = [300])]
    workers: Vec<u32>,
    /// Jobs that were done before.
    #[arg(long, default_value_t = 0)]
    history: u32,
    /// Ready jobs of a higher priority that nobody here can run.
    #[arg(long, default_value_t = 0)]
    unmatched: u32,
    /// Hold a snapshot open, as a long report query does.
    #[arg(long)]
    snapshot: bool,
    /// Connections that all executors share.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=1000))]
    pool: u32,
    /// Answer in JSON, one line a figure.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum What {
    Burn,
    Latency,
    Enqueue,
    Workers,
}

/// One figure of one scenario.
#[derive(Serialize)]
struct Figure {
    what: &'static str,
    #[serde(flatten)]
    of: serde_json::Value,
    history: u32,
    unmatched: u32,
    snapshot: bool,
    pool: u32,
}

/// A database with what the scenario wants in it.
struct Ground {
    database: Throwaway,
    pool: PgPool,
    /// The old snapshot.
    pinned: Option<Tx<'static>>,
}

/// See [`Args`].
pub(super) async fn run(args: &Args, config: &Config) -> anyhow::Result<Outcome> {
    let wants = |it: What| args.only.is_empty() || args.only.contains(&it);
    if wants(What::Burn) {
        for &how in &args.how {
            for &n in &args.executors {
                let ground = Ground::new(args, config).await?;
                let figure = burn::measure(&ground, usize::from(n), how, args.jobs, config).await;
                tell(args, "burn", ground.end(figure).await?)?;
            }
        }
    }
    if wants(What::Latency) {
        // An agent's slots start many processes: what that takes is no matter of the queue.
        for &how in args.how.iter().filter(|it| **it != How::Slots) {
            for &n in &args.executors {
                let ground = Ground::new(args, config).await?;
                let seconds = Duration::from_secs(args.seconds.into());
                let figure = open_loop::measure(&ground, usize::from(n), how, args.rate, args.each, seconds).await;
                tell(args, "latency", ground.end(figure).await?)?;
            }
        }
    }
    if wants(What::Enqueue) {
        for &n in &args.enqueue {
            let ground = Ground::new(args, config).await?;
            let figure = enqueue::measure(&ground, n).await;
            tell(args, "enqueue", ground.end(figure).await?)?;
        }
    }
    if wants(What::Workers) {
        for &n in &args.workers {
            let ground = Ground::new(args, config).await?;
            let figure = workers::measure(&ground, n, Duration::from_secs(args.seconds.into())).await;
            tell(args, "workers", ground.end(figure).await?)?;
        }
    }
    Ok(Outcome::Done)
}

fn tell(args: &Args, what: &'static str, of: serde_json::Value) -> anyhow::Result<()> {
    let Args { history, unmatched, snapshot, pool, .. } = *args;
    if args.json {
        return say_json(&Figure { what, of, history, unmatched, snapshot, pool });
    }
    let fields = of.as_object().into_iter().flatten().map(|(name, value)| match value.as_f64() {
        Some(n) if n.fract() != 0.0 => format!("{name} {n:.2}"),
        _ => format!("{name} {}", value.as_str().map_or_else(|| value.to_string(), str::to_owned)),
    });
    say(format_args!("{what:8} {}", fields.collect::<Vec<_>>().join(", ")));
    Ok(())
}

impl Ground {
    async fn new(args: &Args, config: &Config) -> anyhow::Result<Self> {
        let database = Throwaway::new(&database::url(config)?).await?;
        match Self::prepare(args, &database).await {
            Ok((pool, pinned)) => Ok(Self { database, pool, pinned }),
            Err(error) => {
                database.end().await?;
                Err(error)
            }
        }
    }

    async fn prepare(args: &Args, database: &Throwaway) -> anyhow::Result<(PgPool, Option<Tx<'static>>)> {
        let pool = database::connect(database.url(), args.pool + u32::from(args.snapshot)).await?;
        load::past(&pool, args.history.into()).await?;
        if args.unmatched > 0 {
            enqueue::submit_all(&pool, &[enqueue::nobodys(args.unmatched)]).await?;
        }
        load::vacuum(&pool).await?;
        let pinned = if args.snapshot { Some(load::pin(&pool).await?) } else { None };
        Ok((pool, pinned))
    }

    /// Drops the database, whatever has come of the measurement.
    async fn end<T>(self, figure: anyhow::Result<T>) -> anyhow::Result<T> {
        drop(self.pinned);
        self.pool.close().await;
        self.database.end().await?;
        figure
    }

    async fn enqueue(&self, plans: &[Plan]) -> anyhow::Result<()> {
        enqueue::submit_all(&self.pool, plans).await.context("enqueue the jobs to measure with")
    }
}
