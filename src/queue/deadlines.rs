//! How long attempts may take, changed after jobs were enqueued.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;

use super::Tx;

/// Gives jobs of a sweep, unfinished ones and those that a retry may revive, the limits that it has for their kinds. What
/// runs keeps its own; kinds that the sweep says nothing of keep theirs.
///
/// # Errors
/// Postgres is out of reach.
pub(super) async fn set(tx: &mut Tx<'_>, sweep: i32, limits: &BTreeMap<String, Duration>) -> anyhow::Result<()> {
    for (kind, limit) in limits {
        let limit_s = i32::try_from(limit.as_secs()).unwrap_or(i32::MAX);
        sqlx::query!(
            "with locked as (
                select id
                from job
                where id in (select job_id from sweep_job where sweep_id = $1)
                    and kind = $2 and limit_s <> $3 and state <> 'running'
                order by id
                for update
            )
            update job set limit_s = $3 where id in (select id from locked)",
            sweep,
            kind,
            limit_s
        )
        .execute(&mut **tx)
        .await
        .context("set the limits")?;
        sqlx::query!(
            "update job_history set limit_s = $3
            where id in (select job_id from sweep_job where sweep_id = $1)
                and kind = $2 and limit_s <> $3 and state <> 'done'",
            sweep,
            kind,
            limit_s
        )
        .execute(&mut **tx)
        .await
        .context("set the limits of what may be retried")?;
    }
    Ok(())
}
