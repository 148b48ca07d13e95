//! Claims and ends of many jobs at a time: one statement, one transaction, for all that are asked for at once.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::Context;
use sqlx::{PgExecutor, PgPool};
use uuid::Uuid;

use super::claim::Claimed;
use crate::job::needs::Offer;
use crate::job::{JobId, Lease};

/// Takes ready jobs for slots of one worker that offer the same and have nothing loaded, in one statement: each with its
/// slot, all of one lane and priority, and fewer than there are slots where fewer are ready. None also where a limit
/// stands before the best ones: [`claim`](super::claim::claim) takes those one by one.
///
/// # Errors
/// Postgres is out of reach.
pub async fn claim_many(
    pool: &PgPool,
    worker: Uuid,
    slots: &[String],
    offer: &Offer,
) -> anyhow::Result<Vec<(String, Claimed)>> {
    let (n_gpus, memory) = (i32::from(offer.n_gpus), i32::try_from(offer.gpu_memory_gib).unwrap_or(i32::MAX));
    let rows =
        sqlx::query_file!("src/queue/claim_many.sql", worker, slots, n_gpus, offer.gpu_model, memory, &offer.labels)
            .fetch_all(pool)
            .await
            .context("claim jobs")?;
    let claimed = rows.into_iter().map(|row| {
        let job = Claimed {
            id: JobId(row.id),
            lease: Lease(row.lease),
            number: u32::try_from(row.n_attempts).unwrap_or_default(),
            task: serde_json::from_str(&row.task).with_context(|| format!("understand the task of job {}", row.id))?,
            affinity: row.affinity,
            limit: Duration::from_secs(u64::try_from(row.limit_s).unwrap_or_default()),
            waited: Duration::ZERO,
        };
        Ok((row.slot, job))
    });
    claimed.collect()
}

/// Ends jobs well whose leases are still theirs, and says which; the others are left as they are. In a transaction, or as one.
///
/// # Errors
/// Postgres is out of reach; nothing is written then.
pub async fn finish_many(db: impl PgExecutor<'_>, jobs: &[(JobId, Lease)]) -> anyhow::Result<HashSet<Lease>> {
    let (ids, leases): (Vec<i64>, Vec<i64>) = jobs.iter().map(|it| (it.0.0, it.1.0)).unzip();
    let ended = sqlx::query_file!("src/queue/finish_many.sql", &ids, &leases, super::fence::is_down())
        .fetch_all(db)
        .await
        .context("end the jobs")?;
    Ok(ended.into_iter().map(|it| Lease(it.lease)).collect())
}
