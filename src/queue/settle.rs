//! How attempts and jobs end, and what that means for the jobs that wait for them.

use anyhow::Context;
use sqlx::Connection;
use uuid::Uuid;

use super::batch::finish_many;
use super::locks::{Reach, lock};
use super::wake::{Call, notify};
use super::{LeaseLost, Tx, backoff_limit_s, lanes};
use crate::job::outcome::Cause;
use crate::job::{JobId, Lease, State};

/// How many lines of its log a job's error ends with, if its attempts could not say what happened.
const LAST_LINES: i64 = 20;
/// The most characters of such a line.
const LAST_LINE_CHARS: i32 = 200;
/// How often a job may run out of memory: a second try, where there is more.
const MOST_OOM: i16 = 1;

/// Ends a job well, in the transaction that writes its result.
///
/// # Errors
/// [`LeaseLost`], and then the caller must roll back; or Postgres is out of reach.
pub async fn finish(tx: &mut Tx<'_>, job: JobId, lease: Lease) -> anyhow::Result<()> {
    if finish_many(tx, &[(job, lease)]).await?.is_empty() {
        return Err(LeaseLost.into());
    }
    Ok(())
}

/// Holds a job's lease until the transaction ends, so that what is written meanwhile is the lease holder's.
///
/// # Errors
/// [`LeaseLost`], or Postgres is out of reach.
pub async fn hold(tx: &mut Tx<'_>, job: JobId, lease: Lease) -> anyhow::Result<()> {
    sqlx::query!("select from job where id = $1 and lease = $2 and state = 'running' for update", job.0, lease.0)
        .fetch_optional(&mut **tx)
        .await
        .context("check the lease")?
        .ok_or(LeaseLost)?;
    Ok(())
}

/// Ends an attempt that failed for the machine's fault: the job is tried again after a while, or fails if this was its
/// last attempt, or the second that ran out of memory. One that somebody has cancelled ends as that. True if it will be
/// tried again.
///
/// # Errors
/// [`LeaseLost`], or Postgres is out of reach; nothing is written then.
pub async fn retry_later(tx: &mut Tx<'_>, job: JobId, lease: Lease, cause: Cause, error: &str) -> anyhow::Result<bool> {
    end_attempt(tx, &Ended { job, lease, cause, error, outcome: "retried", wait: Wait::Backoff }).await
}

/// When a job is tried again.
pub(super) enum Wait {
    /// After a random time that grows with the attempts.
    Backoff,
    /// At once after the first attempt, later as [`Self::Backoff`]: a lost worker is no reason to wait, unless the job
    /// keeps losing them.
    AtFirstNone,
}

/// An attempt that ended without a result.
pub(super) struct Ended<'a> {
    pub(super) job: JobId,
    pub(super) lease: Lease,
    pub(super) cause: Cause,
    pub(super) error: &'a str,
    /// The attempt's outcome if the job is tried again.
    pub(super) outcome: &'a str,
    pub(super) wait: Wait,
}

/// Ends an attempt without a result: the job is tried again, fails, or was cancelled. True if it is tried again.
pub(super) async fn end_attempt(tx: &mut Tx<'_>, it: &Ended<'_>) -> anyhow::Result<bool> {
    let reach = |tries: &Tries| match tries {
        Tries { cancelled: true, .. } => Reach::Dependants,
        tries if tries.are_over(it.cause) => Reach::Sweeps,
        _ => Reach::Children,
    };
    let (tries, error) = (own(tx, it.job, it.lease, reach).await?, it.error);
    if tries.cancelled {
        close_attempt(tx, it.lease, "cancelled", Some(it.cause), Some(error)).await?;
        end(tx, &[it.job.0], State::Cancelled, Some("cancelled while it ran")).await?;
        return Ok(false);
    }
    if tries.are_over(it.cause) {
        close_attempt(tx, it.lease, if it.outcome == "lost" { "lost" } else { "failed" }, Some(it.cause), Some(error))
            .await?;
        let mut error = format!("{error} (attempt {} of {})", tries.n_attempts, tries.max_attempts);
        if it.cause == Cause::Memory && tries.n_oom >= MOST_OOM {
            error.push_str(
                "; memory ran out twice: give it a worker with more, or ask for less: a smaller size, or fewer slots beside it",
            );
        }
        if it.cause.is_death() {
            error.push_str(&last_lines(tx, it.lease).await?);
        }
        end_and_stop(tx, &[it.job.0], State::Failed, Some(&error), &tries.stopping).await?;
        return Ok(false);
    }
    close_attempt(tx, it.lease, it.outcome, Some(it.cause), Some(error)).await?;
    if it.cause == Cause::Memory {
        sqlx::query!("update job set n_oom = n_oom + 1 where id = $1", it.job.0).execute(&mut **tx).await?;
    }
    let within_s = match it.wait {
        Wait::AtFirstNone if tries.n_attempts == 1 => 0.0,
        _ => backoff_limit_s(tries.n_attempts),
    };
    put_back(tx, it.job, within_s).await?;
    if it.cause == Cause::Memory
        && let Some(had) = exceeded_memory(tx, it.lease).await?
    {
        lanes::raise_memory(tx, it.job, had).await?;
    }
    Ok(true)
}

/// How much memory, in GiB, each GPU had of the slot that an attempt ran in; none for slots on the processor, and where no
/// worker has a GPU with more: to wait for one would be to wait for ever.
async fn exceeded_memory(tx: &mut Tx<'_>, lease: Lease) -> anyhow::Result<Option<u32>> {
    let had = sqlx::query_scalar!(
        "with had as (
            select min(greatest(memory_gib - coalesce(foreign_mib, 0) / 1024, 0)) as memory_gib
            from attempt
            join worker_device on worker_device.worker_id = attempt.worker_id and worker_device.slot = attempt.slot
            where attempt.lease = $1
        )
        select had.memory_gib as \"memory_gib!\"
        from had
        where exists (
            select
            from attempt
            join lane as asked on asked.id = attempt.lane
            join slot on slot.gpu_memory_gib > had.memory_gib
            where attempt.lease = $1
                and lane_fits(asked, slot.n_gpus, slot.gpu_model, slot.gpu_memory_gib, slot.labels)
        )",
        lease.0
    )
    .fetch_optional(&mut **tx)
    .await
    .context("look at the GPU's memory")?;
    Ok(had.and_then(|it| u32::try_from(it).ok()))
}

/// The end of an attempt's log as the end of an error; empty if it printed nothing.
async fn last_lines(tx: &mut Tx<'_>, lease: Lease) -> anyhow::Result<String> {
    let lines = sqlx::query_scalar!(
        "select left(line, $3) as \"line!\"
        from (select seq, line from attempt_log where lease = $1 and trim(line) <> '' order by seq desc limit $2) as last
        order by seq",
        lease.0,
        LAST_LINES,
        LAST_LINE_CHARS
    )
    .fetch_all(&mut **tx)
    .await
    .context("read the end of the log")?;
    let lines: String = lines.iter().map(|it| format!("\n  {}", it.trim_end())).collect();
    Ok(if lines.is_empty() { lines } else { format!("\nthe end of its log:{lines}") })
}

/// Ends a job that failed for its own fault: trying again cannot help.
///
/// # Errors
/// [`LeaseLost`], or Postgres is out of reach; nothing is written then.
pub async fn fail(tx: &mut Tx<'_>, job: JobId, lease: Lease, error: &str) -> anyhow::Result<()> {
    let stopping = own_as_far_as(tx, job, lease, Reach::Sweeps).await?.stopping;
    close_attempt(tx, lease, "failed", Some(Cause::Task), Some(error)).await?;
    end_and_stop(tx, &[job.0], State::Failed, Some(error), &stopping).await
}

/// Ends a running job that was told to end: it ends as cancelled if somebody cancelled it, and is given back uncharged
/// if not, or if it is wanted again meanwhile.
///
/// # Errors
/// [`LeaseLost`], or Postgres is out of reach; nothing is written then.
pub async fn release(tx: &mut Tx<'_>, job: JobId, lease: Lease) -> anyhow::Result<()> {
    let reach = |tries: &Tries| if tries.cancelled { Reach::Dependants } else { Reach::Children };
    if own(tx, job, lease, reach).await?.cancelled {
        close_attempt(tx, lease, "cancelled", Some(Cause::Order), None).await?;
        return end(tx, &[job.0], State::Cancelled, Some("cancelled while it ran")).await;
    }
    close_attempt(tx, lease, "released", Some(Cause::Order), None).await?;
    sqlx::query!("update job set n_attempts = n_attempts - 1 where id = $1", job.0).execute(&mut **tx).await?;
    put_back(tx, job, 0.0).await
}

/// Says that a worker has stopped; its jobs must have been settled before.
///
/// # Errors
/// Postgres is out of reach.
pub async fn retire(pool: &sqlx::PgPool, worker: Uuid) -> anyhow::Result<()> {
    sqlx::query!("update worker set stopped_at = now() where id = $1 and stopped_at is null", worker)
        .execute(pool)
        .await
        .context("say that the worker stops")?;
    Ok(())
}

/// How often a job was tried, and may be.
struct Tries {
    n_attempts: i32,
    max_attempts: i32,
    /// How many of them ran out of memory.
    n_oom: i16,
    /// Whether somebody wants it to end.
    cancelled: bool,
    /// The sweeps that its failure stops, locked.
    stopping: Vec<i32>,
}

impl Tries {
    /// Whether an attempt that ends for this cause was the last.
    fn are_over(&self, cause: Cause) -> bool {
        self.n_attempts >= self.max_attempts || (cause == Cause::Memory && self.n_oom >= MOST_OOM)
    }
}

/// Locks a running job, if the lease is still its own, and what its end may reach: how far that is shows only once the job
/// is locked, for it may have been cancelled just before. What was locked too little of is let go and locked again in order.
async fn own(tx: &mut Tx<'_>, job: JobId, lease: Lease, reach: impl Fn(&Tries) -> Reach) -> anyhow::Result<Tries> {
    let mut locked = Reach::Children;
    loop {
        let mut attempt = (**tx).begin().await.context("set a savepoint")?;
        let tries = own_as_far_as(&mut attempt, job, lease, locked).await?;
        let wanted = reach(&tries);
        if wanted <= locked {
            attempt.commit().await.context("keep what is locked")?;
            return Ok(tries);
        }
        attempt.rollback().await.context("let go of what is locked")?;
        locked = wanted;
    }
}

async fn own_as_far_as(tx: &mut Tx<'_>, job: JobId, lease: Lease, reach: Reach) -> anyhow::Result<Tries> {
    if reach != Reach::Children {
        let stopping = lock(tx, job, reach).await?;
        return Ok(Tries { stopping, ..look(tx, job, lease).await? });
    }
    // The usual case, in one question. An array, not a sub-select beside an `or`, so that the planner uses the index.
    let locked = sqlx::query!(
        "select id, n_attempts, max_attempts, n_oom, cancel_requested_at is not null as \"cancelled!\",
            coalesce(lease = $2 or $3, false) as \"held!\"
        from job
        where id = any(array(select child from job_edge where parent = $1) || $1::bigint)
        order by id
        for update",
        job.0,
        lease.0,
        super::fence::is_down()
    )
    .fetch_all(&mut **tx)
    .await
    .context("check the lease")?;
    let own = locked.iter().find(|it| it.id == job.0 && it.held).ok_or(LeaseLost)?;
    Ok(Tries {
        n_attempts: own.n_attempts,
        max_attempts: own.max_attempts,
        n_oom: own.n_oom,
        cancelled: own.cancelled,
        stopping: Vec::new(),
    })
}

/// Looks at a running job, if the lease is its own.
async fn look(tx: &mut Tx<'_>, job: JobId, lease: Lease) -> anyhow::Result<Tries> {
    let row = sqlx::query!(
        "select n_attempts, max_attempts, n_oom, cancel_requested_at is not null as \"cancelled!\"
        from job
        where id = $1 and (lease = $2 or $3) and state = 'running'",
        job.0,
        lease.0,
        super::fence::is_down()
    )
    .fetch_optional(&mut **tx)
    .await
    .context("check the lease")?;
    let row = row.ok_or(LeaseLost)?;
    Ok(Tries {
        n_attempts: row.n_attempts,
        max_attempts: row.max_attempts,
        n_oom: row.n_oom,
        cancelled: row.cancelled,
        stopping: Vec::new(),
    })
}

async fn close_attempt(
    tx: &mut Tx<'_>,
    lease: Lease,
    outcome: &str,
    cause: Option<Cause>,
    error: Option<&str>,
) -> anyhow::Result<()> {
    sqlx::query!(
        "update attempt set ended_at = now(), outcome = $2, cause = $3, error = $4 where lease = $1 and ended_at is null",
        lease.0,
        outcome,
        cause.map(Cause::word),
        error
    )
    .execute(&mut **tx)
    .await
    .context("close the attempt")?;
    Ok(())
}

/// Makes a running job ready again, at a moment drawn from the next `within_s` seconds. If one of its parents has been
/// revived while it ran, it waits for that.
pub(super) async fn put_back(tx: &mut Tx<'_>, job: JobId, within_s: f64) -> anyhow::Result<()> {
    sqlx::query!(
        "with blockers as (
            select count(*)::int as n
            from job_edge join job as parent on parent.id = job_edge.parent
            where job_edge.child = $1
        )
        update job
        set state = case when blockers.n > 0 then 'waiting' else 'ready' end, n_blockers = blockers.n,
            lease = null, worker_id = null, slot = null, started_at = null, deadline_at = null,
            progress = null, run_at = now() + make_interval(secs => random() * $2)
        from blockers
        where id = $1",
        job.0,
        within_s
    )
    .execute(&mut **tx)
    .await
    .context("put the job back")?;
    notify(tx, Call::Ready).await
}

/// Ends jobs without a result, whatever state they are in, and releases, skips or cancels what depends on them.
pub(super) async fn end(tx: &mut Tx<'_>, jobs: &[i64], state: State, error: Option<&str>) -> anyhow::Result<()> {
    end_and_stop(tx, jobs, state, error, &[]).await
}

/// As [`end`], and cancels the rest of the sweeps that stop with it.
async fn end_and_stop(
    tx: &mut Tx<'_>,
    jobs: &[i64],
    state: State,
    error: Option<&str>,
    stopping: &[i32],
) -> anyhow::Result<()> {
    let mut ending: Vec<i64> = jobs.to_vec();
    let (mut state, mut error) = (state, error.map(str::to_owned));
    while !ending.is_empty() {
        let ended = move_to_history(tx, &ending, state, error.as_deref()).await?;
        let orphans = release_children(tx, &ended).await?;
        if state == State::Failed {
            for sweep in stopping {
                Box::pin(super::control::cancel_sweep(tx, *sweep)).await?;
            }
        }
        if !orphans.is_empty() {
            error = Some(format!("a job that it needs ended as {state}"));
            state = State::Skipped;
        }
        ending = orphans;
    }
    Ok(())
}

/// Moves jobs to the history, those of them that have not ended yet.
async fn move_to_history(tx: &mut Tx<'_>, jobs: &[i64], state: State, error: Option<&str>) -> anyhow::Result<Vec<i64>> {
    sqlx::query_scalar!(
        "with ended as (
            delete from job
            where id = any($1)
            returning id, key, kind, lane, priority, n_attempts, max_attempts, limit_s, subject, affinity, megapixels, task,
                created_at, started_at
        )
        insert into job_history (id, key, kind, lane, priority, state, n_attempts, max_attempts, limit_s, subject, affinity,
            megapixels, task, error, created_at, started_at)
        select id, key, kind, lane, priority, $2, n_attempts, max_attempts, limit_s, subject, affinity,
            megapixels, task::jsonb, $3, created_at, started_at
        from ended
        returning id",
        jobs,
        state.word(),
        error
    )
    .fetch_all(&mut **tx)
    .await
    .context("end the job")
}

/// Takes parents that ended without a result off the counts of the children that can do without. Returns the children that
/// cannot run any more.
async fn release_children(tx: &mut Tx<'_>, parents: &[i64]) -> anyhow::Result<Vec<i64>> {
    // Children are locked in the order of their ids before anything changes: two parents that end
    // at the same time would otherwise wait for each other.
    let children = sqlx::query!(
        "select id
        from job
        where id in (select child from job_edge where parent = any($1))
        order by id
        for update",
        parents
    )
    .fetch_all(&mut **tx)
    .await
    .context("lock the dependants")?;
    if children.is_empty() {
        return Ok(Vec::new());
    }
    let released = sqlx::query_scalar!(
        "with blocked as (
            select child, count(*)::int as n
            from job_edge
            where parent = any($1) and not needs
            group by child
        )
        update job
        set n_blockers = n_blockers - blocked.n,
            state = case when n_blockers = blocked.n then 'ready' else 'waiting' end,
            run_at = case when n_blockers = blocked.n then now() else run_at end
        from blocked
        where job.id = blocked.child and job.state = 'waiting'
        returning n_blockers = 0 as \"ready!\"",
        parents
    )
    .fetch_all(&mut **tx)
    .await
    .context("release the dependants")?;
    if released.contains(&true) {
        notify(tx, Call::Ready).await?;
    }
    sqlx::query_scalar!(
        "select distinct job.id
        from job join job_edge on job_edge.child = job.id
        where job_edge.parent = any($1) and job_edge.needs and job.state <> 'running'",
        parents
    )
    .fetch_all(&mut **tx)
    .await
    .context("find the dependants that cannot run")
}
