//! The outbox: mails that are to be sent, each taken by one sender at a time, under a lease.
//!
//! A mail is *waiting*, then *sending* (a sender talks to the server, which has nothing yet), then *handing* (the server may
//! have it), then *sent*. Whoever dies while sending loses the mail to another sender. Whoever dies while handing leaves
//! it *doubtful*: nobody but a person sends it again.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Serialize;
use sqlx::PgPool;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::job::Hash;
use crate::queue::{LeaseLost, Tx};

/// How often a mail is tried: with waits that double up to an hour that is more than two days.
const MOST_ATTEMPTS: i32 = 60;

/// A mail that is to be sent.
#[derive(Debug)]
pub struct Draft<'a> {
    /// Its row, and what makes its Message-ID.
    pub id: Uuid,
    /// The report that it tells of.
    pub report_run: Option<i64>,
    /// The address it comes from.
    pub sender: &'a str,
    /// The addresses it goes to.
    pub recipients: &'a [String],
    /// What it is about.
    pub subject: &'a str,
    /// The whole message in the store.
    pub message: Hash,
    /// Its length.
    pub n_bytes: u64,
}

/// Puts a mail into the outbox, in the transaction that does what it tells of.
///
/// # Errors
/// Postgres is out of reach.
pub async fn put(tx: &mut Tx<'_>, draft: &Draft<'_>) -> anyhow::Result<()> {
    sqlx::query!(
        "insert into artifact (hash, bytes, media) values ($1, $2, 'message/rfc822') on conflict do nothing",
        &draft.message.0[..],
        i64::try_from(draft.n_bytes)?
    )
    .execute(&mut **tx)
    .await
    .context("write the message's artifact")?;
    sqlx::query!(
        "insert into mail (id, report_run_id, sender, recipients, pending, subject, message) values ($1, $2, $3, $4, $4, $5, $6)",
        draft.id,
        draft.report_run,
        draft.sender,
        draft.recipients,
        draft.subject,
        &draft.message.0[..]
    )
    .execute(&mut **tx)
    .await
    .context("put the mail into the outbox")?;
    Ok(())
}

/// The right to say how a mail went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held {
    /// The mail.
    pub id: Uuid,
    lease: i64,
}

/// A mail that a sender has taken.
#[derive(Debug)]
pub struct Taken {
    /// The right to say how it went.
    pub held: Held,
    /// The address it comes from.
    pub sender: String,
    /// Who has not got it.
    pub pending: Vec<String>,
    /// The whole message in the store.
    pub message: Hash,
}

/// Takes the oldest mail that is due, or the one that is asked for, for as long as `hold`; and marks as doubtful those whose
/// sender fell silent while the server may have had them.
///
/// # Errors
/// Postgres is out of reach.
pub async fn take(pool: &PgPool, host: &str, hold: Duration, only: Option<Uuid>) -> anyhow::Result<Option<Taken>> {
    sqlx::query!(
        "update mail
        set state = 'doubtful', held_until = null, ended_at = now(),
            error = coalesce(host, 'a sender') || ' fell silent while the server may have had the message'
        where state = 'handing' and held_until < now()"
    )
    .execute(pool)
    .await
    .context("look for mails in doubt")?;
    let row = sqlx::query!(
        "with next as materialized (
            select id
            from mail
            where ($3::uuid is null or id = $3)
                and ((state = 'waiting' and run_at <= now()) or (state = 'sending' and held_until < now()))
            order by run_at, id
            limit 1
            for update skip locked
        )
        update mail
        set state = 'sending', lease = nextval('mail_lease_seq'), host = $1,
            held_until = now() + make_interval(secs => $2), n_attempts = n_attempts + 1
        from next
        where mail.id = next.id
        returning mail.id, lease as \"lease!\", sender, pending, message as \"message!\"",
        host,
        hold.as_secs_f64(),
        only
    )
    .fetch_optional(pool)
    .await
    .context("take a mail")?;
    row.map(|row| {
        Ok(Taken {
            held: Held { id: row.id, lease: row.lease },
            sender: row.sender,
            pending: row.pending,
            message: row.message.try_into()?,
        })
    })
    .transpose()
}

/// Holds a mail for another `hold`.
///
/// # Errors
/// [`LeaseLost`], or Postgres is out of reach.
pub async fn renew(pool: &PgPool, held: Held, hold: Duration) -> anyhow::Result<()> {
    let renewed = sqlx::query!(
        "update mail set held_until = now() + make_interval(secs => $3)
        where id = $1 and lease = $2 and state in ('sending', 'handing')",
        held.id,
        held.lease,
        hold.as_secs_f64()
    )
    .execute(pool)
    .await
    .context("hold the mail")?;
    was_ours(renewed.rows_affected())
}

/// Notes that the server may have the message from now on. Without this nothing may be handed over: it is the fence
/// between two senders.
///
/// # Errors
/// [`LeaseLost`], or Postgres is out of reach.
pub async fn hand_over(pool: &PgPool, held: Held, hold: Duration) -> anyhow::Result<()> {
    let noted = sqlx::query!(
        "update mail set state = 'handing', held_until = now() + make_interval(secs => $3)
        where id = $1 and lease = $2 and state = 'sending' and held_until > now()",
        held.id,
        held.lease,
        hold.as_secs_f64()
    )
    .execute(pool)
    .await
    .context("note that the mail is handed over")?;
    was_ours(noted.rows_affected())
}

/// Whom a server took a message for.
#[derive(Debug, Default)]
pub struct Delivery {
    /// It has the message for these.
    pub accepted: Vec<String>,
    /// It will never take it for these: address and answer.
    pub refused: Vec<String>,
    /// It may take it for these later.
    pub deferred: Vec<String>,
    /// What it said.
    pub reply: String,
}

/// Notes that the server has the message, for some recipients or for all; what is left is tried again. The truth is written
/// even if the mail was called doubtful meanwhile.
///
/// # Errors
/// [`LeaseLost`], or Postgres is out of reach.
pub async fn delivered(pool: &PgPool, held: Held, it: &Delivery, first_wait: Duration) -> anyhow::Result<()> {
    let is_over = it.deferred.is_empty();
    let noted = sqlx::query!(
        "update mail
        set state = case when $5 then 'sent' else 'waiting' end,
            ended_at = case when $5 then now() end,
            held_until = null, lease = null, pending = $3::text[], refused = refused || $4::text[], reply = $6,
            error = case when not $5 then 'the server takes it later for ' || array_to_string($3::text[], ', ')
                when cardinality(refused || $4::text[]) > 0 then 'refused: ' || array_to_string(refused || $4::text[], '; ') end,
            run_at = now() + make_interval(secs => (0.5 + random() / 2) * least(3600, $7 * 2 ^ least(n_attempts - 1, 20)))
        where id = $1 and lease = $2 and state in ('sending', 'handing', 'doubtful')",
        held.id,
        held.lease,
        &it.deferred,
        &it.refused,
        is_over,
        &it.reply,
        first_wait.as_secs_f64()
    )
    .execute(pool)
    .await
    .context("note that the mail was sent")?;
    was_ours(noted.rows_affected())
}

/// Notes why a mail, which the server certainly has not taken, did not go; it is tried again after a while that doubles,
/// with jitter. True if it will be.
///
/// # Errors
/// [`LeaseLost`], or Postgres is out of reach.
pub async fn put_off(pool: &PgPool, held: Held, error: &str, first_wait: Duration) -> anyhow::Result<bool> {
    let again = sqlx::query_scalar!(
        "update mail
        set state = case when n_attempts < $5 then 'waiting' else 'failed' end,
            ended_at = case when n_attempts < $5 then null else now() end,
            run_at = now() + make_interval(secs => (0.5 + random() / 2) * least(3600, $4 * 2 ^ least(n_attempts - 1, 20))),
            held_until = null, lease = null, error = $3
        where id = $1 and lease = $2 and state in ('sending', 'handing')
        returning state = 'waiting' as \"again!\"",
        held.id,
        held.lease,
        error,
        first_wait.as_secs_f64(),
        MOST_ATTEMPTS
    )
    .fetch_optional(pool)
    .await
    .context("note why the mail did not go")?;
    again.ok_or_else(|| LeaseLost.into())
}

/// How a mail ends that was not sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The server will not have it.
    Failed,
    /// Nobody knows whether the server has it.
    Doubtful,
}

/// Ends a mail that was not sent, or not for certain.
///
/// # Errors
/// [`LeaseLost`], or Postgres is out of reach.
pub async fn end(pool: &PgPool, held: Held, end: End, error: &str) -> anyhow::Result<()> {
    let ended = sqlx::query!(
        "update mail set state = $3, ended_at = now(), held_until = null, error = $4
        where id = $1 and lease = $2 and state in ('sending', 'handing')",
        held.id,
        held.lease,
        match end {
            End::Failed => "failed",
            End::Doubtful => "doubtful",
        },
        error
    )
    .execute(pool)
    .await
    .context("end the mail")?;
    was_ours(ended.rows_affected())
}

fn was_ours(n_rows: u64) -> anyhow::Result<()> {
    if n_rows == 1 { Ok(()) } else { Err(LeaseLost.into()) }
}

/// A mail in a list.
#[derive(Debug, Serialize)]
pub struct Mail {
    /// Its id.
    #[serde(serialize_with = "as_text")]
    pub id: Uuid,
    /// The report that it tells of.
    pub report: Option<String>,
    /// The moment that the report tells of.
    #[serde(with = "time::serde::rfc3339::option")]
    pub at: Option<OffsetDateTime>,
    /// Who gets it.
    pub recipients: Vec<String>,
    /// Those that the server will never take it for, and what it said.
    pub refused: Vec<String>,
    /// What it is about.
    pub subject: String,
    /// `waiting`, `sending`, `handing`, `sent`, `failed` or `doubtful`.
    pub state: String,
    /// How often it was tried.
    pub n_attempts: i32,
    /// When it is tried next, if it waits.
    #[serde(with = "time::serde::rfc3339::option")]
    pub run_at: Option<OffsetDateTime>,
    /// What went wrong, the last time.
    pub error: Option<String>,
    /// What the server said when it took it.
    pub reply: Option<String>,
    /// When it was written.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it ended.
    #[serde(with = "time::serde::rfc3339::option")]
    pub ended_at: Option<OffsetDateTime>,
}

fn as_text<S: serde::Serializer>(id: &Uuid, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

/// The latest mails, or those whose id begins with `id`.
///
/// # Errors
/// Postgres is out of reach.
pub async fn list(pool: &PgPool, id: Option<&str>, limit: i64) -> anyhow::Result<Vec<Mail>> {
    sqlx::query_as!(
        Mail,
        "select mail.id, report_run.name as \"report?\", report_run.at as \"at?\", recipients, refused, subject, state, n_attempts,
            case when state = 'waiting' then run_at end as run_at, error, reply, created_at, ended_at
        from mail left join report_run on report_run.id = mail.report_run_id
        where $1::text is null or starts_with(mail.id::text, $1)
        order by created_at desc, mail.id desc
        limit $2",
        id,
        limit
    )
    .fetch_all(pool)
    .await
    .context("list the mails")
}

/// Has a mail sent again that waits, failed or is doubtful: the same message, to those that nobody has taken it for.
///
/// # Errors
/// There is no such mail or several, it was sent, or it is being sent.
pub async fn retry(pool: &PgPool, id: &str) -> anyhow::Result<Uuid> {
    let found = list(pool, Some(id), 2).await?;
    ensure!(!found.is_empty(), "there is no mail `{id}`; `jobctl mail list` shows them");
    ensure!(found.len() == 1, "several mails begin with `{id}`; give more of the id");
    let again = sqlx::query_scalar!(
        "update mail
        set state = 'waiting', run_at = now(), n_attempts = 0, ended_at = null, lease = null
        where id = $1 and state in ('waiting', 'failed', 'doubtful')
        returning id",
        found[0].id
    )
    .fetch_optional(pool)
    .await
    .context("send the mail again")?;
    again.with_context(|| match found[0].state.as_str() {
        "sent" => format!("the mail {} was sent; nothing is sent twice", found[0].id),
        _ => format!("the mail {} is being sent", found[0].id),
    })
}
