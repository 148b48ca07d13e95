//! Limits: how many jobs of a sweep or of a kind run at a time. A limit is a gate with as many places; a claim takes a free one
//! and the end of the attempt frees it (a trigger sees to that, whoever ends it), so that no two claims can take one place.

use anyhow::Context;
use serde::Serialize;
use sqlx::PgPool;

use super::Tx;
use super::control::jobs_of;
use super::lanes::{close_empty, regate};
use super::locks::alone;
use super::wake::{Call, notify};

/// What a limit is about.
#[derive(Clone, Copy, Debug)]
pub enum Of<'a> {
    /// A sweep.
    Sweep(i32),
    /// A kind of jobs, of all sweeps together.
    Kind(&'a str),
}

/// Lets at most `max_running` of them run at a time; none lifts the limit. What runs goes on, even if it is more.
///
/// # Errors
/// Postgres is out of reach.
pub async fn set(tx: &mut Tx<'_>, of: Of<'_>, max_running: Option<i32>) -> anyhow::Result<()> {
    // Two changes of limits at a time would see half of each other.
    alone(tx).await?;
    let (sweep, kind) = match of {
        Of::Sweep(sweep) => (Some(sweep), None),
        Of::Kind(kind) => (None, Some(kind)),
    };
    let known =
        sqlx::query!("select id, max_running from gate where sweep_id = $1 or kind = $2 for update", sweep, kind)
            .fetch_optional(&mut **tx)
            .await
            .context("look for the gate")?;
    let was_limited = known.as_ref().is_some_and(|it| it.max_running.is_some());
    let gate = match known {
        Some(row) => {
            sqlx::query!("update gate set max_running = $2 where id = $1", row.id, max_running)
                .execute(&mut **tx)
                .await
                .context("change the limit")?;
            row.id
        }
        None if max_running.is_none() => return Ok(()),
        None => sqlx::query_scalar!(
            "insert into gate (sweep_id, kind, max_running) values ($1, $2, $3) returning id",
            sweep,
            kind,
            max_running
        )
        .fetch_one(&mut **tx)
        .await
        .context("make a gate")?,
    };
    if was_limited != max_running.is_some() {
        let jobs = match of {
            Of::Sweep(sweep) => jobs_of(tx, sweep).await?,
            Of::Kind(kind) => sqlx::query_scalar!("select id from job where kind = $1", kind)
                .fetch_all(&mut **tx)
                .await
                .context("find the kind's jobs")?,
        };
        // Locks all of them, and so waits for every claim that has not seen the gate.
        regate(tx, &jobs).await?;
        close_empty(tx).await?;
    }
    if let Some(max_running) = max_running {
        adopt(tx, gate).await?;
        resize(tx, gate, max_running).await?;
    }
    notify(tx, Call::Ready).await
}

/// Gives a place to what runs behind the gate without one.
async fn adopt(tx: &mut Tx<'_>, gate: i32) -> anyhow::Result<()> {
    sqlx::query!(
        "with running as (
            update job
            set has_permit = true
            from lane
            where lane.id = job.lane and (lane.sweep_gate = $1 or lane.kind_gate = $1) and job.state = 'running'
                and not exists (select from permit where permit.gate_id = $1 and permit.lease = job.lease)
            returning job.lease
        )
        insert into permit (gate_id, number, lease)
        select $1, row_number() over (order by lease) + coalesce((select max(number) from permit where gate_id = $1), 0), lease
        from running",
        gate
    )
    .execute(&mut **tx)
    .await
    .context("count what runs already")?;
    Ok(())
}

/// Makes the gate's places `max_running`: those that are taken keep theirs, first, even if they are more.
async fn resize(tx: &mut Tx<'_>, gate: i32, max_running: i32) -> anyhow::Result<()> {
    sqlx::query!("select number from permit where gate_id = $1 order by number for update", gate)
        .fetch_all(&mut **tx)
        .await
        .context("lock the gate's places")?;
    sqlx::query!(
        "update permit
        set number = renumbered.number
        from (
            select number as old, row_number() over (order by lease is null, number) as number
            from permit
            where gate_id = $1
        ) as renumbered
        where permit.gate_id = $1 and permit.number = renumbered.old and permit.number <> renumbered.number",
        gate
    )
    .execute(&mut **tx)
    .await
    .context("number the gate's places")?;
    sqlx::query!("delete from permit where gate_id = $1 and lease is null and number > $2", gate, max_running)
        .execute(&mut **tx)
        .await
        .context("take places away")?;
    sqlx::query!(
        "insert into permit (gate_id, number)
        select $1, series.number
        from generate_series(1, $2::int) as series (number)
        where not exists (select from permit where gate_id = $1 and permit.number = series.number)",
        gate,
        max_running
    )
    .execute(&mut **tx)
    .await
    .context("add places")?;
    Ok(())
}

/// A limit in force.
#[derive(Debug, Serialize)]
pub struct Limit {
    /// The sweep that it is about.
    pub sweep: Option<String>,
    /// The kind that it is about.
    pub kind: Option<String>,
    /// So many may run at a time.
    pub max_running: i32,
    /// So many run now.
    pub n_running: i64,
}

/// The limits in force.
///
/// # Errors
/// Postgres is out of reach.
pub async fn list(pool: &PgPool) -> anyhow::Result<Vec<Limit>> {
    sqlx::query_as!(
        Limit,
        "select sweep.slug as \"sweep?\", gate.kind, gate.max_running as \"max_running!\",
            (select count(*) from permit where gate_id = gate.id and lease is not null) as \"n_running!\"
        from gate left join sweep on sweep.id = gate.sweep_id
        where gate.max_running is not null
            and (sweep.id is null or exists (
                select from sweep_job join job on job.id = sweep_job.job_id where sweep_job.sweep_id = sweep.id
            ))
        order by gate.kind nulls last, sweep.slug"
    )
    .fetch_all(pool)
    .await
    .context("list the limits")
}
