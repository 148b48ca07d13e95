//! Sweeping up: artifacts that no row names any more, and files in the store that no artifact is of.
//!
//! A file is stored before the transaction that names it. One whose writer lost its lease, or died, is never named: a
//! stray. What is young may still be being named, so only what has been known as a stray for a while is removed; the
//! database's clock says how long. An artifact that no row names any more loses its row, and is a stray from then on.
//!
//! Equal work may find a stray of old and count on it. Storing writes the file anew even so, which changes its stamp. A sweep
//! takes a stray whose stamp has changed since the last sweep for one just found, and one whose stamp has changed since it
//! was listed stays. So what is removed was last stored at least an age ago: whoever did that has named it, or never will.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Serialize;
use sqlx::PgPool;

use super::artifact::{Artifacts, Listed};
use crate::job::Hash;
use crate::queue::Tx;

/// An attempt names what it has stored within seconds; this leaves it an outage of Postgres.
const SAFE_AGE: Duration = Duration::from_secs(3600);

/// How many files, and how large they are together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Amount {
    /// Files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
}

impl Amount {
    fn of<'a>(sizes: impl Iterator<Item = &'a u64>) -> Self {
        sizes.fold(Self::default(), |sum, it| Self { files: sum.files + 1, bytes: sum.bytes + it })
    }
}

/// What was swept up, or would be.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct SweptUp {
    /// Artifacts that no row names: strays from now on.
    pub unnamed: Amount,
    /// Files that no artifact was of before.
    pub strays: Amount,
    /// Strays that have not been known long enough.
    pub young: Amount,
    /// What was removed.
    pub removed: Amount,
}

/// Removes the rows of artifacts that nothing names and that are older than `age`, and files that no artifact is of and
/// that were first found at least `age` ago; `dry_run` removes nothing.
///
/// # Errors
/// Pictures are being put into the store; `age` is under an hour and jobs run; Postgres or the store is out of reach.
pub async fn sweep_up(pool: &PgPool, artifacts: &Artifacts, age: Duration, dry_run: bool) -> anyhow::Result<SweptUp> {
    // A transaction of its own, which nothing waits for: others' pictures do until all is done.
    let mut alone = pool.begin().await.context("begin a transaction")?;
    let is_ours = sqlx::query_scalar!("select pg_try_advisory_xact_lock(hashtext('jobctl store')) as \"ours!\"")
        .fetch_one(&mut *alone)
        .await?;
    ensure!(is_ours, "pictures are being put into the store, or somebody else sweeps up; try again later");
    artifacts.recover().await?;
    // Listed before it is asked what runs: what has begun since has stored nothing that is listed.
    let listed: BTreeMap<Hash, Listed> = artifacts.list().await?.into_iter().map(|it| (it.hash, it)).collect();
    let mut tx = pool.begin().await.context("begin a transaction")?;
    let n_running =
        sqlx::query_scalar!("select count(*) as \"n!\" from job where state = 'running'").fetch_one(&mut *tx).await?;
    ensure!(
        dry_run || n_running == 0 || age >= SAFE_AGE,
        "{n_running} jobs run, and what they have just stored is named by nothing yet: with --age 1h or more it is safe"
    );

    if !dry_run {
        sqlx::query!("update mail set message = null where message is not null and state = 'sent' and ended_at < now() - interval '30 days'")
            .execute(&mut *tx)
            .await
            .context("forget the messages of old mails")?;
    }
    let unnamed = unnamed(&mut tx, age).await?;
    if !dry_run {
        let hashes: Vec<Vec<u8>> = unnamed.keys().map(|it| it.0.to_vec()).collect();
        // Its row goes first: a file without a row is found again, a row without its file would be a lie.
        sqlx::query!("delete from artifact where hash = any($1)", &hashes)
            .execute(&mut *tx)
            .await
            .context("remove artifacts")?;
    }
    let strays = strays(&mut tx, &listed, age).await?;
    // When strays were first seen is kept by a dry run as well: that is what makes them old.
    tx.commit().await.context("keep what was found")?;

    let others = || strays.iter().filter(|it| !unnamed.contains_key(&it.hash));
    let mut swept = SweptUp {
        unnamed: Amount::of(unnamed.values()),
        strays: Amount::of(others().map(|it| &it.n_bytes)),
        young: Amount::of(others().filter(|it| it.is_young).map(|it| &it.n_bytes)),
        removed: Amount::default(),
    };
    if dry_run {
        return Ok(swept);
    }
    for stray in strays.iter().filter(|it| !it.is_young) {
        // Equal work may have named it a moment ago.
        let is_named = sqlx::query_scalar!(
            "select exists (select from artifact where hash = $1) as \"named!\"",
            &stray.hash.0[..]
        )
        .fetch_one(pool)
        .await
        .context("look for the artifact")?;
        if !is_named && artifacts.remove_unless_renewed(&listed[&stray.hash]).await? {
            swept.removed.files += 1;
            swept.removed.bytes += stray.n_bytes;
            sqlx::query!("delete from stray where hash = $1", &stray.hash.0[..])
                .execute(pool)
                .await
                .context("forget a stray")?;
        }
    }
    alone.rollback().await.context("let others store again")?;
    Ok(swept)
}

/// Artifacts that nothing names, older than `age`.
async fn unnamed(tx: &mut Tx<'_>, age: Duration) -> anyhow::Result<BTreeMap<Hash, u64>> {
    let rows = sqlx::query!(
        "with known as materialized (
            select hash, bytes from artifact where created_at <= now() - make_interval(secs => $1)
        ),
        named as materialized (
            select artifacts_in_use((select coalesce(array_agg(hash), '{}') from known)) as hash
        )
        select hash as \"hash!\", bytes as \"bytes!\" from known where hash not in (select hash from named)",
        age.as_secs_f64()
    )
    .fetch_all(&mut **tx)
    .await
    .context("look for artifacts that nothing names")?;
    rows.into_iter().map(|row| Ok((Hash::try_from(row.hash)?, u64::try_from(row.bytes)?))).collect()
}

struct Stray {
    hash: Hash,
    n_bytes: u64,
    is_young: bool,
}

/// Files that no artifact is of; those that are new, or were stored anew, are noted as found now.
async fn strays(tx: &mut Tx<'_>, listed: &BTreeMap<Hash, Listed>, age: Duration) -> anyhow::Result<Vec<Stray>> {
    let hashes: Vec<Vec<u8>> = listed.keys().map(|it| it.0.to_vec()).collect();
    let sizes: Vec<i64> = listed.values().map(|it| i64::try_from(it.n_bytes).unwrap_or(i64::MAX)).collect();
    let stamps: Vec<i64> = listed.values().map(|it| it.stamp).collect();
    sqlx::query!(
        "delete from stray
        where hash <> all($1::bytea[]) or exists (select from artifact where artifact.hash = stray.hash)",
        &hashes
    )
    .execute(&mut **tx)
    .await
    .context("forget strays that are none")?;
    let rows = sqlx::query!(
        "insert into stray (hash, bytes, stamp)
        select found.hash, found.bytes, found.stamp
        from unnest($1::bytea[], $2::bigint[], $3::bigint[]) as found (hash, bytes, stamp)
        where not exists (select from artifact where artifact.hash = found.hash)
        on conflict (hash) do update
        set bytes = excluded.bytes, stamp = excluded.stamp,
            found_at = case when stray.stamp = excluded.stamp then stray.found_at else now() end
        returning hash, bytes, found_at > now() - make_interval(secs => $4) as \"young!\"",
        &hashes,
        &sizes,
        &stamps,
        age.as_secs_f64()
    )
    .fetch_all(&mut **tx)
    .await
    .context("note strays")?;
    rows.into_iter()
        .map(|row| Ok(Stray { hash: row.hash.try_into()?, n_bytes: u64::try_from(row.bytes)?, is_young: row.young }))
        .collect()
}

/// What is wrong with the store: artifacts that are missing, or, if it reads them all (`deep`), damaged; and files that
/// no artifact is of. Each as words for people.
///
/// # Errors
/// Postgres or the store is out of reach.
pub async fn look_over(pool: &PgPool, artifacts: &Artifacts, deep: bool) -> anyhow::Result<LookedOver> {
    // The store is listed first: what is stored and named meanwhile is in neither list as missing.
    let before = known(pool).await?;
    let listed: HashSet<Hash> = artifacts.list().await?.into_iter().map(|it| it.hash).collect();
    let after = known(pool).await?;
    let mut found = LookedOver::default();
    for (hash, makers) in &before {
        let fault = if deep && listed.contains(hash) {
            artifacts.check(hash).await?.map(|it| it.to_string())
        } else {
            (!listed.contains(hash)).then(|| format!("the artifact {hash} is not in the store {}", artifacts.name()))
        };
        if let Some(fault) = fault.filter(|_| after.contains_key(hash)) {
            found.lost.push(if makers.is_empty() {
                fault
            } else {
                format!("{fault}; made by job {}", makers.join(", "))
            });
        }
    }
    found.strays = listed.iter().filter(|it| !after.contains_key(it)).map(ToString::to_string).collect();
    found.strays.sort();
    Ok(found)
}

/// What [`look_over`] finds.
#[derive(Debug, Default)]
pub struct LookedOver {
    /// Artifacts that are missing or damaged.
    pub lost: Vec<String>,
    /// Files that no artifact is of.
    pub strays: Vec<String>,
}

/// All artifacts, with the jobs that made them.
async fn known(pool: &PgPool) -> anyhow::Result<BTreeMap<Hash, Vec<String>>> {
    let rows = sqlx::query!(
        "select artifact.hash, array_remove(array_agg(job_output.job_id::text), null) as \"makers!\"
        from artifact left join job_output on job_output.artifact = artifact.hash
        group by artifact.hash"
    )
    .fetch_all(pool)
    .await
    .context("list the artifacts")?;
    rows.into_iter().map(|row| Ok((Hash::try_from(row.hash)?, row.makers))).collect()
}
