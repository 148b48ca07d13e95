//! Making again what a job needs and what is gone from the store.

use anyhow::Context;

use super::Tx;
use super::control::hold;
use super::lanes::regate;
use super::locks::{alone, lock_family, lock_stopping_sweeps};
use super::order::reorder;
use super::settle::retry_later;
use super::wake::{Call, notify};

use crate::job::outcome::Cause;
use crate::job::{JobId, Lease};

/// Ends an attempt whose inputs are gone or damaged: the jobs that made them, `makers`, make them again, and this one
/// waits for them. The attempt is charged, so that a store which keeps losing things ends in an error. False if this
/// was the job's last attempt: then it has failed.
///
/// # Errors
/// [`LeaseLost`](super::LeaseLost), or Postgres is out of reach; nothing is written then.
pub async fn remake(tx: &mut Tx<'_>, job: JobId, lease: Lease, makers: &[JobId], error: &str) -> anyhow::Result<bool> {
    let makers: Vec<i64> = makers.iter().map(|it| it.0).collect();
    // All that this will touch, before anything changes. Several jobs may miss the same at a time.
    alone(tx).await?;
    let (_, mut all) = lock_stopping_sweeps(tx, job).await?;
    all.extend(&makers);
    all.push(job.0);
    lock_family(tx, &all).await?;
    if !retry_later(tx, job, lease, Cause::Machine, error).await? {
        return Ok(false);
    }
    let revived: Vec<i64> = sqlx::query_scalar!("select make_again($1) as \"id!\"", &makers)
        .fetch_all(&mut **tx)
        .await
        .context("make again what is gone")?;
    // Limits, priorities and pauses may be others by now than when they ended.
    hold(tx, &revived).await?;
    reorder(tx, &revived).await?;
    regate(tx, &revived).await?;
    // Somebody else may have asked for them before: parents are counted anew.
    sqlx::query!(
        "update job set n_blockers = parents.n, state = case when parents.n > 0 then 'waiting' else 'ready' end
        from (
            select count(*)::int as n
            from job_edge join job as parent on parent.id = job_edge.parent
            where job_edge.child = $1
        ) as parents
        where id = $1",
        job.0
    )
    .execute(&mut **tx)
    .await
    .context("wait for what is made again")?;
    notify(tx, Call::Ready).await?;
    Ok(true)
}
