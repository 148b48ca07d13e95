//! Firings as workers see them: schedules that come due, and each firing taken by one worker, once.
//! The unique row of a schedule's time, locks and leases see to that; nobody leads, and only the database's clock counts.

use std::time::Duration;

use anyhow::Context;
use serde::Serialize;
use sqlx::PgPool;
use sqlx::types::Json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Action, Missed};
use crate::queue::calendar::{Calendar, moment, timestamp};
use crate::queue::{LeaseLost, Tx};

/// A firing older than this came while nobody was there: it is a missed one.
const LATE_S: i64 = 60;
/// How often a firing is tried.
const MOST_ATTEMPTS: i32 = 5;
/// The longest wait before the second try, in seconds; it doubles from try to try, up to an hour.
const FIRST_WAIT_S: f64 = 30.0;

/// A firing that a worker has taken: the right to end it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held {
    schedule: i32,
    due_at: OffsetDateTime,
    lease: i64,
}

impl Held {
    /// The schedule's row and the time that it came due.
    pub fn key(self) -> (i32, OffsetDateTime) {
        (self.schedule, self.due_at)
    }
}

/// A firing to be done.
#[derive(Debug)]
pub struct Taken {
    /// The right to end it.
    pub held: Held,
    /// The schedule's name.
    pub name: String,
    /// When it came due.
    pub due_at: OffsetDateTime,
    /// What to do.
    pub action: Action,
}

/// Makes the firings of all schedules that have come due, by their policy for missed ones. Any worker may do this at any
/// time. Returns how many firings are new.
///
/// # Errors
/// Postgres is out of reach.
pub async fn come_due(pool: &PgPool) -> anyhow::Result<usize> {
    let mut tx = pool.begin().await?;
    let rows = sqlx::query!(
        "select id, name, cron, zone, missed, due_at as \"due_at!\", now() as \"now!\"
        from schedule
        where removed_at is null and not paused and due_at <= now()
        order by due_at, id
        limit 20
        for update skip locked"
    )
    .fetch_all(&mut *tx)
    .await
    .context("look for schedules that are due")?;
    let mut n_new = 0;
    for row in rows {
        // Another machine may know the zone.
        let calendar = match Calendar::parse(&row.cron, &row.zone) {
            Ok(calendar) => calendar,
            Err(error) => {
                tracing::warn!(schedule = row.name, error = format!("{error:#}"), "cannot read the schedule here");
                continue;
            }
        };
        let (first, now) = (timestamp(row.due_at)?, timestamp(row.now)?);
        let mut times = vec![first];
        times.extend(calendar.between(first, now));
        let last = *times.last().expect("it holds the first");
        let seen_up_to = match Missed::read(&row.missed)? {
            Missed::All => {
                for at in &times {
                    n_new += insert(&mut tx, row.id, moment(*at)?, 0).await?;
                }
                last
            }
            policy => {
                // More may have passed than are worth counting.
                let last = calendar.last(last, now).unwrap_or(last);
                let is_late = now.as_second() - last.as_second() > LATE_S;
                let n_before = i32::try_from(times.len() - 1).unwrap_or(i32::MAX);
                if policy == Missed::Skip && is_late {
                    note_missed(&mut tx, row.id, moment(last)?, n_before).await?;
                } else {
                    n_new += insert(&mut tx, row.id, moment(last)?, n_before).await?;
                }
                last
            }
        };
        let next = calendar.next(seen_up_to).map(moment).transpose()?;
        sqlx::query!("update schedule set due_at = $2 where id = $1", row.id, next)
            .execute(&mut *tx)
            .await
            .context("set the schedule's next time")?;
    }
    sqlx::query!(
        "update firing
        set state = 'failed', lease = null, holder = null, held_until = null, ended_at = now(),
            error = coalesce(host, 'a worker') || ' fell silent while it did this'
        where state = 'running' and held_until < now() and n_attempts >= $1",
        MOST_ATTEMPTS
    )
    .execute(&mut *tx)
    .await
    .context("give up firings that keep losing their workers")?;
    tx.commit().await?;
    Ok(n_new)
}

async fn insert(tx: &mut Tx<'_>, schedule: i32, due_at: OffsetDateTime, n_missed: i32) -> anyhow::Result<usize> {
    let made = sqlx::query!(
        "insert into firing (schedule_id, due_at, state, n_missed) values ($1, $2, 'due', $3) on conflict do nothing",
        schedule,
        due_at,
        n_missed
    )
    .execute(&mut **tx)
    .await
    .context("note the firing")?;
    Ok(usize::try_from(made.rows_affected()).unwrap_or_default())
}

async fn note_missed(tx: &mut Tx<'_>, schedule: i32, due_at: OffsetDateTime, n_before: i32) -> anyhow::Result<()> {
    sqlx::query!(
        "insert into firing (schedule_id, due_at, state, n_missed, ended_at, error)
        values ($1, $2, 'missed', $3, now(), 'no worker lived, or the schedule was paused')
        on conflict do nothing",
        schedule,
        due_at,
        n_before
    )
    .execute(&mut **tx)
    .await
    .context("note the missed firing")?;
    Ok(())
}

/// Takes the oldest firing that is due, or whose worker has gone silent, for `holder` on `host`, for as long as `hold`;
/// [`renew`] makes that longer. None if there is none, or none that this worker has the folder for.
///
/// # Errors
/// Postgres is out of reach.
pub async fn take(pool: &PgPool, holder: Uuid, host: &str, hold: Duration) -> anyhow::Result<Option<Taken>> {
    let row = sqlx::query!(
        "with next as materialized (
            select firing.schedule_id, firing.due_at
            from firing join schedule on schedule.id = firing.schedule_id
            where ((firing.state = 'due' and firing.run_at <= now()) or (firing.state = 'running' and firing.held_until < now()))
                and schedule.removed_at is null and (firing.by_hand or not schedule.paused)
                and firing.n_attempts < $4
                and (not $1 = any(firing.lacking) or firing.lacked_at < now() - interval '10 minutes')
            order by firing.run_at, firing.schedule_id, firing.due_at
            limit 1
            for update of firing skip locked
        )
        update firing
        set state = 'running', lease = nextval('firing_lease_seq'), holder = $1, host = $2,
            held_until = now() + make_interval(secs => $3), n_attempts = n_attempts + 1, started_at = now()
        from next join schedule on schedule.id = next.schedule_id
        where firing.schedule_id = next.schedule_id and firing.due_at = next.due_at
        returning firing.schedule_id, firing.due_at, firing.lease as \"lease!\", schedule.name,
            schedule.action as \"action: Json<Action>\"",
        holder,
        host,
        hold.as_secs_f64(),
        MOST_ATTEMPTS
    )
    .fetch_optional(pool)
    .await
    .context("take a firing")?;
    Ok(row.map(|row| Taken {
        held: Held { schedule: row.schedule_id, due_at: row.due_at, lease: row.lease },
        name: row.name,
        due_at: row.due_at,
        action: row.action.0,
    }))
}

/// Holds a firing for another `hold`.
///
/// # Errors
/// [`LeaseLost`], or Postgres is out of reach.
pub async fn renew(pool: &PgPool, held: Held, hold: Duration) -> anyhow::Result<()> {
    let renewed = sqlx::query!(
        "update firing set held_until = now() + make_interval(secs => $4)
        where schedule_id = $1 and due_at = $2 and lease = $3",
        held.schedule,
        held.due_at,
        held.lease,
        hold.as_secs_f64()
    )
    .execute(pool)
    .await
    .context("hold the firing")?;
    was_ours(renewed.rows_affected())
}

fn was_ours(n_rows: u64) -> anyhow::Result<()> {
    if n_rows == 1 { Ok(()) } else { Err(LeaseLost.into()) }
}

/// Ends a firing well, in the transaction that does what it is for.
///
/// # Errors
/// [`LeaseLost`], and then the caller must roll back; or Postgres is out of reach.
pub async fn finish(tx: &mut Tx<'_>, held: Held, result: &(impl Serialize + Sync)) -> anyhow::Result<()> {
    let ended = sqlx::query!(
        "update firing
        set state = 'done', lease = null, holder = null, held_until = null, ended_at = now(), error = null, result = $4
        where schedule_id = $1 and due_at = $2 and lease = $3",
        held.schedule,
        held.due_at,
        held.lease,
        Json(result) as _
    )
    .execute(&mut **tx)
    .await
    .context("end the firing")?;
    was_ours(ended.rows_affected())
}

/// Notes why a firing failed; it is tried again after a while, a few times. True if it will be.
///
/// # Errors
/// [`LeaseLost`], or Postgres is out of reach.
pub async fn fail(pool: &PgPool, held: Held, error: &str) -> anyhow::Result<bool> {
    let again = sqlx::query_scalar!(
        "update firing
        set state = case when n_attempts < $5 then 'due' else 'failed' end,
            ended_at = case when n_attempts < $5 then null else now() end,
            run_at = now() + make_interval(secs => (0.5 + random() / 2) * least(3600, $6 * 2 ^ (n_attempts - 1))),
            lease = null, holder = null, held_until = null, error = $4
        where schedule_id = $1 and due_at = $2 and lease = $3
        returning state = 'due' as \"again!\"",
        held.schedule,
        held.due_at,
        held.lease,
        error,
        MOST_ATTEMPTS,
        FIRST_WAIT_S
    )
    .fetch_optional(pool)
    .await
    .context("note why the firing failed")?;
    again.ok_or_else(|| LeaseLost.into())
}

/// Gives a firing back that this worker cannot do, for others; it is not counted as a try.
///
/// # Errors
/// [`LeaseLost`], or Postgres is out of reach.
pub async fn leave_to_others(pool: &PgPool, held: Held, why: &str) -> anyhow::Result<()> {
    let left = sqlx::query!(
        "update firing
        set state = 'due', n_attempts = n_attempts - 1, lacking = lacking || holder, lacked_at = now(),
            lease = null, holder = null, held_until = null, error = $4
        where schedule_id = $1 and due_at = $2 and lease = $3",
        held.schedule,
        held.due_at,
        held.lease,
        why
    )
    .execute(pool)
    .await
    .context("leave the firing to others")?;
    was_ours(left.rows_affected())
}
