//! Giving back the jobs of workers that are gone and of attempts that outlived their deadline.

use std::time::Duration;

use anyhow::Context;
use sqlx::PgPool;

use super::settle::{Ended, Tries, Wait, end_attempt};
use crate::job::outcome::Cause;
use crate::job::{JobId, Lease};

/// How many jobs one transaction rescues.
const PAGE: i64 = 100;

/// Gives up workers silent for longer than `stale` and rescues their jobs, as well as those that are `grace` past
/// their deadline without their worker ending them. Returns how many jobs were rescued. Any worker may do this
/// at any time: it works by the database's clock alone.
///
/// # Errors
/// Postgres is out of reach.
pub async fn rescue(pool: &PgPool, stale: Duration, grace: Duration) -> anyhow::Result<usize> {
    let lost = sqlx::query_scalar!(
        "update worker set stopped_at = now()
        where id in (
            select id
            from worker
            where stopped_at is null and beat_at < now() - make_interval(secs => $1)
            order by id
            for update skip locked
        )
        returning host || ' pid ' || pid as \"name!\"",
        stale.as_secs_f64()
    )
    .fetch_all(pool)
    .await
    .context("give up silent workers")?;
    for name in lost {
        tracing::warn!(worker = name, "a worker has gone silent; its jobs are given to others");
    }
    let mut n_rescued = 0;
    loop {
        let n = rescue_page(pool, grace).await?;
        n_rescued += n;
        if n < usize::try_from(PAGE).unwrap_or(usize::MAX) {
            return Ok(n_rescued);
        }
    }
}

async fn rescue_page(pool: &PgPool, grace: Duration) -> anyhow::Result<usize> {
    let mut tx = pool.begin().await?;
    let orphans = sqlx::query!(
        "select job.id, job.lease as \"lease!\", job.n_attempts, job.max_attempts, job.n_oom, job.slot as \"slot!\",
            job.cancel_requested_at is not null as \"cancelled!\",
            worker.stopped_at is not null as \"worker_gone!\", worker.host
        from job join worker on worker.id = job.worker_id
        where job.state = 'running'
            and (worker.stopped_at is not null or job.deadline_at < now() - make_interval(secs => $1))
        order by job.id
        limit $2
        for update of job skip locked",
        grace.as_secs_f64(),
        PAGE
    )
    .fetch_all(&mut *tx)
    .await
    .context("find orphaned jobs")?;
    for orphan in &orphans {
        let (job, lease) = (JobId(orphan.id), Lease(orphan.lease));
        let error = if orphan.worker_gone {
            format!("its worker on {} died or fell silent ({})", orphan.host, orphan.slot)
        } else {
            format!("it outlived its deadline on {} ({})", orphan.host, orphan.slot)
        };
        let tries = Tries {
            n_attempts: orphan.n_attempts,
            max_attempts: orphan.max_attempts,
            n_oom: orphan.n_oom,
            cancelled: orphan.cancelled,
        };
        let cause = if orphan.worker_gone { Cause::Lost } else { Cause::Deadline };
        let ended = Ended { job, lease, tries, cause, error: &error, outcome: "lost", wait: Wait::AtFirstNone };
        end_attempt(&mut tx, &ended).await?;
    }
    tx.commit().await?;
    Ok(orphans.len())
}
