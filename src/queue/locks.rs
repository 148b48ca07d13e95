//! Locks, always in one order: sweeps by their ids, then jobs by theirs. Whoever ends jobs takes all that it will need
//! before it changes anything, so that no two wait for each other.

use anyhow::Context;

use super::Tx;
use crate::job::JobId;

/// How far the end of a job may reach.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reach {
    /// To those that wait for it: it ends well, or does not end.
    Children,
    /// To those that wait for these as well, and so on: they may be skipped.
    Dependants,
    /// To all of the sweeps that stop with the first failure.
    Sweeps,
}

/// Locks a job and what its end may reach.
pub(super) async fn lock(tx: &mut Tx<'_>, job: JobId, reach: Reach) -> anyhow::Result<()> {
    match reach {
        Reach::Children | Reach::Dependants => lock_dependants(tx, &[job.0]).await,
        Reach::Sweeps => {
            let sweeps = lock_stopping_sweeps(tx, job).await?;
            let mut jobs = vec![job.0];
            if !sweeps.is_empty() {
                let of_sweeps = sqlx::query_scalar!("select job_id from sweep_job where sweep_id = any($1)", &sweeps)
                    .fetch_all(&mut **tx)
                    .await
                    .context("find the sweeps' jobs")?;
                jobs.extend(of_sweeps);
            }
            lock_dependants(tx, &jobs).await
        }
    }
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
/// graph is put together again. Only one transaction at a time does that, or enqueues.
pub(super) async fn lock_family(tx: &mut Tx<'_>, jobs: &[i64]) -> anyhow::Result<()> {
    super::submit::lock(tx).await?;
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

/// Locks the sweeps that a job's failure stops.
async fn lock_stopping_sweeps(tx: &mut Tx<'_>, job: JobId) -> anyhow::Result<Vec<i32>> {
    sqlx::query_scalar!(
        "select id
        from sweep
        where on_failure = 'stop' and cancelled_at is null
            and id in (select sweep_id from sweep_job where job_id = $1)
        order by id
        for update",
        job.0
    )
    .fetch_all(&mut **tx)
    .await
    .context("lock the sweeps that stop")
}
