//! Plans of jobs that do nothing, and how long enqueueing them takes.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use serde_json::json;
use sqlx::PgPool;

use super::Ground;
use crate::job::needs::Needs;
use crate::job::task::Task;
use crate::job::task::rehearse::Rehearse;
use crate::plan::{Job, Plan};
use crate::queue::{load, locks, submit};
use crate::sweep::OnFailure;

/// So many jobs are one sweep.
const SWEEP: u64 = 100_000;

/// Jobs that do nothing, one for each seed.
pub(super) fn plan(name: &str, seeds: impl IntoIterator<Item = u64>) -> Plan {
    let job = |seed| {
        let task = Task::Rehearse(Rehearse { seed, steps: 1, ..Rehearse::default() });
        Job {
            key: task.key(),
            task,
            subject: None,
            reference: None,
            affinity: None,
            megapixels: 0.0,
            needs: Arc::default(),
        }
    };
    Plan {
        name: name.to_owned(),
        on_failure: OnFailure::Continue,
        priority: 0,
        max_running: None,
        limits: BTreeMap::new(),
        sources: Vec::new(),
        cells: Vec::new(),
        jobs: seeds.into_iter().map(job).collect(),
        edges: Vec::new(),
        trainings: Vec::new(),
        asking: Vec::new(),
    }
}

/// Jobs that do nothing, one for each seed, as sweeps of some size.
pub(super) fn plans(seeds: Range<u64>) -> Vec<Plan> {
    let starts = seeds.clone().step_by(SWEEP as usize);
    starts.map(|it| plan("bench", it..seeds.end.min(it + SWEEP))).collect()
}

/// Jobs that stand before all others and that nobody here can run.
pub(super) fn nobodys(n: u32) -> Plan {
    let mut plan = plan("elsewhere", (0..u64::from(n)).map(|it| u64::MAX - it));
    plan.priority = 100;
    let needs = Arc::new(Needs { labels: vec!["elsewhere".to_owned()], ..Needs::default() });
    plan.jobs.iter_mut().for_each(|it| it.needs = needs.clone());
    plan
}

/// Enqueues plans, each in a transaction of its own.
pub(super) async fn submit_all(pool: &PgPool, plans: &[Plan]) -> anyhow::Result<()> {
    for plan in plans {
        submit_one(pool, plan).await?;
    }
    Ok(())
}

/// Enqueues one plan, as `jobctl enqueue` does once it knows what is new.
pub(super) async fn submit_one(pool: &PgPool, plan: &Plan) -> anyhow::Result<()> {
    let mut tx = locks::begin_alone(pool).await?;
    submit::submit(&mut tx, plan, &plan.key(), "", &BTreeSet::new(), "bench").await?;
    tx.commit().await.context("enqueue")
}

/// How long enqueueing `n` jobs takes, their plan made before.
pub(super) async fn measure(ground: &Ground, n: u32) -> anyhow::Result<serde_json::Value> {
    let plans = plans(ground.seeds(n.into()));
    let before = load::meter(&ground.pool).await?;
    let start = Instant::now();
    ground.enqueue(&plans).await?;
    let seconds = start.elapsed().as_secs_f64();
    let after = load::meter(&ground.pool).await?;
    Ok(json!({
        "jobs": n,
        "seconds": seconds,
        "jobs_per_s": f64::from(n) / seconds,
        "wal_bytes_per_job": (after.wal_bytes - before.wal_bytes) as f64 / f64::from(n),
    }))
}
