//! Claims and ends of many jobs at a time: one statement, one transaction, for all that are asked for at once.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::Context;
use sqlx::PgPool;
use uuid::Uuid;

use super::Tx;
use super::claim::Claimed;
use super::settle::release_children;
use crate::job::{JobId, Lease, State};

/// Takes the best ready jobs of a lane for slots of one worker that have nothing loaded, in one statement: each with its
/// slot, fewer where fewer are ready.
///
/// # Errors
/// Postgres is out of reach.
pub async fn claim_many(
    pool: &PgPool,
    worker: Uuid,
    slots: &[String],
    lane: i16,
) -> anyhow::Result<Vec<(String, Claimed)>> {
    let rows = sqlx::query_file!("src/queue/claim_many.sql", lane, worker, slots)
        .fetch_all(pool)
        .await
        .context("claim jobs")?;
    let claimed = rows.into_iter().map(|row| {
        let job = Claimed {
            id: JobId(row.id),
            lease: Lease(row.lease),
            number: u32::try_from(row.n_attempts).unwrap_or_default(),
            task: serde_json::from_str(&row.task).with_context(|| format!("understand the task of job {}", row.id))?,
            affinity: row.affinity,
            limit: Duration::from_secs(u64::try_from(row.limit_s).unwrap_or_default()),
            waited: Duration::ZERO,
        };
        Ok((row.slot, job))
    });
    claimed.collect()
}

/// Ends jobs well whose leases are still theirs, and says which; the others are left as they are.
///
/// # Errors
/// Postgres is out of reach; nothing is written then.
pub async fn finish_many(tx: &mut Tx<'_>, jobs: &[(JobId, Lease)]) -> anyhow::Result<HashSet<Lease>> {
    let ids: Vec<i64> = jobs.iter().map(|it| it.0.0).collect();
    let leases: Vec<i64> = jobs.iter().map(|it| it.1.0).collect();
    // In the order of their ids, as everybody locks.
    let own = sqlx::query!(
        "select job.id, job.lease as \"lease!\"
        from job join unnest($1::bigint[], $2::bigint[]) as mine (id, lease) on job.id = mine.id and job.lease = mine.lease
        where job.state = 'running'
        order by job.id
        for update of job",
        &ids,
        &leases
    )
    .fetch_all(&mut **tx)
    .await
    .context("check the leases")?;
    let ids: Vec<i64> = own.iter().map(|it| it.id).collect();
    let leases: Vec<i64> = own.iter().map(|it| it.lease).collect();
    sqlx::query!(
        "with closed as (
            update attempt set ended_at = now(), outcome = 'done' where lease = any($2) and ended_at is null
        ),
        ended as (
            delete from job
            where id = any($1)
            returning id, key, kind, lane, priority, n_attempts, max_attempts, limit_s, subject, affinity, megapixels, task,
                created_at, started_at
        )
        insert into job_history (id, key, kind, lane, priority, state, n_attempts, max_attempts, limit_s, subject, affinity,
            megapixels, task, created_at, started_at)
        select id, key, kind, lane, priority, 'done', n_attempts, max_attempts, limit_s, subject, affinity,
            megapixels, task::jsonb, created_at, started_at
        from ended",
        &ids,
        &leases
    )
    .execute(&mut **tx)
    .await
    .context("end the jobs")?;
    release_children(tx, &ids, State::Done).await?;
    Ok(leases.into_iter().map(Lease).collect())
}
