//! The order of what is ready: priority, then the sweeps' turns, then the id.

use anyhow::Context;

use super::Tx;
use super::locks::lock_sweep;
use super::wake::{Call, notify};

/// Gives jobs the highest priority of the sweeps that want them. Those whose priority changes begin where their lane's virtual
/// time is, in their old order.
///
/// # Errors
/// Postgres is out of reach.
pub(super) async fn reorder(tx: &mut Tx<'_>, jobs: &[i64]) -> anyhow::Result<()> {
    sqlx::query!(
        "with locked as (
            select id, lane, priority, turn from job where id = any($1) order by id for update
        ),
        wanted as (
            select locked.id, locked.lane, locked.turn, locked.priority as old, max(sweep.priority) as new
            from locked
            join sweep_job on sweep_job.job_id = locked.id
            join sweep on sweep.id = sweep_job.sweep_id and sweep.cancelled_at is null
            group by locked.id, locked.lane, locked.turn, locked.priority
        ),
        moving as (
            select id, new, lane, row_number() over (partition by lane, new order by turn, id) - 1 as place
            from wanted
            where old <> new
        ),
        clock as materialized (
            select lane, new, turn_now(lane, new) as turn
            from (select distinct lane, new from moving) as lanes
        )
        update job
        set priority = moving.new, turn = clock.turn + moving.place
        from moving join clock on clock.lane = moving.lane and clock.new = moving.new
        where job.id = moving.id",
        jobs
    )
    .execute(&mut **tx)
    .await
    .context("order the jobs")?;
    Ok(())
}

/// Changes the priority of a sweep and of its jobs that have not ended. Jobs that several sweeps want have the highest priority
/// of them.
///
/// # Errors
/// Postgres is out of reach.
pub async fn set_priority(tx: &mut Tx<'_>, sweep: i32, priority: i16) -> anyhow::Result<()> {
    let jobs = lock_sweep(tx, sweep).await?;
    sqlx::query!("update sweep set priority = $2 where id = $1", sweep, priority)
        .execute(&mut **tx)
        .await
        .context("change the sweep's priority")?;
    reorder(tx, &jobs).await?;
    notify(tx, Call::Ready).await
}
