//! Requests and their answers: each is written before it goes out, and its answer before anything is made of it.

use anyhow::Context;
use sqlx::PgPool;

use super::blocks::is_out;
use crate::job::{Hash, JobId, Lease};
use crate::judge::cost::Tokens;
use crate::judge::reply::Reply;
use crate::queue::{Tx, settle};

/// A request that is about to go out.
#[derive(Clone, Debug)]
pub struct Intent<'a> {
    /// The job that it is for.
    pub job: JobId,
    /// The attempt that asks.
    pub lease: Lease,
    /// The job's key.
    pub key: Hash,
    /// How often the job has asked before and was answered.
    pub nth: u16,
    /// Who is asked.
    pub model: &'a str,
    /// Where.
    pub endpoint: &'a str,
    /// The hash of the texts that are sent.
    pub prompt: Hash,
    /// The most tokens that it may take.
    pub most: Tokens,
}

/// What became of the wish to ask.
#[derive(Clone, PartialEq, Debug)]
pub enum Begun {
    /// It is written and may go out: its row, and the block that pays.
    Asked {
        /// The row.
        id: i64,
        /// The block; none where no block wants the job.
        block: Option<i32>,
    },
    /// No block that wants the job may spend so much: why, for people.
    Out(String),
}

/// Writes that a request goes out, and reserves what it may cost. Requests of earlier attempts whose answer has never come
/// are given up as lost.
///
/// # Errors
/// [`LeaseLost`](crate::queue::LeaseLost), or Postgres is out of reach; nothing is written then, and nothing may go out.
pub async fn begin(pool: &PgPool, it: &Intent<'_>) -> anyhow::Result<Begun> {
    let mut tx = pool.begin().await.context("begin a transaction")?;
    settle::hold(&mut tx, it.job, it.lease).await?;
    sqlx::query!(
        "update asked
        set outcome = 'lost', ended_at = now(), error = 'its attempt ended before the answer came'
        where key = $1 and outcome = 'open' and lease is distinct from $2",
        &it.key.0[..],
        it.lease.0
    )
    .execute(&mut *tx)
    .await
    .context("give up requests of earlier attempts")?;
    // The first block that has enough left pays. Locked in their order by everybody.
    let blocks = sqlx::query!(
        "select id, name, budget, spent,
            coalesce(input_price * $2::float8 + output_price * $3::float8, 0) / 1e6 as \"most!\"
        from asking
        where id in (select asking_id from asking_job where key = $1)
        order by id
        for update",
        &it.key.0[..],
        f64::from(it.most.input),
        f64::from(it.most.output)
    )
    .fetch_all(&mut *tx)
    .await
    .context("look what may be spent")?;
    let block = blocks.iter().find(|it| it.budget.is_none_or(|budget| it.spent + it.most <= budget));
    if let (None, Some(last)) = (block, blocks.last()) {
        tx.commit().await.context("give up requests of earlier attempts")?;
        return Ok(Begun::Out(is_out(last.budget.unwrap_or_default(), last.spent, &last.name)));
    }
    let most = block.map_or(0.0, |it| it.most);
    if let Some(block) = block {
        sqlx::query!("update asking set spent = spent + $2 where id = $1", block.id, most)
            .execute(&mut *tx)
            .await
            .context("reserve what it may cost")?;
    }
    let id = sqlx::query_scalar!(
        "insert into asked (key, nth, asking_id, lease, model, endpoint, prompt, estimate)
        values ($1, $2, $3, $4, $5, $6, $7, $8)
        returning id",
        &it.key.0[..],
        i16::try_from(it.nth)?,
        block.map(|it| it.id),
        it.lease.0,
        it.model,
        it.endpoint,
        &it.prompt.0[..],
        most
    )
    .fetch_one(&mut *tx)
    .await
    .context("write the request")?;
    tx.commit().await.context("write the request")?;
    Ok(Begun::Asked { id, block: block.map(|it| it.id) })
}

/// An answer as it is stored.
#[derive(Clone, Debug)]
pub struct Stored<'a> {
    /// Its body, as text.
    pub raw: &'a str,
    /// What was read of it.
    pub reply: &'a Reply,
    /// US dollars; none where nobody knows.
    pub cost: Option<f64>,
}

/// Writes an answer, whoever has the job by now: it was given, and nobody need ask again.
///
/// # Errors
/// Postgres is out of reach.
pub async fn answered(pool: &PgPool, id: i64, it: &Stored<'_>) -> anyhow::Result<()> {
    let mut tx = pool.begin().await.context("begin a transaction")?;
    // All requests of the job, so that two answers to one question do not both count as the first.
    let rows = sqlx::query!(
        "select id, nth, outcome
        from asked
        where key = (select key from asked where id = $1)
        order by id
        for update",
        id
    )
    .fetch_all(&mut *tx)
    .await
    .context("lock the request")?;
    let own = rows.iter().find(|row| row.id == id).context("the request is gone")?;
    if ["answered", "surplus"].contains(&own.outcome.as_str()) {
        return Ok(());
    }
    let is_late = rows.iter().any(|row| row.nth == own.nth && row.outcome == "answered");
    sqlx::query!(
        "with own as (
            update asked
            set outcome = $2, ended_at = now(), error = null, raw = $3, content = $4, refusal = $5, finish = $6, snapshot = $7,
                tokens_in = $8, tokens_out = $9, cost = $10
            where id = $1
            returning asking_id, estimate, cost
        )
        update asking
        set spent = greatest(asking.spent + coalesce(own.cost - own.estimate, 0), 0)
        from own
        where asking.id = own.asking_id",
        id,
        if is_late { "surplus" } else { "answered" },
        it.raw,
        it.reply.content,
        it.reply.refusal,
        it.reply.finish,
        it.reply.snapshot,
        count(it.reply.tokens_in),
        count(it.reply.tokens_out),
        it.cost
    )
    .execute(&mut *tx)
    .await
    .context("write the answer")?;
    tx.commit().await.context("write the answer")
}

fn count(n: Option<u32>) -> Option<i32> {
    n.map(|it| i32::try_from(it).unwrap_or(i32::MAX))
}

/// How a request ended without an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// The endpoint would not answer, or was not reached: it costs nothing.
    Refused,
    /// Nobody knows what became of it: it may have cost all that it may.
    Lost,
}

/// Writes that a request ended without an answer.
///
/// # Errors
/// Postgres is out of reach.
pub async fn ended(pool: &PgPool, id: i64, ending: Ending, error: &str) -> anyhow::Result<()> {
    let is_refused = ending == Ending::Refused;
    sqlx::query!(
        "with own as (
            update asked
            set outcome = $2, ended_at = now(), error = $3
            where id = $1 and outcome in ('open', 'lost')
            returning asking_id, estimate
        )
        update asking
        set spent = greatest(asking.spent - own.estimate, 0)
        from own
        where asking.id = own.asking_id and $4",
        id,
        if is_refused { "refused" } else { "lost" },
        error.replace('\0', "\u{fffd}"),
        is_refused
    )
    .execute(pool)
    .await
    .context("write how the request ended")?;
    Ok(())
}

/// The answers to a job's questions so far, the first question's first.
///
/// # Errors
/// Postgres is out of reach.
pub async fn replies(database: impl sqlx::PgExecutor<'_>, key: &Hash) -> anyhow::Result<Vec<Reply>> {
    let rows = sqlx::query!(
        "select content as \"content!\", refusal, finish, snapshot, tokens_in, tokens_out
        from asked
        where key = $1 and outcome = 'answered'
        order by nth",
        &key.0[..]
    )
    .fetch_all(database)
    .await
    .context("read the answers")?;
    let count = |n: Option<i32>| n.and_then(|it| u32::try_from(it).ok());
    Ok(rows
        .into_iter()
        .map(|row| Reply {
            content: row.content,
            refusal: row.refusal,
            finish: row.finish,
            snapshot: row.snapshot,
            tokens_in: count(row.tokens_in),
            tokens_out: count(row.tokens_out),
        })
        .collect())
}

/// The block that pays for answers of batch files to a job, by its name, and its sweep's file; none where no block wants it.
///
/// # Errors
/// Postgres is out of reach.
pub async fn payer(tx: &mut Tx<'_>, key: &Hash) -> anyhow::Result<Option<(String, String)>> {
    let row = sqlx::query!(
        "select asking.name, sweep.definition
        from asking_job
        join asking on asking.id = asking_job.asking_id
        join sweep on sweep.id = asking.sweep_id
        where asking_job.key = $1
        order by asking.id
        limit 1",
        &key.0[..]
    )
    .fetch_optional(&mut **tx)
    .await
    .context("look who pays")?;
    Ok(row.map(|it| (it.name, it.definition)))
}

/// What came in a batch file.
#[derive(Clone, Copy, Debug)]
pub struct Imported<'a> {
    /// Who was asked.
    pub model: &'a str,
    /// The hash of the texts that were sent.
    pub prompt: &'a Hash,
    /// The answer's body.
    pub raw: &'a str,
    /// What was read of it.
    pub reply: &'a Reply,
    /// The share of the block's prices that it costs.
    pub share: f64,
}

/// Writes an answer that came in a batch file to the `nth` question of a job; false if that question has an answer.
///
/// # Errors
/// Postgres is out of reach.
pub async fn import(tx: &mut Tx<'_>, key: &Hash, nth: u16, it: &Imported<'_>) -> anyhow::Result<bool> {
    let Imported { model, prompt, raw, reply, share } = *it;
    let n_new = sqlx::query!(
        "with payer as (
            select asking.id, input_price, output_price
            from asking_job join asking on asking.id = asking_job.asking_id
            where asking_job.key = $1
            order by asking.id
            limit 1
        ),
        fresh as (
            insert into asked (key, nth, asking_id, model, endpoint, prompt, outcome, ended_at, raw, content, refusal, finish, snapshot,
                tokens_in, tokens_out, cost)
            select $1, $2, (select id from payer), $3, 'batch', $4, 'answered', now(), $5, $6, $7, $8, $9, $10, $11,
                (select $12::float8 * (input_price * $10::int + output_price * $11::int) / 1e6 from payer)
            on conflict (key, nth) where outcome = 'answered' do nothing
            returning asking_id, cost
        ),
        paid as (
            update asking set spent = spent + coalesce(fresh.cost, 0) from fresh where asking.id = fresh.asking_id
        )
        select 1 as new from fresh",
        &key.0[..],
        i16::try_from(nth)?,
        model,
        &prompt.0[..],
        raw,
        reply.content,
        reply.refusal,
        reply.finish,
        reply.snapshot,
        count(reply.tokens_in),
        count(reply.tokens_out),
        share
    )
    .fetch_optional(&mut **tx)
    .await
    .context("write the answer")?;
    Ok(n_new.is_some())
}
