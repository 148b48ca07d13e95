//! How soon a job starts: jobs are enqueued at a fixed rate, whether or not earlier ones have started.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;

use super::Ground;
use super::enqueue::{plan, submit_one};
use super::executors::{Executors, How};
use crate::job::task::Task;
use crate::queue::claim::Claimed;

/// Enqueues `rate` jobs a second, each a sweep of its own, and measures from the moment at which each was due to be
/// enqueued to its start: what the enqueueing takes, or waits for, counts.
pub(super) async fn measure(
    ground: &Ground,
    n_executors: usize,
    rate: u32,
    length: Duration,
) -> anyhow::Result<serde_json::Value> {
    let n_jobs = (f64::from(rate) * length.as_secs_f64()) as u32;
    let start = Instant::now();
    let waits = Arc::new(Mutex::new(Vec::with_capacity(n_jobs as usize)));
    let noted = waits.clone();
    // A job's seed is the microsecond at which it was due.
    let note = move |job: &Claimed| {
        let Task::Rehearse(task) = &job.task else { return };
        let now = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        noted.lock().unwrap_or_else(PoisonError::into_inner).push(now.saturating_sub(task.seed));
    };
    let pool = ground.pool.clone();
    let executors =
        tokio::spawn(async move { Executors::run(&pool, n_executors, How::Single, n_jobs as usize, note).await });
    let begun = start.elapsed() + Duration::from_millis(500);
    let mut enqueues = JoinSet::new();
    for idx in 0..n_jobs {
        let due = begun + Duration::from_secs_f64(f64::from(idx) / f64::from(rate));
        tokio::time::sleep(due.saturating_sub(start.elapsed())).await;
        let pool = ground.pool.clone();
        let seed = u64::try_from(due.as_micros()).unwrap_or(u64::MAX);
        enqueues.spawn(async move { submit_one(&pool, &plan("open", [seed])).await });
    }
    while let Some(enqueued) = enqueues.join_next().await {
        enqueued??;
    }
    executors.await??;
    let mut waits = waits.lock().unwrap_or_else(PoisonError::into_inner).clone();
    waits.sort_unstable();
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize] as f64 / 1000.0;
    Ok(json!({
        "executors": n_executors,
        "rate": rate,
        "started": waits.len(),
        "p50_ms": at(0.5),
        "p95_ms": at(0.95),
        "p99_ms": at(0.99),
        "max_ms": at(1.0),
    }))
}
