//! Taking jobs, and saying that one lives.

use std::time::Duration;

use anyhow::Context;
use sqlx::PgPool;
use sqlx::types::Json;
use uuid::Uuid;

use super::settle::retry_later;
use crate::job::needs::Offer;
use crate::job::outcome::Cause;
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
    /// What people call it by, for jobs that ask for a label.
    pub labels: &'a [String],
    /// Its GPUs.
    pub gpus: &'a [Gpu],
}

/// A GPU of a worker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gpu {
    /// Such as `cuda:0`.
    pub device: String,
    /// The slot that has it.
    pub slot: String,
    /// What its maker calls it; empty where nobody knows.
    pub model: String,
    /// In GiB, rounded up to the size that it is sold as; 0 where nobody knows.
    pub memory_gib: u32,
}

/// Registers a worker: from now on it must beat.
///
/// # Errors
/// Postgres is out of reach.
pub async fn register(pool: &PgPool, worker: &Introduction<'_>) -> anyhow::Result<()> {
    let of = |text: fn(&Gpu) -> &String| worker.gpus.iter().map(|it| text(it).clone()).collect::<Vec<String>>();
    let memory: Vec<i32> = worker.gpus.iter().map(|it| i32::try_from(it.memory_gib).unwrap_or(i32::MAX)).collect();
    sqlx::query!(
        "with made as (
            insert into worker (id, host, pid, program, machine, n_slots, has_cuda, labels) values ($1, $2, $3, $4, $5, $6, $7, $8)
            returning id
        )
        insert into worker_device (worker_id, device, slot, model, memory_gib)
        select made.id, gpu.device, gpu.slot, gpu.model, gpu.memory_gib
        from made, unnest($9::text[], $10::text[], $11::text[], $12::int[]) as gpu (device, slot, model, memory_gib)",
        worker.id,
        worker.host,
        i32::try_from(std::process::id()).unwrap_or_default(),
        worker.program,
        worker.machine,
        i32::try_from(worker.n_slots).unwrap_or(i32::MAX),
        !worker.gpus.is_empty(),
        worker.labels,
        &of(|it| &it.device),
        &of(|it| &it.slot),
        &of(|it| &it.model),
        &memory
    )
    .execute(pool)
    .await
    .context("register the worker")?;
    Ok(())
}

/// Takes the best ready job of all lanes that a slot can serve; none when nothing is ready. The order is priority, turn, id;
/// a job whose `affinity` the slot has loaded may go before others of its priority, but passes none over for longer than two
/// minutes.
///
/// # Errors
/// Postgres is out of reach.
pub async fn claim(
    pool: &PgPool,
    worker: Uuid,
    slot: &str,
    offer: &Offer,
    loaded: Option<i64>,
) -> anyhow::Result<Option<Claimed>> {
    let (n_gpus, memory) = (i32::from(offer.n_gpus), i32::try_from(offer.gpu_memory_gib).unwrap_or(i32::MAX));
    // Lanes whose last place somebody else took between our look and our grasp.
    let mut full: Vec<i16> = Vec::new();
    loop {
        let row = sqlx::query_file!(
            "src/queue/claim.sql",
            worker,
            slot,
            loaded,
            n_gpus,
            offer.gpu_model,
            memory,
            &offer.labels,
            &full
        )
        .fetch_optional(pool)
        .await
        .context("claim a job")?;
        let Some(row) = row else { return Ok(None) };
        let (Some(id), Some(lease), Some(task)) = (row.id, row.lease, row.task) else {
            full.push(row.lane);
            continue;
        };
        let Some(task) = understand(pool, JobId(id), Lease(lease), &task).await? else { continue };
        return Ok(Some(Claimed {
            id: JobId(id),
            lease: Lease(lease),
            number: u32::try_from(row.n_attempts.unwrap_or_default()).unwrap_or_default(),
            task,
            affinity: row.affinity,
            limit: Duration::from_secs(u64::try_from(row.limit_s.unwrap_or_default()).unwrap_or_default()),
            waited: Duration::try_from_secs_f64(row.waited_s.unwrap_or_default()).unwrap_or_default(),
        }));
    }
}

/// The task of a job that was just claimed. One that this jobctl does not understand is left to others for a while, each of
/// them an attempt: it may have been enqueued by a newer one.
pub(super) async fn understand(pool: &PgPool, job: JobId, lease: Lease, task: &str) -> anyhow::Result<Option<Task>> {
    let error = match serde_json::from_str(task) {
        Ok(task) => return Ok(Some(task)),
        Err(error) => format!(
            "jobctl {} does not understand its task, which was enqueued by another version: {error}",
            env!("CARGO_PKG_VERSION")
        ),
    };
    tracing::warn!(job = job.0, error, "a job is left to others");
    let mut tx = pool.begin().await.context("begin a transaction")?;
    retry_later(&mut tx, job, lease, Cause::Machine, &error).await?;
    tx.commit().await.context("leave the job to others")?;
    Ok(None)
}

/// What a worker learns from a beat.
#[derive(Debug, Default)]
pub struct Pulse {
    /// The jobs that it still has, with their leases.
    pub held: Vec<(JobId, Lease)>,
    /// Those of them whose jobs should end now.
    pub cancelled: Vec<Lease>,
}

impl Pulse {
    /// Whether the worker still holds it.
    pub fn holds(&self, lease: Lease) -> bool {
        self.held.iter().any(|it| it.1 == lease)
    }
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
        "select id, lease as \"lease!\", cancel_requested_at is not null as \"cancelled!\"
        from job
        where worker_id = $1 and state = 'running'",
        worker
    )
    .fetch_all(pool)
    .await
    .context("look at the leases held")?;
    let mut pulse = Pulse::default();
    for row in rows {
        pulse.held.push((JobId(row.id), Lease(row.lease)));
        if row.cancelled {
            pulse.cancelled.push(Lease(row.lease));
        }
    }
    Ok(Some(pulse))
}

/// How full a GPU's memory is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemorySeen {
    /// Such as `cuda:0`.
    pub device: String,
    /// In MiB, by whatever process.
    pub used_mib: i32,
    /// In MiB, by processes that are not the worker's; none where nobody knows.
    pub foreign_mib: Option<i32>,
}

/// Notes how full the memory of a worker's GPUs is.
///
/// # Errors
/// Postgres is out of reach.
pub async fn note_memory(pool: &PgPool, worker: Uuid, seen: &[MemorySeen]) -> anyhow::Result<()> {
    let devices: Vec<String> = seen.iter().map(|it| it.device.clone()).collect();
    let used: Vec<i32> = seen.iter().map(|it| it.used_mib).collect();
    let foreign: Vec<Option<i32>> = seen.iter().map(|it| it.foreign_mib).collect();
    sqlx::query!(
        "update worker_device
        set used_mib = seen.used_mib, foreign_mib = seen.foreign_mib, seen_at = now()
        from unnest($2::text[], $3::int[], $4::int[]) as seen (device, used_mib, foreign_mib)
        where worker_id = $1 and worker_device.device = seen.device",
        worker,
        &devices,
        &used,
        &foreign as &[Option<i32>]
    )
    .execute(pool)
    .await
    .context("note the GPUs' memory")?;
    Ok(())
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
