//! How soon a job starts: jobs are enqueued at a fixed rate, whether or not earlier ones have started.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;

use super::Ground;
use super::enqueue::{plan, submit_one};
use super::executors::{Executors, How};
use crate::database;
use crate::job::task::Task;
use crate::queue::claim::Claimed;

/// The connections of those who enqueue.
const N_ENQUEUERS: u32 = 4;

/// What is enqueued.
#[derive(Clone, Copy)]
pub(super) struct Load {
    /// Jobs a second.
    pub rate: u32,
    /// Jobs a sweep.
    pub each: u32,
    /// Seconds of it that are not counted, at first.
    pub warmup: u32,
    /// Seconds that are.
    pub seconds: u32,
}

/// Enqueues sweeps at a fixed rate, and measures from the moment at which each was due to be enqueued to the start of its
/// jobs: what the enqueueing takes, or waits for, counts.
pub(super) async fn measure(
    ground: &Ground,
    n_executors: usize,
    how: How,
    load: Load,
) -> anyhow::Result<serde_json::Value> {
    let Load { rate, each, .. } = load;
    let n_sweeps = |seconds: u32| (u64::from(seconds) * u64::from(rate)).div_ceil(each.into());
    let n_warm = n_sweeps(load.warmup);
    let n_sweeps = n_warm + n_sweeps(load.seconds);
    let seeds = ground.seeds(n_sweeps * u64::from(each));
    let n_jobs = usize::try_from(seeds.end - seeds.start)?;
    // Who enqueues is another process than who works, as a rule.
    let enqueuers = database::connect(ground.database.url(), N_ENQUEUERS).await?;
    let begun = Instant::now() + Duration::from_millis(500);
    let due = move |sweep: u64| begun + Duration::from_secs_f64(sweep as f64 * f64::from(each) / f64::from(rate));
    let waits = Arc::new(Mutex::new(Vec::with_capacity(n_jobs)));
    let (noted, first) = (waits.clone(), seeds.start);
    let note = move |job: &Claimed| {
        let Task::Rehearse(task) = &job.task else { return };
        let sweep = task.seed.saturating_sub(first) / u64::from(each);
        if sweep >= n_warm {
            noted.lock().unwrap_or_else(PoisonError::into_inner).push(due(sweep).elapsed().as_micros());
        }
    };
    let pool = ground.pool.clone();
    let executors = tokio::spawn(async move { Executors::run(&pool, n_executors, how, n_jobs, note).await });
    let mut enqueues = JoinSet::new();
    for sweep in 0..n_sweeps {
        tokio::time::sleep_until(due(sweep).into()).await;
        let pool = enqueuers.clone();
        let first = seeds.start + sweep * u64::from(each);
        enqueues.spawn(async move { submit_one(&pool, &plan("open", first..first + u64::from(each))).await });
    }
    while let Some(enqueued) = enqueues.join_next().await {
        enqueued??;
    }
    executors.await??;
    enqueuers.close().await;
    let mut waits = waits.lock().unwrap_or_else(PoisonError::into_inner).clone();
    waits.sort_unstable();
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize] as f64 / 1000.0;
    Ok(json!({
        "executors": n_executors,
        "how": how.name(),
        "rate": rate,
        "each": each,
        "seconds": load.seconds,
        "warmup": load.warmup,
        "started": waits.len(),
        "p50_ms": at(0.5),
        "p95_ms": at(0.95),
        "p99_ms": at(0.99),
        "max_ms": at(1.0),
    }))
}
