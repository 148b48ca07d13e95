//! How fast machines are asked, over all workers: each request reserves its place in time, and an endpoint that wants to be left
//! alone is.

use std::time::Duration;

use anyhow::Context;
use sqlx::PgPool;

/// How fast an endpoint's model may be asked.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Pace {
    /// At most so many requests a minute, evenly spread.
    pub requests_per_minute: Option<f64>,
    /// At most so many tokens a minute.
    pub tokens_per_minute: Option<f64>,
}

impl Pace {
    /// The slower of two in each.
    #[must_use]
    pub fn slower(self, other: Self) -> Self {
        let least = |one: Option<f64>, other: Option<f64>| match (one, other) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        Self {
            requests_per_minute: least(self.requests_per_minute, other.requests_per_minute),
            tokens_per_minute: least(self.tokens_per_minute, other.tokens_per_minute),
        }
    }

    /// By how many seconds a request of so many tokens delays the next: for its being one, and for its tokens.
    fn delays_s(&self, tokens: u32) -> (f64, f64) {
        let of = |n: f64, rate: Option<f64>| rate.map_or(0.0, |rate| 60.0 * n / rate);
        (of(1.0, self.requests_per_minute), of(f64::from(tokens), self.tokens_per_minute))
    }
}

/// Reserves the next place in time for a request of so many tokens. Returns how long it is until then; a place that is not
/// used is lost.
///
/// # Errors
/// Postgres is out of reach.
pub async fn reserve(pool: &PgPool, endpoint: &str, model: &str, pace: Pace, tokens: u32) -> anyhow::Result<Duration> {
    let (request_s, tokens_s) = pace.delays_s(tokens);
    known(pool, endpoint, model).await?;
    let wait_s = sqlx::query_scalar!(
        "with locked as materialized (
            select endpoint, model, requests_at, tokens_at, closed_until
            from ask_pace
            where endpoint = $1 and model = $2
            for update
        ),
        -- One look at the clock: two would be a moment apart.
        timed as materialized (
            select *, clock_timestamp() as now from locked
        ),
        place as materialized (
            select endpoint, model, now, greatest(requests_at, tokens_at, closed_until, now) as at
            from timed
        )
        update ask_pace
        set requests_at = place.at + make_interval(secs => $3), tokens_at = place.at + make_interval(secs => $4)
        from place
        where ask_pace.endpoint = place.endpoint and ask_pace.model = place.model
        returning extract(epoch from place.at - place.now)::float8 as \"wait_s!\"",
        endpoint,
        model,
        request_s,
        tokens_s
    )
    .fetch_one(pool)
    .await
    .context("reserve a place in time")?;
    Ok(seconds(wait_s))
}

/// Takes back what a request has reserved more than it took, or adds what it took more.
///
/// # Errors
/// Postgres is out of reach.
pub async fn correct(pool: &PgPool, endpoint: &str, model: &str, pace: Pace, more_tokens: i64) -> anyhow::Result<()> {
    let Some(rate) = pace.tokens_per_minute.filter(|_| more_tokens != 0) else { return Ok(()) };
    sqlx::query!(
        "update ask_pace set tokens_at = tokens_at + make_interval(secs => $3) where endpoint = $1 and model = $2",
        endpoint,
        model,
        60.0 * more_tokens as f64 / rate
    )
    .execute(pool)
    .await
    .context("correct the pace")?;
    Ok(())
}

/// Leaves an endpoint's model alone for so long, all workers together.
///
/// # Errors
/// Postgres is out of reach.
pub async fn close(pool: &PgPool, endpoint: &str, model: &str, wait: Duration) -> anyhow::Result<()> {
    known(pool, endpoint, model).await?;
    sqlx::query!(
        "update ask_pace set closed_until = greatest(closed_until, clock_timestamp() + make_interval(secs => $3))
        where endpoint = $1 and model = $2",
        endpoint,
        model,
        wait.as_secs_f64()
    )
    .execute(pool)
    .await
    .context("leave the endpoint alone")?;
    Ok(())
}

/// For how long an endpoint's model still wants to be left alone.
///
/// # Errors
/// Postgres is out of reach.
pub async fn closed_for(pool: &PgPool, endpoint: &str, model: &str) -> anyhow::Result<Duration> {
    let wait_s = sqlx::query_scalar!(
        "select extract(epoch from closed_until - clock_timestamp())::float8 as \"wait_s!\"
        from ask_pace
        where endpoint = $1 and model = $2 and closed_until > clock_timestamp()",
        endpoint,
        model
    )
    .fetch_optional(pool)
    .await
    .context("look whether the endpoint wants to be left alone")?;
    Ok(seconds(wait_s.unwrap_or_default()))
}

async fn known(pool: &PgPool, endpoint: &str, model: &str) -> anyhow::Result<()> {
    sqlx::query!("insert into ask_pace (endpoint, model) values ($1, $2) on conflict do nothing", endpoint, model)
        .execute(pool)
        .await
        .context("note the endpoint")?;
    Ok(())
}

fn seconds(it: f64) -> Duration {
    Duration::try_from_secs_f64(it.max(0.0)).unwrap_or(Duration::MAX)
}
