//! The unfinished jobs and the live workers, counted for whoever watches: one count serves all who ask.
//!
//! Counting reads the hot table once. However many workers are asked however often, it is done at most once in
//! [`SHORTEST`], and seldom enough that it takes no more than a fiftieth of one connection's time.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use sqlx::types::Json;

/// The shortest time between two counts.
pub const SHORTEST: Duration = Duration::from_secs(5);
/// A count is followed by this many times its own duration without one.
const REST: f64 = 50.0;

/// What was counted.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Gauge {
    /// Unfinished jobs by state (`waiting`, `ready`, `held`, `later` or `running`) and kind.
    pub jobs: BTreeMap<String, BTreeMap<String, i64>>,
    /// Seconds for which the longest waiting job could have been claimed, by kind.
    pub oldest_ready_s: BTreeMap<String, f64>,
    /// Workers that have not stopped and have beaten within the last minute.
    pub n_workers: i64,
    /// Their slots.
    pub n_slots: i64,
    /// Schedules whose latest firing has failed or cannot be done.
    pub n_schedules_failing: i64,
}

/// A gauge, and how old it is.
#[derive(Clone, Debug)]
pub struct Measured {
    /// What was counted.
    pub gauge: Gauge,
    /// Seconds since.
    pub age_s: f64,
    /// Seconds that counting took.
    pub took_s: f64,
}

/// The latest count, none if there has not been one yet; counts anew if that is due and nobody else is about it.
///
/// # Errors
/// Postgres is out of reach.
pub async fn measure(pool: &PgPool) -> anyhow::Result<Option<Measured>> {
    let mut tx = pool.begin().await?;
    let due = sqlx::query_scalar!(
        "select true as \"due!\" from queue_gauge where next_at <= clock_timestamp() for update skip locked"
    )
    .fetch_optional(&mut *tx)
    .await
    .context("see whether the queue's count is due")?;
    if due.is_some() {
        let began = std::time::Instant::now();
        let gauge = match count(&mut tx).await {
            Ok(gauge) => gauge,
            Err(error) => {
                tx.rollback().await?;
                // The old count stands, and its age says so.
                put_off(pool).await?;
                return Err(error);
            }
        };
        let took_s = began.elapsed().as_secs_f64();
        let rest_s = SHORTEST.as_secs_f64().max(REST * took_s);
        sqlx::query!(
            "update queue_gauge set taken_at = clock_timestamp(), took_s = $1, body = $3,
                next_at = clock_timestamp() + make_interval(secs => $2)",
            took_s,
            rest_s,
            Json(&gauge) as _
        )
        .execute(&mut *tx)
        .await
        .context("keep the queue's count")?;
    }
    tx.commit().await?;
    let row = sqlx::query!(
        "select body as \"body: Json<Gauge>\", took_s,
            extract(epoch from clock_timestamp() - nullif(taken_at, '-infinity'))::float8 as age_s
        from queue_gauge where taken_at > '-infinity'"
    )
    .fetch_optional(pool)
    .await
    .context("read the queue's count")?;
    Ok(row.map(|row| Measured { gauge: row.body.0, age_s: row.age_s.unwrap_or_default().max(0.0), took_s: row.took_s }))
}

async fn put_off(pool: &PgPool) -> anyhow::Result<()> {
    sqlx::query!("update queue_gauge set next_at = clock_timestamp() + interval '5 minutes'")
        .execute(pool)
        .await
        .context("put the queue's count off")?;
    Ok(())
}

async fn count(tx: &mut super::Tx<'_>) -> anyhow::Result<Gauge> {
    sqlx::query!("set local statement_timeout = '60s'").execute(&mut **tx).await?;
    let rows = sqlx::query!(
        "select kind,
            case
                when state = 'ready' and held then 'held'
                when state = 'ready' and run_at > now() then 'later'
                else state
            end as \"state!\",
            count(*) as \"n!\",
            extract(epoch from now() - min(run_at))::float8 as \"oldest_s!\"
        from job
        group by 1, 2"
    )
    .fetch_all(&mut **tx)
    .await
    .context("count the unfinished jobs")?;
    let mut gauge = Gauge::default();
    for row in rows {
        if row.state == "ready" {
            gauge.oldest_ready_s.insert(row.kind.clone(), row.oldest_s.max(0.0));
        }
        gauge.jobs.entry(row.state).or_default().insert(row.kind, row.n);
    }
    let workers = sqlx::query!(
        "select count(*) as \"n!\", coalesce(sum(n_slots), 0) as \"n_slots!\"
        from worker
        where stopped_at is null and beat_at > now() - interval '1 minute'"
    )
    .fetch_one(&mut **tx)
    .await
    .context("count the workers")?;
    (gauge.n_workers, gauge.n_slots) = (workers.n, workers.n_slots);
    gauge.n_schedules_failing = sqlx::query_scalar!(
        "select count(*) as \"n!\"
        from schedule
        cross join lateral (
            select state, error from firing where schedule_id = schedule.id order by due_at desc limit 1
        ) as last
        where removed_at is null and last.state in ('due', 'failed') and last.error is not null"
    )
    .fetch_one(&mut **tx)
    .await
    .context("look for failing schedules")?;
    Ok(gauge)
}
