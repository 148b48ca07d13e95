//! Giving back the jobs of workers that are gone and of attempts that outlived their deadline.

use std::time::Duration;

use anyhow::Context;
use sqlx::PgPool;

use super::LeaseLost;
use super::settle::{Ended, Wait, end_attempt};
use crate::job::outcome::Cause;
use crate::job::{JobId, Lease};

/// How many orphans are looked for at a time.
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
    // Past the jobs that were looked at: one that cannot be rescued must not hide the others.
    let mut after = 0;
    loop {
        let orphans = orphans(pool, grace, after).await?;
        let Some(last) = orphans.last() else { return Ok(n_rescued) };
        after = last.id;
        for orphan in &orphans {
            match rescue_one(pool, orphan).await {
                Ok(()) => n_rescued += 1,
                // Somebody else was quicker, or its worker after all.
                Err(error) if error.is::<LeaseLost>() => {}
                Err(error) => {
                    tracing::warn!(job = orphan.id, error = format!("{error:#}"), "cannot rescue a job yet");
                }
            }
        }
    }
}

/// A running job that its worker will not end.
struct Orphan {
    id: i64,
    lease: i64,
    slot: String,
    worker_gone: bool,
    host: String,
}

/// A page of orphans, those left out that somebody is ending at the moment.
async fn orphans(pool: &PgPool, grace: Duration, after: i64) -> anyhow::Result<Vec<Orphan>> {
    sqlx::query_as!(
        Orphan,
        "select job.id, job.lease as \"lease!\", job.slot as \"slot!\",
            worker.stopped_at is not null as \"worker_gone!\", worker.host
        from job join worker on worker.id = job.worker_id
        where job.state = 'running' and job.id > $3
            and (worker.stopped_at is not null or job.deadline_at < now() - make_interval(secs => $1))
        order by job.id
        limit $2
        for update of job skip locked",
        grace.as_secs_f64(),
        PAGE,
        after
    )
    .fetch_all(pool)
    .await
    .context("find orphaned jobs")
}

/// Rescues one, in a transaction of its own: whatever is wrong with it keeps no other. If somebody holds what its end
/// reaches, a later look finds it again.
async fn rescue_one(pool: &PgPool, orphan: &Orphan) -> anyhow::Result<()> {
    let error = if orphan.worker_gone {
        format!("its worker on {} died or fell silent ({})", orphan.host, orphan.slot)
    } else {
        format!("it outlived its deadline on {} ({})", orphan.host, orphan.slot)
    };
    let ended = Ended {
        job: JobId(orphan.id),
        lease: Lease(orphan.lease),
        cause: if orphan.worker_gone { Cause::Lost } else { Cause::Deadline },
        error: &error,
        outcome: "lost",
        wait: Wait::AtFirstNone,
    };
    let mut tx = pool.begin_with("begin; set local lock_timeout = '500ms'").await.context("begin a transaction")?;
    end_attempt(&mut tx, &ended).await?;
    tx.commit().await.context("commit the rescue")
}
