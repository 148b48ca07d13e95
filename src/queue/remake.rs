//! Making again what a job needs and what is gone from the store.

use anyhow::Context;

use super::Tx;
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
    // Several jobs may miss the same at a time. All that this will touch is locked first, in the order of ids.
    sqlx::query!("select pg_advisory_xact_lock(hashtext('jobctl remake'))").execute(&mut **tx).await?;
    sqlx::query_scalar!(
        "select id
        from job
        where id = $1 or id in (select child from job_edge where parent = any($2))
        order by id
        for update",
        job.0,
        &makers
    )
    .fetch_all(&mut **tx)
    .await
    .context("lock what waits for what is gone")?;
    if !retry_later(tx, job, lease, Cause::Machine, error).await? {
        return Ok(false);
    }
    sqlx::query_scalar!("select make_again($1)", &makers)
        .fetch_all(&mut **tx)
        .await
        .context("make again what is gone")?;
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
