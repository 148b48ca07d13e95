//! Claims of many jobs in one statement, and the good ends of one or many in one transaction of two statements.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use anyhow::Context;
use sqlx::PgPool;
use uuid::Uuid;

use super::claim::{Claimed, claim, understand};
use super::wake::{Call, notify};
use super::{Tx, fence};
use crate::job::needs::Offer;
use crate::job::{JobId, Lease};

/// Takes ready jobs for slots of one worker that offer the same and have nothing loaded, in one statement: each with its
/// slot, all of one lane and priority, and fewer than there are slots where fewer are ready; one where a limit stands before
/// the best ones. None when nothing is ready.
///
/// # Errors
/// Postgres is out of reach.
pub async fn claim_many(
    pool: &PgPool,
    worker: Uuid,
    slots: &[String],
    offer: &Offer,
) -> anyhow::Result<Vec<(String, Claimed)>> {
    let (n_gpus, memory) = (i32::from(offer.n_gpus), i32::try_from(offer.gpu_memory_gib).unwrap_or(i32::MAX));
    let rows =
        sqlx::query_file!("src/queue/claim_many.sql", worker, slots, n_gpus, offer.gpu_model, memory, &offer.labels)
            .fetch_all(pool)
            .await
            .context("claim jobs")?;
    let mut claimed = Vec::with_capacity(rows.len());
    for row in rows {
        let (Some(id), Some(lease), Some(slot), Some(task)) = (row.id, row.lease, row.slot, row.task) else {
            let Some(slot) = slots.first() else { continue };
            let one = claim(pool, worker, slot, offer, None).await?;
            claimed.extend(one.map(|it| (slot.clone(), it)));
            continue;
        };
        let Some(task) = understand(pool, JobId(id), Lease(lease), &task).await? else { continue };
        let job = Claimed {
            id: JobId(id),
            lease: Lease(lease),
            number: u32::try_from(row.n_attempts.unwrap_or_default()).unwrap_or_default(),
            task,
            affinity: row.affinity,
            limit: Duration::from_secs(u64::try_from(row.limit_s.unwrap_or_default()).unwrap_or_default()),
            waited: Duration::ZERO,
        };
        claimed.push((slot, job));
    }
    Ok(claimed)
}

/// Ends jobs well whose leases are still theirs, and says which; the others are left as they are.
///
/// # Errors
/// Postgres is out of reach; nothing is written then.
pub async fn finish_many(tx: &mut Tx<'_>, jobs: &[(JobId, Lease)]) -> anyhow::Result<HashSet<Lease>> {
    let ids: Vec<i64> = jobs.iter().map(|it| it.0.0).collect();
    // With their dependants and in the order of their ids, as everybody locks.
    let locked = sqlx::query!(
        "select id, lease
        from job
        where id = any(array(select child from job_edge where parent = any($1)) || $1::bigint[])
        order by id
        for update",
        &ids
    )
    .fetch_all(&mut **tx)
    .await
    .context("check the leases")?;
    let leases: HashMap<i64, Option<i64>> = locked.into_iter().map(|it| (it.id, it.lease)).collect();
    let is_held =
        |job: JobId, lease: Lease| leases.get(&job.0).is_some_and(|it| *it == Some(lease.0) || fence::is_down());
    let own: Vec<(JobId, Lease)> = jobs.iter().copied().filter(|it| is_held(it.0, it.1)).collect();
    if own.is_empty() {
        return Ok(HashSet::new());
    }
    let (ids, leases): (Vec<i64>, Vec<i64>) = own.iter().map(|it| (it.0.0, it.1.0)).unzip();
    // A statement of its own: it sees the edges that an enqueue has added while the first one waited. Those children are
    // locked in order too, before any is changed.
    let ready = sqlx::query_scalar!(
        "with closed as (
            update attempt set ended_at = now(), outcome = 'done' where lease = any($2) and ended_at is null
        ),
        ended as (
            delete from job
            where id = any($1)
            returning id, key, kind, lane, priority, n_attempts, max_attempts, limit_s, subject, affinity, megapixels, task,
                created_at, started_at
        ),
        kept as (
            insert into job_history (id, key, kind, lane, priority, state, n_attempts, max_attempts, limit_s, subject,
                affinity, megapixels, task, created_at, started_at)
            select id, key, kind, lane, priority, 'done', n_attempts, max_attempts, limit_s, subject, affinity,
                megapixels, task::jsonb, created_at, started_at
            from ended
        ),
        blocked as materialized (
            select child, count(*)::int as n from job_edge where parent = any($1) group by child
        ),
        children as materialized (
            select id from job where id in (select child from blocked) order by id for update
        ),
        released as (
            update job
            set n_blockers = n_blockers - blocked.n,
                state = case when n_blockers = blocked.n then 'ready' else 'waiting' end,
                run_at = case when n_blockers = blocked.n then now() else run_at end
            from blocked join children on children.id = blocked.child
            where job.id = children.id and job.state = 'waiting'
            returning job.n_blockers
        )
        select coalesce(bool_or(n_blockers = 0), false) as \"ready!\" from released",
        &ids,
        &leases
    )
    .fetch_one(&mut **tx)
    .await
    .context("end the jobs")?;
    if ready {
        notify(tx, Call::Ready).await?;
    }
    Ok(own.into_iter().map(|it| it.1).collect())
}
