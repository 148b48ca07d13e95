//! riverqueue doing what `jobctl bench queue` does, measured in the same way: one scenario a call, one JSON line.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use riverqueue::migrate::PostgresMigrator;
use riverqueue::sqlx::postgres::PgPoolOptions;
use riverqueue::sqlx::{self, PgPool};
use riverqueue::{
    BoxError, Client, FETCH_COOLDOWN_MIN, InsertOpts, Job, JobArgs, QueueConfig, WorkContext, WorkOutcome, Workers,
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Deserialize, JobArgs, Serialize)]
#[river(kind = "noop")]
struct Noop {
    /// Microseconds after the start of this process at which it was due to be enqueued; 0 if that is not measured.
    at_us: u64,
}

/// What is done; see `benches/queues.py`.
struct Ask {
    url: String,
    n: HashMap<String, u64>,
}

impl Ask {
    fn read() -> anyhow::Result<Self> {
        let mut ask = Self { url: String::new(), n: HashMap::new() };
        let mut words = std::env::args().skip(1);
        while let (Some(name), Some(value)) = (words.next(), words.next()) {
            match name.as_str() {
                "--url" => ask.url = value,
                _ => drop(ask.n.insert(name.trim_start_matches('-').to_owned(), value.parse()?)),
            }
        }
        Ok(ask)
    }

    fn n(&self, name: &str) -> u64 {
        self.n.get(name).copied().unwrap_or(0)
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let ask = Ask::read()?;
    let pool = PgPoolOptions::new().max_connections(ask.n("pool").max(1) as u32).connect(&ask.url).await?;
    PostgresMigrator::new(pool.clone()).migrate_up().await?;
    prepare(&pool, &ask).await?;
    let said = if ask.n("rate") > 0 {
        open_loop(&pool, &ask).await?
    } else if ask.n("executors") > 0 {
        burn_down(&pool, &ask).await?
    } else {
        let start = Instant::now();
        let client = Client::builder(pool.clone()).build()?;
        enqueue(&client, ask.n("jobs")).await?;
        serde_json::json!({ "seconds": start.elapsed().as_secs_f64() })
    };
    println!("{said}");
    Ok(())
}

/// Finished jobs in the table, and jobs of another queue before those that will be worked.
async fn prepare(pool: &PgPool, ask: &Ask) -> anyhow::Result<()> {
    sqlx::query(
        "insert into river_job (state, attempt, max_attempts, attempted_at, created_at, finalized_at, scheduled_at, priority, args, kind)
        select 'completed', 1, 3, now(), now(), now(), now(), 1, '{\"at_us\": 0}', 'noop' from generate_series(1, $1)",
    )
    .bind(i64::try_from(ask.n("history"))?)
    .execute(pool)
    .await?;
    sqlx::query(
        "insert into river_job (state, max_attempts, created_at, scheduled_at, priority, args, kind, queue)
        select 'available', 3, now(), now(), 1, '{\"at_us\": 0}', 'noop', 'elsewhere' from generate_series(1, $1)",
    )
    .bind(i64::try_from(ask.n("unmatched"))?)
    .execute(pool)
    .await?;
    sqlx::query("vacuum analyze river_job").execute(pool).await?;
    Ok(())
}

async fn enqueue(client: &Client, n_jobs: u64) -> anyhow::Result<()> {
    let mut left = n_jobs;
    while left > 0 {
        let n = left.min(2000);
        let jobs = (0..n).map(|_| (Noop { at_us: 0 }, InsertOpts::default().with_priority(2)));
        client.insert_many(jobs).await?;
        left -= n;
    }
    Ok(())
}

/// How long a job waited from just before its enqueueing to its start, in microseconds.
type Waits = Arc<Mutex<Vec<u64>>>;

fn client(pool: &PgPool, n_executors: u64, start: Instant, waits: Option<Waits>) -> anyhow::Result<Client> {
    let mut workers = Workers::new();
    let work = move |_: WorkContext, job: Job<Noop>| {
        if let Some(waits) = waits.as_ref().filter(|_| job.args.at_us > 0) {
            let now = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
            waits.lock().expect("nobody panics with it").push(now.saturating_sub(job.args.at_us));
        }
        async { Ok::<_, BoxError>(WorkOutcome::Complete) }
    };
    workers.add_fn(work)?;
    // As fast as it may go: its default asks for jobs ten times a second.
    let queue = QueueConfig::new(usize::try_from(n_executors)?).with_fetch_poll_interval(Duration::from_millis(100));
    Ok(Client::builder(pool.clone()).workers(workers).fetch_cooldown(FETCH_COOLDOWN_MIN).queue("default", queue).build()?)
}

async fn burn_down(pool: &PgPool, ask: &Ask) -> anyhow::Result<serde_json::Value> {
    let client = client(pool, ask.n("executors"), Instant::now(), None)?;
    enqueue(&client, ask.n("jobs")).await?;
    sqlx::query("vacuum analyze river_job").execute(pool).await?;
    let start = Instant::now();
    let mut run = client.start()?;
    loop {
        let left: bool = sqlx::query_scalar(
            "select exists (select from river_job where state = 'available' and queue = 'default')
                or exists (select from river_job where state = 'running' and queue = 'default')",
        )
        .fetch_one(pool)
        .await?;
        if !left {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let seconds = start.elapsed().as_secs_f64();
    run.stop().await?;
    Ok(serde_json::json!({ "seconds": seconds, "jobs_per_s": ask.n("jobs") as f64 / seconds }))
}

async fn open_loop(pool: &PgPool, ask: &Ask) -> anyhow::Result<serde_json::Value> {
    let (start, waits) = (Instant::now(), Waits::default());
    let client = client(pool, ask.n("executors"), start, Some(waits.clone()))?;
    let mut run = client.start()?;
    let each = ask.n("each").max(1);
    // What is due while it warms up is not counted.
    let n_sweeps = |name: &str| (ask.n("rate") * ask.n(name)).div_ceil(each);
    let n_warm = n_sweeps("warmup");
    let n_sweeps = n_warm + n_sweeps("seconds");
    let begun = start.elapsed();
    let mut inserts = tokio::task::JoinSet::new();
    for idx in 0..n_sweeps {
        let due = begun + Duration::from_secs_f64((idx * each) as f64 / ask.n("rate") as f64);
        tokio::time::sleep(due.saturating_sub(start.elapsed())).await;
        let client = client.clone();
        inserts.spawn(async move {
            let at_us = if idx < n_warm { 0 } else { u64::try_from(due.as_micros()).unwrap_or(u64::MAX) };
            if each == 1 {
                return client.insert(Noop { at_us }).await.map(drop);
            }
            client.insert_many((0..each).map(|_| Noop { at_us })).await.map(drop)
        });
    }
    while let Some(inserted) = inserts.join_next().await {
        inserted??;
    }
    let limit = Instant::now();
    let n_counted = usize::try_from((n_sweeps - n_warm) * each)?;
    while waits.lock().expect("nobody panics with it").len() < n_counted && limit.elapsed().as_secs() < 60 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    run.stop().await?;
    let mut waits = waits.lock().expect("nobody panics with it").clone();
    waits.sort_unstable();
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize] as f64 / 1000.0;
    Ok(serde_json::json!({ "started": waits.len(), "p50_ms": at(0.5), "p99_ms": at(0.99) }))
}
