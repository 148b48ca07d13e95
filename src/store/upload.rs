//! People's pictures in the store, so that workers which do not see their disks can read them.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use anyhow::Context;
use futures_util::{StreamExt, TryStreamExt};
use sqlx::PgPool;

use super::artifact::Artifacts;
use super::mark;
use crate::job::Hash;
use crate::queue::Tx;
use crate::sweep::Inventory;

/// So many pictures go up at a time.
const AT_ONCE: usize = 8;

/// A picture that has been put into the store, and is not in the tables yet.
struct Uploaded {
    hash: Hash,
    n_bytes: u64,
    media: &'static str,
}

/// Which of these contents are in the store.
///
/// # Errors
/// Postgres is out of reach.
pub async fn uploaded(pool: &PgPool, contents: &[Hash]) -> anyhow::Result<Vec<Hash>> {
    if contents.is_empty() {
        return Ok(Vec::new());
    }
    let hashes: Vec<Vec<u8>> = contents.iter().map(|it| it.0.to_vec()).collect();
    let rows = sqlx::query_scalar!("select hash from artifact where hash = any($1)", &hashes)
        .fetch_all(pool)
        .await
        .context("look for pictures in the store")?;
    rows.into_iter().map(Hash::try_from).collect()
}

/// Puts the sweep's pictures into the store, those that are not there; `progress` hears how many of how many are.
/// Nothing is removed from the store meanwhile. What was put there stays known if the enqueueing fails afterwards.
/// Returns which of the sweep's pictures the store has now.
///
/// # Errors
/// A picture has changed since it was hashed, or the store is out of reach.
pub async fn upload(
    pool: &PgPool,
    artifacts: &Artifacts,
    inventory: &Inventory,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> anyhow::Result<Vec<Hash>> {
    mark::expect(pool, artifacts).await?;
    let mut tx = pool.begin().await.context("begin a transaction")?;
    // However long a picture takes.
    sqlx::query!("set local idle_in_transaction_session_timeout = 0").execute(&mut *tx).await?;
    sqlx::query!("select pg_advisory_xact_lock_shared(hashtext('jobctl store'))").execute(&mut *tx).await?;
    let mut files: BTreeMap<Hash, (PathBuf, &'static str)> = BTreeMap::new();
    for (path, content, size) in inventory.pictures() {
        // What could not be read has a hash that no file has. What a link leads to goes up if it is a picture, and is
        // nobody's business else.
        let is_link = || path.canonicalize().is_ok_and(|it| it != *path);
        if path.is_file() && (size.is_some() || !is_link()) {
            files.entry(content).or_insert_with(|| (path.clone(), media(path)));
        }
    }
    let contents: Vec<Hash> = files.keys().copied().collect();
    let known: HashSet<Hash> = uploaded(pool, &contents).await?.into_iter().collect();
    let mut missing: Vec<(Hash, PathBuf, &str)> = Vec::new();
    for (hash, (path, media)) in files {
        if !known.contains(&hash) && std::fs::File::open(&path).is_ok() {
            missing.push((hash, path, media));
        }
    }
    let n = missing.len();
    let mut n_done = 0;
    let mut uploading = futures_util::stream::iter(missing)
        .map(|(hash, path, media)| async move {
            let n_bytes = path.metadata().with_context(|| format!("read {}", path.display()))?.len();
            artifacts.upload(&hash, &path).await?;
            anyhow::Ok(Uploaded { hash, n_bytes, media })
        })
        .buffer_unordered(AT_ONCE);
    let mut all = Vec::with_capacity(n);
    while let Some(it) = uploading.try_next().await? {
        all.push(it);
        n_done += 1;
        progress(n_done, n);
    }
    record(&mut tx, &all).await?;
    tx.commit().await.context("write which pictures are in the store")?;
    Ok(known.into_iter().chain(all.iter().map(|it| it.hash)).collect())
}

/// Keeps that a sweep needs these pictures of the store.
///
/// # Errors
/// One of them was swept up meanwhile, or Postgres is out of reach.
pub async fn keep(tx: &mut Tx<'_>, sweep: i32, contents: &[Hash]) -> anyhow::Result<()> {
    let hashes: Vec<Vec<u8>> = contents.iter().map(|it| it.0.to_vec()).collect();
    sqlx::query!(
        "insert into sweep_file (sweep_id, artifact) select $1, unnest($2::bytea[]) on conflict do nothing",
        sweep,
        &hashes
    )
    .execute(&mut **tx)
    .await
    .context("keep the pictures in the store: enqueue the sweep again")?;
    Ok(())
}

/// The media type of a picture file by its name.
fn media(path: &std::path::Path) -> &'static str {
    match path.extension().and_then(|it| it.to_str()).map(str::to_ascii_lowercase).as_deref() {
        Some("png") => "image/png",
        Some("webp") => "image/webp",
        _ => "image/jpeg",
    }
}

async fn record(tx: &mut Tx<'_>, uploads: &[Uploaded]) -> anyhow::Result<()> {
    let hashes: Vec<Vec<u8>> = uploads.iter().map(|it| it.hash.0.to_vec()).collect();
    let sizes: Vec<i64> = uploads.iter().map(|it| i64::try_from(it.n_bytes).unwrap_or(i64::MAX)).collect();
    let media: Vec<String> = uploads.iter().map(|it| it.media.to_owned()).collect();
    sqlx::query!(
        "insert into artifact (hash, bytes, media)
        select * from unnest($1::bytea[], $2::bigint[], $3::text[])
        on conflict do nothing",
        &hashes,
        &sizes,
        &media
    )
    .execute(&mut **tx)
    .await
    .context("write which pictures are in the store")?;
    Ok(())
}
