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

/// Enqueues `rate` jobs a second in sweeps of `each`, and measures from the moment at which each was due to be
/// enqueued to its start: what the enqueueing takes, or waits for, counts.
pub(super) async fn measure(
    ground: &Ground,
    n_executors: usize,
    how: How,
    rate: u32,
    each: u32,
    length: Duration,
) -> anyhow::Result<serde_json::Value> {
    let n_sweeps = (f64::from(rate) * length.as_secs_f64() / f64::from(each)).ceil() as u32;
    let n_jobs = n_sweeps * each;
    let start = Instant::now();
    let waits = Arc::new(Mutex::new(Vec::with_capacity(n_jobs as usize)));
    let noted = waits.clone();
    // A job's seed says the microsecond at which it was due, and its place in its sweep.
    let note = move |job: &Claimed| {
        let Task::Rehearse(task) = &job.task else { return };
        let now = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        noted.lock().unwrap_or_else(PoisonError::into_inner).push(now.saturating_sub(task.seed / 1000));
    };
    let pool = ground.pool.clone();
    let executors = tokio::spawn(async move { Executors::run(&pool, n_executors, how, n_jobs as usize, note).await });
    let begun = start.elapsed() + Duration::from_millis(500);
    // Who enqueues is another process than who works, as a rule.
    let enqueuers = database::connect(ground.database.url(), N_ENQUEUERS).await?;
    let mut enqueues = JoinSet::new();
    for idx in 0..n_sweeps {
        let due = begun + Duration::from_secs_f64(f64::from(idx) * f64::from(each) / f64::from(rate));
        tokio::time::sleep(due.saturating_sub(start.elapsed())).await;
        let pool = enqueuers.clone();
        let first = u64::try_from(due.as_micros())? * 1000;
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
        "started": waits.len(),
        "p50_ms": at(0.5),
        "p95_ms": at(0.95),
        "p99_ms": at(0.99),
        "max_ms": at(1.0),
    }))
}
