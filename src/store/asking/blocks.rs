//! The blocks that ask: how fast they may, what they may spend and what they have spent.

use anyhow::Context;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use time::OffsetDateTime;

use crate::job::Hash;
use crate::judge::cost::{PictureTokens, Prices};
use crate::plan::{Asking, Plan};
use crate::queue::Tx;
use crate::queue::bulk::{Kind, Table, send};
use crate::queue::pace::Pace;

/// How the error of a job begins that could not ask because nothing is left to be spent.
const OUT: &str = "budget spent";

/// A block that wants a job.
#[derive(Clone, PartialEq, Debug)]
pub struct Block {
    /// Its row.
    pub id: i32,
    /// How fast it may ask.
    pub pace: Pace,
    /// What tokens cost.
    pub prices: Option<Prices>,
    /// What a picture counts as; none of blocks that were enqueued before anybody said so.
    pub pictures: Option<PictureTokens>,
}

/// Writes the blocks of a plan and which jobs they want. `plan` is the whole plan.
///
/// # Errors
/// Postgres is out of reach.
pub async fn record(tx: &mut Tx<'_>, sweep: i32, plan: &Plan) -> anyhow::Result<()> {
    for block in &plan.asking {
        let id = sqlx::query_scalar!(
            "insert into asking (sweep_id, name, kind, model, requests_per_minute, tokens_per_minute, budget, input_price,
                output_price, picture_base, picture_tile)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
            returning id",
            sweep,
            block.name,
            block.kind,
            block.model,
            block.requests_per_minute,
            block.tokens_per_minute,
            block.budget.filter(|_| block.prices.is_some()),
            block.prices.map(|it| it.input),
            block.prices.map(|it| it.output),
            i32::try_from(block.pictures.base)?,
            i32::try_from(block.pictures.tile)?
        )
        .fetch_one(&mut **tx)
        .await
        .context("write what may be spent")?;
        let mut keys: Vec<&Hash> = block.requests.iter().map(|it| &it.0).collect();
        keys.sort_unstable();
        keys.dedup();
        const TABLE: Table = Table { name: "asking_job", columns: &[("asking_id", Kind::Int4), ("key", Kind::Bytes)] };
        send(tx, &TABLE, keys, |row, key| {
            row.int4(id)?;
            row.hash(key)
        })
        .await?;
    }
    Ok(())
}

/// Takes over what a sweep that is known says now: pace, prices, tokens and budget, none of which is in a key.
///
/// # Errors
/// Postgres is out of reach.
pub async fn renew(tx: &mut Tx<'_>, sweep: i32, blocks: &[Asking]) -> anyhow::Result<()> {
    for block in blocks {
        sqlx::query!(
            "update asking
            set requests_per_minute = $3, tokens_per_minute = $4, budget = $5, input_price = $6, output_price = $7,
                picture_base = $8, picture_tile = $9
            where sweep_id = $1 and name = $2",
            sweep,
            block.name,
            block.requests_per_minute,
            block.tokens_per_minute,
            block.budget.filter(|_| block.prices.is_some()),
            block.prices.map(|it| it.input),
            block.prices.map(|it| it.output),
            i32::try_from(block.pictures.base)?,
            i32::try_from(block.pictures.tile)?
        )
        .execute(&mut **tx)
        .await
        .context("change what may be spent")?;
    }
    Ok(())
}

/// The jobs of a sweep that failed because nothing was left to be spent, and for which a block has something left by what the
/// sweep says now.
///
/// # Errors
/// Postgres is out of reach.
pub async fn spent_out(tx: &mut Tx<'_>, sweep: i32, blocks: &[Asking]) -> anyhow::Result<Vec<i64>> {
    let names: Vec<String> = blocks.iter().map(|it| it.name.clone()).collect();
    let budgets: Vec<Option<f64>> = blocks.iter().map(|it| it.budget.filter(|_| it.prices.is_some())).collect();
    sqlx::query_scalar!(
        "select ended.id
        from sweep_job
        join job_history as ended on ended.id = sweep_job.job_id
        where sweep_job.sweep_id = $1 and ended.state = 'failed' and ended.error like $2 || '%'
            and exists (
                select
                from asking_job
                join asking on asking.id = asking_job.asking_id and asking.sweep_id = $1
                join unnest($3::text[], $4::float8[]) as said (name, budget) on said.name = asking.name
                where asking_job.key = ended.key and (said.budget is null or asking.spent < said.budget)
                    and (asking.budget is null or said.budget is null or asking.budget < said.budget)
            )",
        sweep,
        OUT,
        &names,
        &budgets as &[Option<f64>]
    )
    .fetch_all(&mut **tx)
    .await
    .context("find what the budget has stopped")
}

/// What a job fails with that may not ask any more.
pub fn is_out(budget: f64, spent: f64, name: &str) -> String {
    format!(
        "{OUT}: `{name}` may cost {budget} US dollars, has cost {spent:.4}, and the next request may not fit: give it a larger \
         `budget` and enqueue the sweep again"
    )
}

/// The blocks that want the job of this key, the oldest first.
///
/// # Errors
/// Postgres is out of reach.
pub async fn blocks_of(pool: &PgPool, key: &Hash) -> anyhow::Result<Vec<Block>> {
    let rows = sqlx::query!(
        "select asking.id, requests_per_minute, tokens_per_minute, input_price, output_price, picture_base, picture_tile
        from asking_job join asking on asking.id = asking_job.asking_id
        where asking_job.key = $1
        order by asking.id",
        &key.0[..]
    )
    .fetch_all(pool)
    .await
    .context("look what may be spent")?;
    let count = |it: Option<i32>| it.and_then(|it| u32::try_from(it).ok());
    Ok(rows
        .into_iter()
        .map(|row| Block {
            id: row.id,
            pace: Pace { requests_per_minute: row.requests_per_minute, tokens_per_minute: row.tokens_per_minute },
            prices: row.input_price.zip(row.output_price).map(|(input, output)| Prices { input, output }),
            pictures: count(row.picture_base)
                .zip(count(row.picture_tile))
                .map(|(base, tile)| PictureTokens { base, tile }),
        })
        .collect())
}

/// What a block has asked, and what that cost.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Spending {
    /// The sweep.
    pub sweep: String,
    /// The block's name.
    pub name: String,
    /// `judge` or `caption`.
    pub kind: String,
    /// Who is asked.
    pub model: String,
    /// US dollars that it may cost; none where it costs nothing.
    pub budget: Option<f64>,
    /// US dollars that it has cost, with the most that open and lost requests may cost.
    pub spent: f64,
    /// US dollars of what was answered, by the endpoint's count of tokens.
    pub cost: f64,
    /// Answers.
    pub answered: i64,
    /// Those of them to questions that were asked a second time.
    pub again: i64,
    /// Answers that came after another attempt had been answered.
    pub surplus: i64,
    /// Requests that the endpoint would not answer.
    pub refused: i64,
    /// Requests of which nobody knows what became of them.
    pub lost: i64,
    /// Requests under way.
    pub open: i64,
    /// Tokens that were read.
    pub tokens_in: i64,
    /// Tokens that were written.
    pub tokens_out: i64,
}

/// What the blocks of a sweep, or of all sweeps, have spent; with `until`, what they had spent then. A request that was under
/// way at that moment counts as open, with the most that it may cost.
///
/// # Errors
/// Postgres is out of reach.
pub async fn spending(
    pool: &PgPool,
    sweep: Option<i32>,
    until: Option<OffsetDateTime>,
) -> anyhow::Result<Vec<Spending>> {
    sqlx::query_as!(
        Spending,
        "with told as (
            select asking_id, nth, estimate, tokens_in, tokens_out, cost,
                case when $2::timestamptz is null or ended_at <= $2 then outcome else 'open' end as outcome
            from asked
            where $2::timestamptz is null or asked_at <= $2
        )
        select sweep.slug as sweep, asking.name, asking.kind, asking.model, asking.budget,
            case when $2::timestamptz is null then asking.spent
                else coalesce(sum(case outcome
                    when 'refused' then 0
                    when 'open' then told.estimate
                    else coalesce(told.cost, told.estimate) end), 0) end as \"spent!\",
            coalesce(sum(told.cost) filter (where outcome <> 'open'), 0) as \"cost!\",
            count(told.nth) filter (where outcome = 'answered') as \"answered!\",
            count(told.nth) filter (where outcome = 'answered' and nth > 0) as \"again!\",
            count(told.nth) filter (where outcome = 'surplus') as \"surplus!\",
            count(told.nth) filter (where outcome = 'refused') as \"refused!\",
            count(told.nth) filter (where outcome = 'lost') as \"lost!\",
            count(told.nth) filter (where outcome = 'open') as \"open!\",
            coalesce(sum(told.tokens_in) filter (where outcome <> 'open'), 0)::bigint as \"tokens_in!\",
            coalesce(sum(told.tokens_out) filter (where outcome <> 'open'), 0)::bigint as \"tokens_out!\"
        from asking
        join sweep on sweep.id = asking.sweep_id
        left join told on told.asking_id = asking.id
        where $1::int is null or asking.sweep_id = $1
        group by sweep.slug, asking.id
        order by sweep.slug, asking.name",
        sweep,
        until
    )
    .fetch_all(pool)
    .await
    .context("read what was spent")
}
