//! `jobctl bench queue`: how many jobs a second the queue hands out and settles, how soon one starts, and what a long
//! history, a crowd of other jobs and an old snapshot cost.

mod burn;
mod enqueue;
mod executors;
mod open_loop;
mod workers;

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;
use sqlx::PgPool;

use self::executors::How;
use self::open_loop::Load;
use crate::cli::Outcome;
use crate::cli::lines::{say, say_json};
use crate::config::Config;
use crate::database::{self, throwaway::Throwaway};
use crate::plan::Plan;
use crate::queue::load;

/// Time the queue: jobs that do nothing, in a database of their own that is dropped afterwards.
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
    /// So many of them at once, as one sweep, in turns.
    #[arg(long, value_delimiter = ',', default_values_t = [1], value_parser = clap::value_parser!(u32).range(1..=1000))]
    each: Vec<u32>,
    /// For so long.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,
    /// Enqueue for so long before that, which is not counted: new connections plan their first statements then.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=86_400))]
    warmup: u32,
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

/// A database with what the scenarios want in it.
struct Ground {
    database: Throwaway,
    pool: PgPool,
    /// The seed of the next job: each is of a job of its own, for the same job is not made twice.
    next_seed: AtomicU64,
}

/// See [`Args`].
pub(super) async fn run(args: &Args, config: &Config) -> anyhow::Result<Outcome> {
    let wants = |it: What| args.only.is_empty() || args.only.contains(&it);
    if wants(What::Burn) || wants(What::Latency) {
        let ground = Ground::new(args, config).await?;
        let measured = async {
            if wants(What::Burn) {
                burn_each(args, &ground, config).await?;
            }
            if wants(What::Latency) {
                latency_each(args, &ground).await?;
            }
            anyhow::Ok(())
        };
        let measured = measured.await;
        ground.end(measured).await?;
    }
    // Their databases hold what would be in the way of the others: jobs that are left, workers that are many.
    if wants(What::Enqueue) {
        for &n in &args.enqueue {
            let ground = Ground::new(args, config).await?;
            let figure = ground.beside_snapshot(args, enqueue::measure(&ground, n)).await;
            tell(args, "enqueue", ground.end(figure).await?)?;
        }
    }
    if wants(What::Workers) {
        for &n in &args.workers {
            let ground = Ground::new(args, config).await?;
            let figure = workers::measure(&ground, n, Duration::from_secs(args.seconds.into()));
            let figure = ground.beside_snapshot(args, figure).await;
            tell(args, "workers", ground.end(figure).await?)?;
        }
    }
    Ok(Outcome::Done)
}

async fn burn_each(args: &Args, ground: &Ground, config: &Config) -> anyhow::Result<()> {
    for &n in &args.executors {
        for &how in &args.how {
            let figure = burn::measure(ground, usize::from(n), how, args.jobs, config);
            tell(args, "burn", ground.beside_snapshot(args, figure).await?)?;
        }
    }
    Ok(())
}

async fn latency_each(args: &Args, ground: &Ground) -> anyhow::Result<()> {
    for &n in &args.executors {
        for &each in &args.each {
            // An agent's slots start many processes: what that takes is no matter of the queue.
            for &how in args.how.iter().filter(|it| **it != How::Slots) {
                let offered = Load { rate: args.rate, each, warmup: args.warmup, seconds: args.seconds };
                let figure = open_loop::measure(ground, usize::from(n), how, offered);
                tell(args, "latency", ground.beside_snapshot(args, figure).await?)?;
            }
        }
    }
    Ok(())
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
            Ok(pool) => Ok(Self { database, pool, next_seed: AtomicU64::new(0) }),
            Err(error) => {
                database.end().await?;
                Err(error)
            }
        }
    }

    async fn prepare(args: &Args, database: &Throwaway) -> anyhow::Result<PgPool> {
        let pool = database::connect(database.url(), args.pool + u32::from(args.snapshot)).await?;
        load::past(&pool, args.history.into()).await?;
        if args.unmatched > 0 {
            enqueue::submit_all(&pool, &[enqueue::nobodys(args.unmatched)]).await?;
        }
        Ok(pool)
    }

    /// Measures, beside an old snapshot if that is asked for. What was there before has been vacuumed.
    async fn beside_snapshot<T>(
        &self,
        args: &Args,
        figure: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        load::vacuum(&self.pool).await?;
        let _pinned = if args.snapshot { Some(load::pin(&self.pool).await?) } else { None };
        figure.await
    }

    /// Drops the database, whatever has come of the measurement.
    async fn end<T>(self, figure: anyhow::Result<T>) -> anyhow::Result<T> {
        self.pool.close().await;
        self.database.end().await?;
        figure
    }

    /// The seeds of `n` jobs that have not been before.
    fn seeds(&self, n: u64) -> Range<u64> {
        let first = self.next_seed.fetch_add(n, Ordering::Relaxed);
        first..first + n
    }

    async fn enqueue(&self, plans: &[Plan]) -> anyhow::Result<()> {
        enqueue::submit_all(&self.pool, plans).await.context("enqueue the jobs to measure with")
    }
}
