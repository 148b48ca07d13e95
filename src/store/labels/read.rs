//! Reading ratings and verdicts: all, or those of a sweep's pictures.

use anyhow::Context;
use sqlx::PgPool;
use time::OffsetDateTime;

use crate::job::Hash;
use crate::labels::{Area, Judge, Pair, Rating, Scale, Verdict};

/// When something was written, by the database's clock.
pub type Moment = OffsetDateTime;

/// A label and when it was written.
#[derive(Clone, PartialEq, Debug)]
pub struct Said<T> {
    /// The label.
    pub label: T,
    /// When it was written.
    pub at: Moment,
}

/// Ratings and verdicts, in an order that does not depend on when they were written.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Labels {
    /// The ratings.
    pub ratings: Vec<Said<Rating>>,
    /// The verdicts.
    pub verdicts: Vec<Said<Verdict>>,
}

/// What was said of a sweep's pictures: ratings of its pictures and of parts of them, verdicts on two of its pictures
/// and on two models that stand for sources of it. With `until`, only what had been said then.
///
/// # Errors
/// Postgres is out of reach.
pub async fn of_sweep(pool: &PgPool, sweep: i32, until: Option<Moment>) -> anyhow::Result<Labels> {
    read(pool, Some(sweep), until).await
}

/// All that was said of whatever.
///
/// # Errors
/// Postgres is out of reach.
pub async fn all(pool: &PgPool) -> anyhow::Result<Labels> {
    read(pool, None, None).await
}

async fn read(pool: &PgPool, sweep: Option<i32>, until: Option<Moment>) -> anyhow::Result<Labels> {
    Ok(Labels { ratings: ratings(pool, sweep, until).await?, verdicts: verdicts(pool, sweep, until).await? })
}

async fn ratings(pool: &PgPool, sweep: Option<i32>, until: Option<Moment>) -> anyhow::Result<Vec<Said<Rating>>> {
    let rows = sqlx::query!(
        "select picture, x, y, width, height, aspect, judge, rater, variant, value, low, high, attention, said_at
        from rating
        where ($1::int is null or picture in (select picture from cell where sweep_id = $1))
            and ($2::timestamptz is null or said_at <= $2)
        order by aspect, judge, rater, variant, key",
        sweep,
        until
    )
    .fetch_all(pool)
    .await
    .context("read the ratings")?;
    rows.into_iter()
        .map(|row| {
            let label = Rating {
                picture: Hash::try_from(row.picture)?,
                area: area([row.x, row.y, row.width, row.height])?,
                aspect: row.aspect,
                judge: Judge { kind: row.judge.parse()?, name: row.rater, variant: row.variant },
                value: row.value,
                scale: row.low.zip(row.high).map(|(low, high)| Scale { low, high }),
                attention: row.attention,
            };
            Ok(Said { label, at: row.said_at })
        })
        .collect()
}

async fn verdicts(pool: &PgPool, sweep: Option<i32>, until: Option<Moment>) -> anyhow::Result<Vec<Said<Verdict>>> {
    let rows = sqlx::query!(
        "with models as (select coalesce(model, name) as model from source where sweep_id = $1)
        select first, second, first_model, second_model, prompt, x, y, width, height, aspect, judge, rater, variant,
            shown, choice, reason, attention, said_at
        from verdict
        where ($1::int is null
                or first in (select picture from cell where sweep_id = $1) and second in (select picture from cell where sweep_id = $1)
                or first_model in (select model from models) and second_model in (select model from models))
            and ($2::timestamptz is null or said_at <= $2)
        order by aspect, judge, rater, variant, key",
        sweep,
        until
    )
    .fetch_all(pool)
    .await
    .context("read the verdicts")?;
    rows.into_iter()
        .map(|row| {
            let pair = match (row.first, row.second, row.first_model, row.second_model, row.prompt) {
                (Some(first), Some(second), ..) => {
                    Pair::Pictures { first: Hash::try_from(first)?, second: Hash::try_from(second)? }
                }
                (_, _, Some(first), Some(second), Some(prompt)) => Pair::Models { first, second, prompt },
                _ => anyhow::bail!("a verdict is of two pictures or of two models"),
            };
            let label = Verdict {
                pair,
                area: area([row.x, row.y, row.width, row.height])?,
                aspect: row.aspect,
                judge: Judge { kind: row.judge.parse()?, name: row.rater, variant: row.variant },
                shown: row.shown.parse()?,
                choice: row.choice.parse()?,
                reason: row.reason,
                attention: row.attention,
            };
            Ok(Said { label, at: row.said_at })
        })
        .collect()
}

fn area(sides: [Option<i32>; 4]) -> anyhow::Result<Option<Area>> {
    let [Some(x), Some(y), Some(width), Some(height)] = sides else { return Ok(None) };
    Ok(Some(Area { x: x.try_into()?, y: y.try_into()?, width: width.try_into()?, height: height.try_into()? }))
}
