//! What machines are asked and what they answer: blocks of sweeps and what they may spend, requests, answers, captions.

mod blocks;
mod requests;

pub use blocks::{Block, Spending, blocks_of, is_out, record, renew, spending, spent_out};
pub use requests::{Begun, Ending, Imported, Intent, Stored, answered, begin, ended, import, payer, replies};

use std::collections::HashMap;

use anyhow::Context;
use sqlx::PgPool;

use crate::job::task::asking::Caption;
use crate::job::{Hash, JobId};
use crate::queue::Tx;

/// What the jobs of these keys have written, as far as they have.
///
/// # Errors
/// Postgres is out of reach.
pub async fn captions(pool: &PgPool, keys: &[Hash]) -> anyhow::Result<HashMap<Hash, String>> {
    let keys: Vec<Vec<u8>> = keys.iter().map(|it| it.0.to_vec()).collect();
    let rows = sqlx::query!("select key, text from caption where key = any($1)", &keys)
        .fetch_all(pool)
        .await
        .context("read captions")?;
    rows.into_iter().map(|row| Ok((row.key.try_into()?, row.text))).collect()
}

/// Writes a caption, in the transaction that ends its job. One that is there already stays.
///
/// # Errors
/// Postgres is out of reach.
pub async fn record_caption(
    tx: &mut Tx<'_>,
    job: JobId,
    key: &Hash,
    task: &Caption,
    text: &str,
    snapshot: Option<&str>,
) -> anyhow::Result<()> {
    sqlx::query!(
        "insert into caption (key, picture, text, model, snapshot, job_id) values ($1, $2, $3, $4, $5, $6)
        on conflict (key) do nothing",
        &key.0[..],
        &task.picture.key().0[..],
        text,
        task.manner.model,
        snapshot,
        job.0
    )
    .execute(&mut **tx)
    .await
    .context("write the caption")?;
    Ok(())
}
