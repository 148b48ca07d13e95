//! The mark by which a store is known as this database's. A worker whose store is another one, or a folder whose disk is not
//! mounted, would put results where nobody finds them, and take for lost what is only elsewhere.

use anyhow::Context;
use sqlx::PgPool;

use super::artifact::Artifacts;
use crate::job::Hash;
use crate::queue::Tx;

/// The store is another one than the database's.
#[derive(Debug, thiserror::Error)]
#[error(
    "{store} is not the store of this database: the mark {mark} is not in it. Is its disk mounted, and JOBCTL_STORE that of the \
     other workers? If the store is lost, `jobctl db adopt-store` begins a new one there"
)]
pub struct WrongStore {
    store: String,
    mark: Hash,
}

/// Makes sure that the store is the one this database's artifacts are in. The first who asks marks it.
///
/// # Errors
/// [`WrongStore`]; or it or Postgres is out of reach.
pub async fn expect(pool: &PgPool, artifacts: &Artifacts) -> anyhow::Result<()> {
    let mark = match known(pool).await? {
        Some(mark) => mark,
        None => put(pool, artifacts).await?,
    };
    match artifacts.check(&mark).await? {
        None => Ok(()),
        Some(_) => Err(WrongStore { store: artifacts.name().to_owned(), mark }.into()),
    }
}

/// Takes this store for the database's from now on. What artifacts are not in it are lost: workers make them again where
/// they can.
///
/// # Errors
/// The store or Postgres is out of reach, or our role may not.
pub async fn adopt(pool: &PgPool, artifacts: &Artifacts) -> anyhow::Result<()> {
    artifacts.prepare()?;
    let (hash, mut tx) = write(pool, artifacts).await?;
    sqlx::query!(
        "insert into store_mark (hash) values ($1) on conflict (only_one) do update set hash = excluded.hash, made_at = now()",
        &hash.0[..]
    )
    .execute(&mut *tx)
    .await
    .context("adopt the store")?;
    tx.commit().await.context("adopt the store")
}

async fn known(pool: &PgPool) -> anyhow::Result<Option<Hash>> {
    let mark = sqlx::query_scalar!("select hash from store_mark")
        .fetch_optional(pool)
        .await
        .context("look for the store's mark")?;
    mark.map(Hash::try_from).transpose()
}

/// Puts a mark into the store, unless another worker is faster. Returns the one that holds.
async fn put(pool: &PgPool, artifacts: &Artifacts) -> anyhow::Result<Hash> {
    artifacts.prepare()?;
    let (hash, mut tx) = write(pool, artifacts).await?;
    let is_first = sqlx::query!("insert into store_mark (hash) values ($1) on conflict do nothing", &hash.0[..])
        .execute(&mut *tx)
        .await
        .context("mark the store")?
        .rows_affected()
        == 1;
    if is_first {
        tx.commit().await.context("mark the store")?;
        return Ok(hash);
    }
    tx.rollback().await?;
    artifacts.remove(&hash).await?;
    known(pool).await?.context("the store's mark is gone")
}

/// A new mark as an artifact: in the store, and in a transaction that names it. Not even two that begin at the same time
/// write the same.
async fn write(pool: &PgPool, artifacts: &Artifacts) -> anyhow::Result<(Hash, Tx<'static>)> {
    let mark = format!("a store of jobctl, {}\n", uuid::Uuid::now_v7());
    let n_bytes = i64::try_from(mark.len())?;
    let mut tx = pool.begin().await.context("begin a transaction")?;
    // Nothing is swept up meanwhile.
    sqlx::query!("select pg_advisory_xact_lock_shared(hashtext('jobctl store'))").execute(&mut *tx).await?;
    let hash = artifacts.put(mark.into_bytes()).await?;
    sqlx::query!("insert into artifact (hash, bytes, media) values ($1, $2, 'text/plain')", &hash.0[..], n_bytes)
        .execute(&mut *tx)
        .await
        .context("name the store's mark")?;
    Ok((hash, tx))
}
