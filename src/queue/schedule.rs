//! Schedules as people make and see them: their rows, their firings, the orders about them.

pub mod firing;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use sqlx::types::Json;
use time::OffsetDateTime;

use super::calendar::{Calendar, moment, timestamp};
use super::wake::{Call, notify};

/// What a firing does.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Enqueues a sweep file, as it was when the schedule was made.
    Enqueue {
        /// The file's path, for messages.
        file: String,
        /// The folder that its paths start from.
        base: String,
        /// Its text.
        text: String,
    },
    /// Renders a report's definition, as it was when the schedule was made, and mails it.
    Report {
        /// The file's path, for messages.
        file: String,
        /// Its text.
        text: String,
    },
}

/// What becomes of the firings that nobody was there for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    /// They are noted, and left.
    Skip,
    /// The last of them is made up for.
    Once,
    /// Each of them is made up for.
    All,
}

impl Missed {
    /// The word that the database and the command line use.
    pub fn word(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Once => "once",
            Self::All => "all",
        }
    }

    fn read(word: &str) -> anyhow::Result<Self> {
        Ok(match word {
            "skip" => Self::Skip,
            "once" => Self::Once,
            "all" => Self::All,
            other => bail!("`{other}` is no policy for missed firings"),
        })
    }
}

/// A schedule that is to be made.
#[derive(Debug)]
pub struct New<'a> {
    /// What people call it.
    pub name: &'a str,
    /// Its cron line.
    pub cron: &'a str,
    /// The time zone that the line is read in.
    pub zone: &'a str,
    /// What becomes of missed firings.
    pub missed: Missed,
    /// What a firing does.
    pub action: &'a Action,
}

/// The database's time: the only clock that counts.
///
/// # Errors
/// Postgres is out of reach.
pub async fn clock(pool: &PgPool) -> anyhow::Result<OffsetDateTime> {
    sqlx::query_scalar!("select now() as \"now!\"").fetch_one(pool).await.context("ask Postgres for the time")
}

/// Makes a schedule; it comes due at the next time of its line.
///
/// # Errors
/// There is one of that name, the line or the zone is wrong, or Postgres is out of reach.
pub async fn add(pool: &PgPool, new: &New<'_>) -> anyhow::Result<OffsetDateTime> {
    let calendar = Calendar::parse(new.cron, new.zone)?;
    let next = calendar.next(timestamp(clock(pool).await?)?).context("it never comes due")?;
    let due_at = moment(next)?;
    let made = sqlx::query!(
        "insert into schedule (name, cron, zone, missed, action, due_at)
        values ($1, $2, $3, $4, $5, $6)
        on conflict (name) where removed_at is null do nothing",
        new.name,
        new.cron,
        new.zone,
        new.missed.word(),
        Json(new.action) as _,
        due_at
    )
    .execute(pool)
    .await
    .context("make the schedule")?;
    if made.rows_affected() == 0 {
        bail!("there is a schedule `{0}` already; `jobctl schedule remove {0}` takes it away", new.name);
    }
    Ok(due_at)
}

/// A schedule in a list.
#[derive(Debug, Serialize)]
pub struct Schedule {
    /// Its row.
    #[serde(skip)]
    pub id: i32,
    /// What people call it.
    pub name: String,
    /// Its cron line.
    pub cron: String,
    /// The zone of the line.
    pub zone: String,
    /// What becomes of missed firings.
    pub missed: String,
    /// What it does.
    #[serde(skip)]
    pub action: Json<Action>,
    /// Whether it waits to be resumed.
    pub paused: bool,
    /// When it comes due next, or has come due and waits for a worker.
    #[serde(with = "time::serde::rfc3339::option")]
    pub due_at: Option<OffsetDateTime>,
    /// How its last firing stands.
    pub last_state: Option<String>,
    /// When that came due.
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_due_at: Option<OffsetDateTime>,
    /// What went wrong with it.
    pub last_error: Option<String>,
    /// What it came to.
    pub last_result: Option<serde_json::Value>,
}

impl Schedule {
    /// Its line in its zone.
    ///
    /// # Errors
    /// This machine does not know the zone.
    pub fn calendar(&self) -> anyhow::Result<Calendar> {
        Calendar::parse(&self.cron, &self.zone)
    }
}

/// All schedules by name, or the one that is asked for.
///
/// # Errors
/// Postgres is out of reach.
pub async fn list(pool: &PgPool, name: Option<&str>) -> anyhow::Result<Vec<Schedule>> {
    sqlx::query_as!(
        Schedule,
        "select id, name, cron, zone, missed, action as \"action: Json<Action>\", paused, schedule.due_at,
            last.state as \"last_state?\", last.due_at as \"last_due_at?\", last.error as last_error, last.result as last_result
        from schedule
        left join lateral (
            select state, due_at, error, result
            from firing
            where schedule_id = schedule.id
            order by due_at desc
            limit 1
        ) as last on true
        where removed_at is null and ($1::text is null or name = $1)
        order by name",
        name
    )
    .fetch_all(pool)
    .await
    .context("list the schedules")
}

/// The schedule of that name.
///
/// # Errors
/// There is none: the answer names those that there are.
pub async fn find(pool: &PgPool, name: &str) -> anyhow::Result<Schedule> {
    if let Some(found) = list(pool, Some(name)).await?.pop() {
        return Ok(found);
    }
    let known: Vec<String> = list(pool, None).await?.into_iter().map(|it| it.name).collect();
    if known.is_empty() {
        bail!("there is no schedule `{name}`; `jobctl schedule add` makes one");
    }
    bail!("there is no schedule `{name}`; there are {}", known.join(", "))
}

/// Takes a schedule away. What it has fired stays on record; what is due and has not begun is dropped.
///
/// # Errors
/// Postgres is out of reach.
pub async fn remove(pool: &PgPool, schedule: i32) -> anyhow::Result<()> {
    let mut tx = pool.begin().await?;
    sqlx::query!("update schedule set removed_at = now(), due_at = null where id = $1", schedule)
        .execute(&mut *tx)
        .await
        .context("remove the schedule")?;
    sqlx::query!(
        "update firing set state = 'missed', ended_at = now(), error = 'the schedule was removed before it began'
        where schedule_id = $1 and state = 'due'",
        schedule
    )
    .execute(&mut *tx)
    .await
    .context("drop what is due")?;
    Ok(tx.commit().await?)
}

/// Whether a schedule fires.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Firing {
    /// It does.
    On,
    /// It waits to be resumed; what comes due meanwhile counts as missed.
    Paused,
}

/// Pauses a schedule or resumes it.
///
/// # Errors
/// Postgres is out of reach.
pub async fn set_firing(pool: &PgPool, schedule: i32, firing: Firing) -> anyhow::Result<()> {
    sqlx::query!("update schedule set paused = $2 where id = $1", schedule, firing == Firing::Paused)
        .execute(pool)
        .await
        .context("pause or resume the schedule")?;
    Ok(())
}

/// Makes a schedule come due now, whatever its line says and even if it is paused.
///
/// # Errors
/// Postgres is out of reach.
pub async fn fire(pool: &PgPool, schedule: i32) -> anyhow::Result<OffsetDateTime> {
    let mut tx = pool.begin().await?;
    let due_at = sqlx::query_scalar!(
        "insert into firing (schedule_id, due_at, by_hand, state) values ($1, clock_timestamp(), true, 'due')
        returning due_at",
        schedule
    )
    .fetch_one(&mut *tx)
    .await
    .context("fire the schedule")?;
    notify(&mut tx, Call::Ready).await?;
    tx.commit().await?;
    Ok(due_at)
}

/// One firing, as people see it.
#[derive(Debug, Serialize)]
pub struct Fired {
    /// The schedule's name.
    pub schedule: String,
    /// When it came due.
    #[serde(with = "time::serde::rfc3339")]
    pub due_at: OffsetDateTime,
    /// Whether somebody fired it by hand.
    pub by_hand: bool,
    /// `due`, `running`, `done`, `failed` or `missed`.
    pub state: String,
    /// Times before it without a firing of their own.
    pub n_missed: i32,
    /// How often it was tried.
    pub n_attempts: i32,
    /// The machine that did it or does it.
    pub host: Option<String>,
    /// When it ended.
    #[serde(with = "time::serde::rfc3339::option")]
    pub ended_at: Option<OffsetDateTime>,
    /// What went wrong, the last time.
    pub error: Option<String>,
    /// What it came to.
    pub result: Option<serde_json::Value>,
}

/// The latest firings, of one schedule or of all, removed ones among them.
///
/// # Errors
/// Postgres is out of reach.
pub async fn history(pool: &PgPool, name: Option<&str>, limit: i64) -> anyhow::Result<Vec<Fired>> {
    sqlx::query_as!(
        Fired,
        "select name as schedule, firing.due_at, by_hand, state, n_missed, n_attempts, host, ended_at, error, result
        from firing join schedule on schedule.id = firing.schedule_id
        where $1::text is null or name = $1
        order by firing.due_at desc, schedule.id
        limit $2",
        name,
        limit
    )
    .fetch_all(pool)
    .await
    .context("list the firings")
}
