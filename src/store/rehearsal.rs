//! Writing what rehearsals make: a file, and scores of a picture that is none.

use anyhow::Context;
use sqlx::types::Json;

use super::made::{self, Artifact};
use crate::job::outcome::Scored;
use crate::job::task::Picture;
use crate::job::{Hash, JobId};
use crate::queue::Tx;

/// Writes a rehearsal's file and scores, in the transaction that ends its job. What exists already stays as it is.
///
/// # Errors
/// Postgres is out of reach.
pub async fn record_rehearsal(
    tx: &mut Tx<'_>,
    job: JobId,
    key: &Hash,
    artifact: Option<&Artifact>,
    scores: &[Scored],
) -> anyhow::Result<()> {
    if let Some(artifact) = artifact {
        made::record_artifact(tx, job, key, artifact, None).await?;
    }
    if scores.is_empty() {
        return Ok(());
    }
    let picture = Picture::of_job(*key);
    let pixels = artifact.map_or(*key, |it| it.hash);
    let image = sqlx::query_scalar!(
        "insert into image (picture, content, recipe, pixels, width, height) values ($1, $2, $3, $4, 1, 1)
        on conflict (picture) do update set pixels = excluded.pixels
        returning id",
        &picture.key().0[..],
        &key.0[..],
        Json(&picture) as _,
        &pixels.0[..]
    )
    .fetch_one(&mut **tx)
    .await
    .context("write the rehearsal's picture")?;
    for score in scores {
        sqlx::query!(
            "insert into score (image_id, metric, variant, version, value, why, note, job_id)
            select $1, $2, $3, $4, $5, $6, $7, $8
            where not exists (
                select from score where image_id = $1 and metric = $2 and variant = $3 and version = $4
            )",
            image,
            score.metric.metric,
            score.metric.variant,
            i32::try_from(score.metric.version)?,
            score.value,
            score.why,
            score.note,
            job.0
        )
        .execute(&mut **tx)
        .await
        .context("write the rehearsal's scores")?;
    }
    Ok(())
}
