//! Which jobs need a device that not every worker has, who has it, and how far jobs are that take long.

use std::time::Duration;

use anyhow::Context;
use serde::Serialize;
use sqlx::PgPool;

use super::Tx;

/// How many unfinished jobs need CUDA, of one sweep or of all.
///
/// # Errors
/// Postgres is out of reach.
pub async fn n_for_cuda(tx: &mut Tx<'_>, sweep: Option<i32>) -> anyhow::Result<i64> {
    sqlx::query_scalar!(
        "select count(*) as \"n!\"
        from job
        where lane in (select id from lane where n_gpus > 0) and ($1::int is null or exists (select from sweep_job where sweep_id = $1 and job_id = job.id))",
        sweep
    )
    .fetch_one(&mut **tx)
    .await
    .context("count the jobs that need CUDA")
}

/// Whether a worker with CUDA lives: one that has not stopped and has beaten within `stale`.
///
/// # Errors
/// Postgres is out of reach.
pub async fn has_cuda(tx: &mut Tx<'_>, stale: Duration) -> anyhow::Result<bool> {
    sqlx::query_scalar!(
        "select exists (
            select from worker
            where has_cuda and stopped_at is null and beat_at > now() - make_interval(secs => $1)
        ) as \"any!\"",
        stale.as_secs_f64()
    )
    .fetch_one(&mut **tx)
    .await
    .context("look for a worker with CUDA")
}

/// A GPU of a worker that has not stopped.
#[derive(Debug, Serialize)]
pub struct WorkerGpu {
    /// Its worker.
    pub worker: String,
    /// The machine.
    pub host: String,
    /// The slot that has it.
    pub slot: String,
    /// Such as `cuda:0`.
    pub device: String,
    /// What its maker calls it; empty where nobody knows.
    pub model: String,
    /// In GiB, rounded up to the size that it is sold as; 0 where nobody knows.
    pub memory_gib: i32,
    /// In MiB, at the worker's last beat; none where nobody knows.
    pub used_mib: Option<i32>,
}

/// The GPUs of the workers that have not stopped.
///
/// # Errors
/// Postgres is out of reach.
pub async fn gpus(pool: &PgPool) -> anyhow::Result<Vec<WorkerGpu>> {
    sqlx::query_as!(
        WorkerGpu,
        "select worker.id::text as \"worker!\", worker.host, worker_device.slot, worker_device.device, worker_device.model,
            worker_device.memory_gib, worker_device.used_mib
        from worker_device join worker on worker.id = worker_device.worker_id
        where worker.stopped_at is null
        order by worker.host, worker.pid, worker_device.device"
    )
    .fetch_all(pool)
    .await
    .context("list the GPUs")
}

/// A job that has said how far it is.
#[derive(Debug, Serialize)]
pub struct Underway {
    /// The job.
    pub job: i64,
    /// Its kind.
    pub kind: String,
    /// The machine.
    pub host: String,
    /// The slot on it.
    pub slot: String,
    /// Seconds since it began.
    pub seconds: f64,
    /// How far it is: `{"done": steps, "of": steps}`.
    pub progress: serde_json::Value,
}

/// The running jobs that have said how far they are, of one sweep or of all.
///
/// # Errors
/// Postgres is out of reach.
pub async fn underway(pool: &PgPool, sweep: Option<i32>) -> anyhow::Result<Vec<Underway>> {
    sqlx::query_as!(
        Underway,
        "select job.id as job, job.kind, worker.host, job.slot as \"slot!\",
            extract(epoch from now() - job.started_at)::float8 as \"seconds!\", job.progress as \"progress!\"
        from job join worker on worker.id = job.worker_id
        where job.state = 'running' and job.progress is not null
            and ($1::int is null or exists (select from sweep_job where sweep_id = $1 and job_id = job.id))
        order by job.id
        limit 100",
        sweep
    )
    .fetch_all(pool)
    .await
    .context("look at the running jobs")
}
