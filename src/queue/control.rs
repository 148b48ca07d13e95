//! What people do to sweeps and jobs: cancel, retry, pause and resume.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};

use super::Tx;
use super::lanes::regate;
use super::locks::{alone, lock_dependants, lock_family, lock_sweep};
use super::order::reorder;
use super::settle::end;
use super::wake::{Call, notify};
use crate::job::State;

/// How many jobs a cancellation ended at once, and how many it asked their workers to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct Cancelled {
    /// Ended now.
    pub ended: usize,
    /// Running: they end as soon as their worker hears of it.
    pub asked: usize,
}

/// Cancels a sweep: its unfinished jobs end, but for those that another sweep wants.
///
/// # Errors
/// Postgres is out of reach.
pub async fn cancel_sweep(tx: &mut Tx<'_>, sweep: i32) -> anyhow::Result<Cancelled> {
    let all = lock_sweep(tx, sweep).await?;
    sqlx::query!("update sweep set cancelled_at = coalesce(cancelled_at, now()) where id = $1", sweep)
        .execute(&mut **tx)
        .await
        .context("cancel the sweep")?;
    let jobs = sqlx::query_scalar!(
        "select job_id
        from sweep_job as mine
        where sweep_id = $1 and not exists (
            select
            from sweep_job as other join sweep on sweep.id = other.sweep_id
            where other.job_id = mine.job_id and sweep.cancelled_at is null
        )",
        sweep
    )
    .fetch_all(&mut **tx)
    .await
    .context("find the sweep's jobs")?;
    let cancelled = cancel_jobs(tx, &jobs).await?;
    // What is left is others': if those are paused, it waits for them.
    hold(tx, &all).await?;
    Ok(cancelled)
}

pub(super) async fn jobs_of(tx: &mut Tx<'_>, sweep: i32) -> anyhow::Result<Vec<i64>> {
    sqlx::query_scalar!("select job_id from sweep_job where sweep_id = $1", sweep)
        .fetch_all(&mut **tx)
        .await
        .context("find the sweep's jobs")
}

/// Cancels jobs; those that have ended stay as they are.
///
/// # Errors
/// Postgres is out of reach.
pub async fn cancel_jobs(tx: &mut Tx<'_>, jobs: &[i64]) -> anyhow::Result<Cancelled> {
    alone(tx).await?;
    lock_dependants(tx, jobs).await?;
    let rows = sqlx::query!(
        "select id, state = 'running' as \"running!\" from job where id = any($1) order by id for update",
        jobs
    )
    .fetch_all(&mut **tx)
    .await
    .context("lock the jobs")?;
    let idle: Vec<i64> = rows.iter().filter(|it| !it.running).map(|it| it.id).collect();
    let running: Vec<i64> = rows.iter().filter(|it| it.running).map(|it| it.id).collect();
    sqlx::query!(
        "update job set cancel_requested_at = coalesce(cancel_requested_at, now()) where id = any($1)",
        &running
    )
    .execute(&mut **tx)
    .await
    .context("ask for the running jobs' end")?;
    end(tx, &idle, State::Cancelled, Some("cancelled before it ran")).await?;
    notify(tx, Call::End).await?;
    Ok(Cancelled { ended: idle.len(), asked: running.len() })
}

/// Makes ended jobs that are not done ready again, with all their attempts before them,
/// and revives what depends on them. Returns how many jobs live again.
///
/// # Errors
/// One of them needs a job that has ended without a result and is not among them; or Postgres is out of reach.
pub async fn retry(tx: &mut Tx<'_>, jobs: &[i64]) -> anyhow::Result<usize> {
    lock_family(tx, jobs).await?;
    let mut reviving: BTreeSet<i64> =
        sqlx::query_scalar!("select id from job_history where id = any($1) and state <> 'done'", jobs)
            .fetch_all(&mut **tx)
            .await
            .context("find the jobs")?
            .into_iter()
            .collect();
    let mut front: Vec<i64> = reviving.iter().copied().collect();
    while !front.is_empty() {
        // A child that was skipped may now run; one that pooled what there was must pool again.
        let children = sqlx::query_scalar!(
            "select distinct job_history.id
            from job_edge join job_history on job_history.id = job_edge.child
            where job_edge.parent = any($1) and (job_history.state = 'skipped' or not job_edge.needs)",
            &front
        )
        .fetch_all(&mut **tx)
        .await
        .context("find the dependants")?;
        front = children.into_iter().filter(|it| reviving.insert(*it)).collect();
    }
    let reviving: Vec<i64> = reviving.into_iter().collect();
    let stuck = sqlx::query!(
        "select job_edge.child, job_edge.parent, job_history.state
        from job_edge join job_history on job_history.id = job_edge.parent
        where job_edge.child = any($1) and job_edge.needs
            and job_history.state <> 'done' and job_edge.parent <> all($1)
        order by job_edge.child
        limit 1",
        &reviving
    )
    .fetch_optional(&mut **tx)
    .await
    .context("check the jobs' parents")?;
    if let Some(row) = stuck {
        ensure!(
            false,
            "job {} needs job {}, which ended as {}: retry that one, and this one follows",
            row.child,
            row.parent,
            row.state
        );
    }
    let revived = sqlx::query_scalar!(
        "with gone as (
            delete from job_history
            where id = any($1)
            returning id, key, kind, lane, priority, max_attempts, limit_s, subject, affinity, megapixels, task, created_at
        ),
        blockers as (
            select job_edge.child, count(*)::int as n
            from job_edge
            where job_edge.child = any($1)
                and (job_edge.parent = any($1) or exists (select from job where job.id = job_edge.parent))
            group by job_edge.child
        ),
        clock as materialized (
            select lane, priority, turn_now(lane, priority) as turn
            from (select distinct lane, priority from gone) as lanes
        )
        insert into job (id, key, kind, lane, priority, state, n_blockers, max_attempts, limit_s, subject, affinity,
            megapixels, task, created_at, turn)
        select gone.id, key, kind, gone.lane, gone.priority, case when blockers.n > 0 then 'waiting' else 'ready' end,
            coalesce(blockers.n, 0), max_attempts, limit_s, subject, affinity, megapixels, task::text, created_at,
            clock.turn + row_number() over (partition by gone.lane, gone.priority order by gone.id) - 1
        from gone
        join clock on clock.lane = gone.lane and clock.priority = gone.priority
        left join blockers on blockers.child = gone.id
        returning id",
        &reviving
    )
    .fetch_all(&mut **tx)
    .await
    .context("revive the jobs")?;
    // Children that wait already, for other parents, wait for these too.
    sqlx::query!(
        "with more as (
            select child, count(*)::int as n
            from job_edge
            where parent = any($1) and child <> all($1)
            group by child
        )
        update job set n_blockers = n_blockers + more.n, state = 'waiting'
        from more
        where job.id = more.child and job.state in ('waiting', 'ready')",
        &revived
    )
    .execute(&mut **tx)
    .await
    .context("block the dependants again")?;
    hold(tx, &revived).await?;
    reorder(tx, &revived).await?;
    // Limits may have come or gone since they ended.
    regate(tx, &revived).await?;
    notify(tx, Call::Ready).await?;
    Ok(revived.len())
}

/// As [`retry`], and makes done jobs ready as well whose result is an artifact, which may be gone by now:
/// with them what failed for want of it.
///
/// # Errors
/// As [`retry`].
pub async fn redo(tx: &mut Tx<'_>, jobs: &[i64]) -> anyhow::Result<usize> {
    lock_family(tx, jobs).await?;
    let again = sqlx::query_scalar!(
        "update job_history set state = 'failed', error = 'somebody asked for it again'
        where id = any($1) and state = 'done'
            and kind in ('encode', 'prepare', 'finetune', 'denoise', 'decode', 'reconstruct', 'rehearse')
        returning id",
        jobs
    )
    .fetch_all(&mut **tx)
    .await
    .context("take the jobs' end back")?;
    let starved = sqlx::query_scalar!(
        "select job_history.id
        from job_edge join job_history on job_history.id = job_edge.child
        where job_edge.parent = any($1) and job_edge.needs and job_history.state = 'failed'",
        &again
    )
    .fetch_all(&mut **tx)
    .await
    .context("find what failed for want of them")?;
    let all: Vec<i64> = jobs.iter().copied().chain(starved).collect();
    retry(tx, &all).await
}

/// The jobs of a sweep that ended without a result.
///
/// # Errors
/// Postgres is out of reach.
pub async fn retryable(tx: &mut Tx<'_>, sweep: i32) -> anyhow::Result<Vec<i64>> {
    sqlx::query_scalar!(
        "select job_history.id
        from sweep_job join job_history on job_history.id = sweep_job.job_id
        where sweep_job.sweep_id = $1 and job_history.state <> 'done'",
        sweep
    )
    .fetch_all(&mut **tx)
    .await
    .context("find what a retry would revive")
}

/// Lets a cancelled sweep live again: its cancelled jobs, and those skipped for them, become ready.
/// Returns how many.
///
/// # Errors
/// Postgres is out of reach.
pub async fn revive_sweep(tx: &mut Tx<'_>, sweep: i32) -> anyhow::Result<usize> {
    let all = lock_sweep(tx, sweep).await?;
    let was_cancelled =
        sqlx::query!("update sweep set cancelled_at = null where id = $1 and cancelled_at is not null", sweep)
            .execute(&mut **tx)
            .await
            .context("revive the sweep")?
            .rows_affected()
            > 0;
    // What was told to end and still runs may go on.
    sqlx::query!(
        "update job set cancel_requested_at = null
        where cancel_requested_at is not null and id = any($1)",
        &all
    )
    .execute(&mut **tx)
    .await
    .context("take the order to end back")?;
    if was_cancelled {
        hold(tx, &all).await?;
    }
    let jobs = sqlx::query_scalar!(
        "select job_history.id
        from sweep_job join job_history on job_history.id = sweep_job.job_id
        where sweep_job.sweep_id = $1 and job_history.state = 'cancelled'",
        sweep
    )
    .fetch_all(&mut **tx)
    .await
    .context("find the sweep's cancelled jobs")?;
    if jobs.is_empty() { Ok(0) } else { retry(tx, &jobs).await }
}

/// Pauses or resumes a sweep: no more of its jobs start, but for those that another sweep wants;
/// what runs goes on.
///
/// # Errors
/// Postgres is out of reach.
pub async fn set_paused(tx: &mut Tx<'_>, sweep: i32, paused: bool) -> anyhow::Result<()> {
    let jobs = lock_sweep(tx, sweep).await?;
    sqlx::query!("update sweep set paused = $2 where id = $1", sweep, paused)
        .execute(&mut **tx)
        .await
        .context("pause or resume the sweep")?;
    hold(tx, &jobs).await?;
    notify(tx, Call::Ready).await
}

/// Holds those of these jobs that only paused sweeps want, and lets the others go: behind what has been served meanwhile, for
/// they have not waited for it.
pub(super) async fn hold(tx: &mut Tx<'_>, jobs: &[i64]) -> anyhow::Result<()> {
    sqlx::query!(
        "with locked as (
            select id, held, lane, priority, turn from job where id = any($1) order by id for update
        ),
        wanted as (
            select locked.id, locked.held, locked.lane, locked.priority, locked.turn, bool_and(sweep.paused) as paused
            from locked
            join sweep_job on sweep_job.job_id = locked.id
            join sweep on sweep.id = sweep_job.sweep_id and sweep.cancelled_at is null
            group by locked.id, locked.held, locked.lane, locked.priority, locked.turn
        ),
        changing as (
            select id, paused, turn, lane, priority,
                row_number() over (partition by lane, priority, paused order by turn, id) - 1 as place
            from wanted
            where held <> paused
        ),
        clock as materialized (
            select lane, priority, turn_now(lane, priority) as turn
            from (select distinct lane, priority from changing where not paused) as lanes
        )
        update job
        set held = changing.paused,
            turn = case when changing.paused then changing.turn else greatest(changing.turn, clock.turn + changing.place) end
        from changing left join clock on clock.lane = changing.lane and clock.priority = changing.priority
        where job.id = changing.id",
        jobs
    )
    .execute(&mut **tx)
    .await
    .context("hold or free the jobs")?;
    Ok(())
}
