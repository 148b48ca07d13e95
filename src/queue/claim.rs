//! Taking jobs, and saying that one lives.

use std::time::Duration;

use anyhow::Context;
use sqlx::PgPool;
use sqlx::types::Json;
use uuid::Uuid;

use crate::job::task::Task;
use crate::job::{JobId, Lease};

/// A job that a slot has just been given.
#[derive(Debug)]
pub struct Claimed {
    /// The job.
    pub id: JobId,
    /// The right to write its result.
    pub lease: Lease,
    /// Which attempt it is, from 1.
    pub number: u32,
    /// What to do.
    pub task: Task,
    /// What the slot will have loaded afterwards.
    pub affinity: Option<i64>,
    /// How long the attempt may take.
    pub limit: Duration,
    /// For how long it could have been claimed.
    pub waited: Duration,
}

/// What a worker says of itself when it starts.
#[derive(Debug)]
pub struct Introduction<'a> {
    /// Unique per start.
    pub id: Uuid,
    /// The machine's name.
    pub host: &'a str,
    /// The version of jobctl.
    pub program: &'a str,
    /// What the machine is, in words.
    pub machine: &'a str,
    /// How many jobs it runs at a time.
    pub n_slots: usize,
    /// Whether any of its slots has CUDA.
    pub has_cuda: bool,
}

/// Registers a worker: from now on it must beat.
///
/// # Errors
/// Postgres is out of reach.
pub async fn register(pool: &PgPool, worker: &Introduction<'_>) -> anyhow::Result<()> {
    sqlx::query!(
        "insert into worker (id, host, pid, program, machine, n_slots, has_cuda) values ($1, $2, $3, $4, $5, $6, $7)",
        worker.id,
        worker.host,
        i32::try_from(std::process::id()).unwrap_or_default(),
        worker.program,
        worker.machine,
        i32::try_from(worker.n_slots).unwrap_or(i32::MAX),
        worker.has_cuda,
    )
    .execute(pool)
    .await
    .context("register the worker")?;
    Ok(())
}

/// Takes the best ready job of a lane for a slot; none when nothing is ready.
/// Among jobs of the highest priority, one whose `affinity` the slot has loaded comes first.
///
/// # Errors
/// Postgres is out of reach.
pub async fn claim(
    pool: &PgPool,
    worker: Uuid,
    slot: &str,
    lane: i16,
    loaded: Option<i64>,
) -> anyhow::Result<Option<Claimed>> {
    let row = sqlx::query_file!("src/queue/claim.sql", lane, loaded, worker, slot)
        .fetch_optional(pool)
        .await
        .context("claim a job")?;
    row.map(|row| {
        Ok(Claimed {
            id: JobId(row.id),
            lease: Lease(row.lease),
            number: u32::try_from(row.n_attempts).unwrap_or_default(),
            task: serde_json::from_str(&row.task).with_context(|| format!("understand the task of job {}", row.id))?,
            affinity: row.affinity,
            limit: Duration::from_secs(u64::try_from(row.limit_s).unwrap_or_default()),
            waited: Duration::try_from_secs_f64(row.waited_s).unwrap_or_default(),
        })
    })
    .transpose()
}

/// What a worker learns from a beat.
#[derive(Debug, Default)]
pub struct Pulse {
    /// The leases that it still holds.
    pub held: Vec<Lease>,
    /// Those of them whose jobs should end now.
    pub cancelled: Vec<Lease>,
}

/// Says that a worker lives; none when it was given up, and its jobs are others' now.
///
/// # Errors
/// Postgres is out of reach.
pub async fn beat(pool: &PgPool, worker: Uuid) -> anyhow::Result<Option<Pulse>> {
    let alive = sqlx::query_scalar!(
        "update worker set beat_at = now() where id = $1 and stopped_at is null returning true as \"alive!\"",
        worker
    )
    .fetch_optional(pool)
    .await
    .context("beat")?;
    if alive.is_none() {
        return Ok(None);
    }
    let rows = sqlx::query!(
        "select lease as \"lease!\", cancel_requested_at is not null as \"cancelled!\"
        from job
        where worker_id = $1 and state = 'running'",
        worker
    )
    .fetch_all(pool)
    .await
    .context("look at the leases held")?;
    let mut pulse = Pulse::default();
    for row in rows {
        pulse.held.push(Lease(row.lease));
        if row.cancelled {
            pulse.cancelled.push(Lease(row.lease));
        }
    }
    Ok(Some(pulse))
}

/// Notes how far an attempt is; a lost lease changes nothing.
///
/// # Errors
/// Postgres is out of reach.
pub async fn progress(pool: &PgPool, job: JobId, lease: Lease, said: &serde_json::Value) -> anyhow::Result<()> {
    sqlx::query!("update job set progress = $3 where id = $1 and lease = $2", job.0, lease.0, Json(said) as _)
        .execute(pool)
        .await
        .context("note progress")?;
    Ok(())
}

/// Appends what an attempt printed, numbered from `first_seq`; an ended attempt takes no more.
///
/// # Errors
/// Postgres is out of reach.
pub async fn append_log(pool: &PgPool, lease: Lease, first_seq: i32, lines: &[String]) -> anyhow::Result<()> {
    sqlx::query!(
        "with open as (
            select from attempt where lease = $1 and ended_at is null for share
        )
        insert into attempt_log (lease, seq, line)
        select $1, $2 + (ordinality - 1)::int, line
        from unnest($3::text[]) with ordinality as said (line, ordinality)
        where exists (select from open)
        on conflict do nothing",
        lease.0,
        first_seq,
        lines
    )
    .execute(pool)
    .await
    .context("append to the log")?;
    Ok(())
}
