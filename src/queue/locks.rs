//! Locks, always in one order: the right to change the graph, sweeps by their ids, then jobs by theirs. Whoever changes
//! jobs takes all that it will need before it changes anything, so that no two wait for each other.
//!
//! [`alone`] is for what makes jobs or revives them, and for people's orders to sweeps: what they have locked stays all that
//! there is. The end of a job does without, unless a sweep may stop with it.

use anyhow::Context;
use sqlx::{AssertSqlSafe, PgPool};

use super::Tx;
use crate::job::JobId;

/// How far the end of a job may reach.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Reach {
    /// To those that wait for it: it ends well, or does not end.
    Children,
    /// To those that wait for these as well, and so on: they may be skipped.
    Dependants,
    /// To all of the sweeps that stop with the first failure.
    Sweeps,
}

/// Who has the right to change the graph and says nothing for so long, in seconds, loses it with its transaction: a process
/// that is stopped would keep it for ever.
const SILENCE_S: u32 = 60;

/// Begins a transaction that is [`alone`], in one round trip: others wait for its end.
///
/// # Errors
/// Postgres is out of reach.
pub async fn begin_alone(pool: &PgPool) -> anyhow::Result<Tx<'static>> {
    pool.begin_with(AssertSqlSafe(format!(
        "begin; set local idle_in_transaction_session_timeout = '{SILENCE_S}s'; \
         select pg_advisory_xact_lock(hashtext('jobctl enqueue'))"
    )))
    .await
    .context("wait for others who change the queue")
}

/// Keeps others from enqueueing, reviving, cancelling, holding or ordering, until the transaction ends.
///
/// # Errors
/// Postgres is out of reach.
pub async fn alone(tx: &mut Tx<'_>) -> anyhow::Result<()> {
    sqlx::query(
        "select set_config('idle_in_transaction_session_timeout', $1, true), pg_advisory_xact_lock(hashtext('jobctl enqueue'))",
    )
    .bind(format!("{SILENCE_S}s"))
    .execute(&mut **tx)
    .await
        .context("wait for others who change the queue")?;
    Ok(())
}

/// Locks a job and what its end may reach. Returns the sweeps that its failure stops.
pub(super) async fn lock(tx: &mut Tx<'_>, job: JobId, reach: Reach) -> anyhow::Result<Vec<i32>> {
    let (sweeps, mut jobs) = match reach {
        Reach::Children | Reach::Dependants => (Vec::new(), Vec::new()),
        Reach::Sweeps => lock_stopping_sweeps(tx, job).await?,
    };
    jobs.push(job.0);
    if sweeps.is_empty() {
        lock_dependants(tx, &jobs).await?;
    } else {
        // With the parents, as those who cancel the sweeps lock them: later would be out of order.
        lock_family(tx, &jobs).await?;
    }
    Ok(sweeps)
}

/// Locks jobs and all that depends on them, however far.
pub(super) async fn lock_dependants(tx: &mut Tx<'_>, jobs: &[i64]) -> anyhow::Result<()> {
    sqlx::query!(
        "select id
        from job
        where id = any(array(
            with recursive below as (
                select unnest($1::bigint[]) as id
                union
                select job_edge.child from below join job_edge on job_edge.parent = below.id
            )
            select id from below
        ))
        order by id
        for update",
        jobs
    )
    .fetch_all(&mut **tx)
    .await
    .context("lock the jobs and their dependants")?;
    Ok(())
}

/// Locks jobs that are to live again, all that depends on them, and the parents of all these: none of them ends while the
/// graph is put together again.
pub(super) async fn lock_family(tx: &mut Tx<'_>, jobs: &[i64]) -> anyhow::Result<()> {
    alone(tx).await?;
    sqlx::query!(
        "select id
        from job
        where id = any(array(
            with recursive below as (
                select unnest($1::bigint[]) as id
                union
                select job_edge.child from below join job_edge on job_edge.parent = below.id
            )
            select id from below
            union
            select parent from job_edge where child in (select id from below)
        ))
        order by id
        for update",
        jobs
    )
    .fetch_all(&mut **tx)
    .await
    .context("lock the jobs, their parents and their dependants")?;
    Ok(())
}

/// Locks a sweep, then its jobs, all that depends on them, and the parents of these. Returns the sweep's jobs.
pub(super) async fn lock_sweep(tx: &mut Tx<'_>, sweep: i32) -> anyhow::Result<Vec<i64>> {
    alone(tx).await?;
    sqlx::query!("select from sweep where id = $1 for update", sweep)
        .fetch_optional(&mut **tx)
        .await
        .context("lock the sweep")?;
    let jobs = super::control::jobs_of(tx, sweep).await?;
    lock_family(tx, &jobs).await?;
    Ok(jobs)
}

/// Locks the sweeps that a job's failure stops. Returns them and their jobs.
pub(super) async fn lock_stopping_sweeps(tx: &mut Tx<'_>, job: JobId) -> anyhow::Result<(Vec<i32>, Vec<i64>)> {
    // Looked at before anything is locked: most jobs' failures stop nothing, and wait for nobody who enqueues.
    if stopping_sweeps(tx, job).await?.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    alone(tx).await?;
    let sweeps = stopping_sweeps(tx, job).await?;
    sqlx::query!("select from sweep where id = any($1) order by id for update", &sweeps)
        .fetch_all(&mut **tx)
        .await
        .context("lock the sweeps that stop")?;
    let jobs = sqlx::query_scalar!("select job_id from sweep_job where sweep_id = any($1)", &sweeps)
        .fetch_all(&mut **tx)
        .await
        .context("find the sweeps' jobs")?;
    Ok((sweeps, jobs))
}

async fn stopping_sweeps(tx: &mut Tx<'_>, job: JobId) -> anyhow::Result<Vec<i32>> {
    sqlx::query_scalar!(
        "select id
        from sweep
        where on_failure = 'stop' and cancelled_at is null and id in (select sweep_id from sweep_job where job_id = $1)
        order by id",
        job.0
    )
    .fetch_all(&mut **tx)
    .await
    .context("find the sweeps that stop")
}
