//! Checkpoints of running jobs, and the curves that they report. Every write matches the attempt's lease.

use anyhow::Context;
use sqlx::PgPool;
use sqlx::types::Json;

use super::made::Artifact;
use crate::job::{Hash, JobId, Lease};
use crate::queue::Tx;
use crate::queue::settle::hold;

/// A checkpoint as it is kept.
#[derive(Clone, PartialEq, Debug)]
pub struct Saved {
    /// How many steps were done.
    pub step: u64,
    /// The file.
    pub artifact: Hash,
    /// What the task wants to know when it goes on from there.
    pub meta: serde_json::Value,
}

/// The checkpoints of the job of this key, the newest first.
///
/// # Errors
/// Postgres is out of reach.
pub async fn saved(pool: &PgPool, key: &Hash) -> anyhow::Result<Vec<Saved>> {
    let rows =
        sqlx::query!("select step, artifact, meta from checkpoint where key = $1 order by step desc", &key.0[..])
            .fetch_all(pool)
            .await
            .context("look for checkpoints")?;
    let saved = |row: (i64, Vec<u8>, serde_json::Value)| -> anyhow::Result<Saved> {
        Ok(Saved { step: u64::try_from(row.0)?, artifact: row.1.try_into()?, meta: row.2 })
    };
    rows.into_iter().map(|row| saved((row.step, row.artifact, row.meta))).collect()
}

/// Notes a checkpoint whose file is in the store, in the place of one of the same step. Of all checkpoints of the job
/// the `keep_last` newest stay, and that of the step `spare`.
///
/// # Errors
/// [`LeaseLost`](crate::queue::LeaseLost), or Postgres is out of reach; nothing is written then.
pub async fn keep(
    pool: &PgPool,
    job: JobId,
    lease: Lease,
    key: &Hash,
    saved: &Saved,
    artifact: &Artifact,
    (keep_last, spare): (u32, Option<u64>),
) -> anyhow::Result<()> {
    let mut tx = pool.begin().await.context("begin a transaction")?;
    hold(&mut tx, job, lease).await?;
    sqlx::query!(
        "insert into artifact (hash, bytes, media) values ($1, $2, $3) on conflict do nothing",
        &artifact.hash.0[..],
        i64::try_from(artifact.n_bytes)?,
        artifact.media
    )
    .execute(&mut *tx)
    .await
    .context("write the checkpoint's artifact")?;
    sqlx::query!(
        "insert into checkpoint (key, step, artifact, meta, lease) values ($1, $2, $3, $4, $5)
        on conflict (key, step) do update
        set artifact = excluded.artifact, meta = excluded.meta, lease = excluded.lease, made_at = now()",
        &key.0[..],
        i64::try_from(saved.step)?,
        &artifact.hash.0[..],
        Json(&saved.meta) as _,
        lease.0
    )
    .execute(&mut *tx)
    .await
    .context("write the checkpoint")?;
    sqlx::query!(
        "delete from checkpoint
        where key = $1 and step is distinct from $3::bigint
            and step not in (select step from checkpoint where key = $1 order by step desc limit $2)",
        &key.0[..],
        i64::from(keep_last.max(1)),
        spare.map(i64::try_from).transpose()? as Option<i64>
    )
    .execute(&mut *tx)
    .await
    .context("drop old checkpoints")?;
    tx.commit().await.context("commit the checkpoint")
}

/// Notes where an attempt begins, and drops what earlier ones have left of later steps.
///
/// # Errors
/// [`LeaseLost`](crate::queue::LeaseLost), or Postgres is out of reach; nothing is written then.
pub async fn begin_after(pool: &PgPool, job: JobId, lease: Lease, key: &Hash, step: Option<u64>) -> anyhow::Result<()> {
    let step = step.map(i64::try_from).transpose()?;
    let mut tx = pool.begin().await.context("begin a transaction")?;
    hold(&mut tx, job, lease).await?;
    sqlx::query!("update attempt set resumed_after = $2 where lease = $1", lease.0, step)
        .execute(&mut *tx)
        .await
        .context("note where the attempt begins")?;
    for table in [
        sqlx::query!("delete from checkpoint where key = $1 and step > coalesce($2::bigint, -1)", &key.0[..], step),
        sqlx::query!("delete from curve where key = $1 and step > coalesce($2::bigint, -1)", &key.0[..], step),
    ] {
        table.execute(&mut *tx).await.context("drop what came after the checkpoint")?;
    }
    tx.commit().await.context("commit where the attempt begins")
}

/// A point of a curve.
#[derive(Clone, PartialEq, Debug, serde::Serialize)]
pub struct Point {
    /// The curve.
    pub name: String,
    /// After how many steps.
    pub step: i64,
    /// The value; none where it was not finite.
    pub value: Option<f64>,
}

/// Adds points to the curves of the job of this key; a lost lease changes nothing. A point that exists is replaced.
///
/// # Errors
/// Postgres is out of reach.
pub async fn add_points(pool: &PgPool, job: JobId, lease: Lease, key: &Hash, points: &[Point]) -> anyhow::Result<()> {
    let names: Vec<String> = points.iter().map(|it| it.name.replace('\0', "\u{fffd}")).collect();
    let steps: Vec<i64> = points.iter().map(|it| it.step).collect();
    let values: Vec<Option<f64>> = points.iter().map(|it| it.value).collect();
    sqlx::query!(
        "with held as (
            select from job where id = $1 and lease = $2 and state = 'running' for share
        )
        insert into curve (key, name, step, value, lease)
        select distinct on (name, step) $3::bytea, name, step, value, $2::bigint
        from unnest($4::text[], $5::bigint[], $6::float8[]) with ordinality as fresh (name, step, value, at)
        where exists (select from held)
        order by name, step, at desc
        on conflict (key, name, step) do update set value = excluded.value, lease = excluded.lease",
        job.0,
        lease.0,
        &key.0[..],
        &names,
        &steps,
        &values as &[Option<f64>]
    )
    .execute(pool)
    .await
    .context("write curves")?;
    Ok(())
}

/// The curves of the job of this key, by name and step.
///
/// # Errors
/// Postgres is out of reach.
pub async fn curves(pool: &PgPool, key: &Hash) -> anyhow::Result<Vec<Point>> {
    sqlx::query_as!(Point, "select name, step, value from curve where key = $1 order by name, step", &key.0[..])
        .fetch_all(pool)
        .await
        .context("read curves")
}

/// Drops the checkpoints of a job, in the transaction that ends it well: nobody goes on from there.
///
/// # Errors
/// Postgres is out of reach.
pub async fn drop_all(tx: &mut Tx<'_>, key: &Hash) -> anyhow::Result<()> {
    sqlx::query!("delete from checkpoint where key = $1", &key.0[..])
        .execute(&mut **tx)
        .await
        .context("drop the checkpoints")?;
    Ok(())
}
