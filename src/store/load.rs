//! What makes a report hard: a sweep of many models, samples and scores, as if it had been run. For measurements in a
//! database of their own.

use anyhow::Context;
use sqlx::PgPool;

use crate::job::Hash;
use crate::job::task::MetricId;
use crate::plan::Making;

/// A sweep that has been run, in numbers.
#[derive(Clone, Debug)]
pub struct Past<'a> {
    /// Its sources: name, model and how they were made; the first is of photographs.
    pub sources: &'a [(String, Option<String>, Option<Making>)],
    /// How many samples each source has.
    pub n_samples: i32,
    /// Side of every picture in pixels.
    pub side: i32,
    /// Artifacts that stand for the pictures, in turn.
    pub pictures: &'a [Hash],
    /// Artifacts that stand for their previews, in turn.
    pub previews: &'a [Hash],
    /// The metrics that the sweep asks for.
    pub metrics: &'a [MetricId],
    /// How many scores each image has in all: those beyond `metrics` are of versions that nobody asks for any more.
    pub n_scores: i32,
}

/// Writes the sweep and everything that belongs to it; its id.
///
/// # Errors
/// Postgres is out of reach or its disk is full.
pub async fn past(pool: &PgPool, past: &Past<'_>) -> anyhow::Result<i32> {
    let sweep = sqlx::query_scalar!(
        "insert into sweep (slug, name, plan_key, definition, metrics, on_failure, priority, program)
        values ('past-00000000', 'past', sha256('past'::bytea), 'name = \"past\"', $1, 'continue', 0, 'past')
        returning id",
        serde_json::to_value(past.metrics)?
    )
    .fetch_one(pool)
    .await
    .context("write the sweep")?;
    let (mut names, mut models, mut makings) = (Vec::new(), Vec::new(), Vec::new());
    for (name, model, making) in past.sources {
        names.push(name.clone());
        models.push(model.clone().unwrap_or_default());
        makings.push(making.as_ref().map(serde_json::to_value).transpose()?.unwrap_or_default());
    }
    sqlx::query!(
        "insert into source (sweep_id, idx, name, model, making)
        select $1, place - 1, name, nullif(model, ''), nullif(making, 'null'::jsonb)
        from unnest($2::text[], $3::text[], $4::jsonb[]) with ordinality as source (name, model, making, place)",
        sweep,
        &names,
        &models,
        &makings
    )
    .execute(pool)
    .await
    .context("write the sources")?;
    sqlx::query!(
        "insert into cell (sweep_id, idx, source_idx, sample, picture)
        select $1, source * $3 + sample, source, 'sample ' || sample, sha256(('picture ' || source || ' ' || sample)::bytea)
        from generate_series(0, $2::int - 1) as source, generate_series(0, $3::int - 1) as sample",
        sweep,
        i32::try_from(past.sources.len())?,
        past.n_samples
    )
    .execute(pool)
    .await
    .context("write the cells")?;
    images(pool, sweep, past).await?;
    scores(pool, sweep, past).await?;
    Ok(sweep)
}

/// Pictures that jobs have made, each with its artifact, its prompt and its preview.
async fn images(pool: &PgPool, sweep: i32, past: &Past<'_>) -> anyhow::Result<()> {
    let bytes = |hashes: &[Hash]| hashes.iter().map(|it| it.0.to_vec()).collect::<Vec<_>>();
    let (pictures, previews) = (bytes(past.pictures), bytes(past.previews));
    sqlx::query!(
        "with file as (select unnest($1::bytea[] || $2::bytea[]) as hash)
        insert into artifact (hash, bytes, media) select distinct hash, 0, 'image/jpeg' from file",
        &pictures,
        &previews
    )
    .execute(pool)
    .await
    .context("write the artifacts")?;
    sqlx::query!(
        "with made as (
            select picture, sha256('job'::bytea || picture) as key, idx, sample from cell where sweep_id = $1
        ),
        images as (
            insert into image (picture, content, recipe, pixels, width, height, preview)
            select picture, key, jsonb_build_object('content', encode(key, 'hex'), 'origin', 'job'), sha256(picture), $2, $2,
                ($4::bytea[])[1 + idx % array_length($4::bytea[], 1)]
            from made
        ),
        outputs as (
            insert into job_output (key, job_id, artifact)
            select key, 0, ($3::bytea[])[1 + idx % array_length($3::bytea[], 1)] from made
        )
        insert into generation (content, artifact, width, height, prompt, seed, steps, guidance, t5_tokens, dtype,
            partition, format, text_hash, denoiser_hash, vae_hash, n_cut, job_id)
        select key, ($3::bytea[])[1], $2, $2, repeat('What ' || sample || ' is to show, in many words. ', 8), 0, 28, 7, 77,
            'bf16', 'exact', 'jpeg95', key, key, key, '{0,0,0}', 0
        from made",
        sweep,
        past.side,
        &pictures,
        &previews
    )
    .execute(pool)
    .await
    .context("write the images")?;
    Ok(())
}

/// Scores in which models and samples differ, and chance has a share.
async fn scores(pool: &PgPool, sweep: i32, past: &Past<'_>) -> anyhow::Result<()> {
    let names: Vec<String> = past.metrics.iter().map(|it| it.metric.clone()).collect();
    let variants: Vec<String> = past.metrics.iter().map(|it| it.variant.clone()).collect();
    let versions: Vec<i32> = past.metrics.iter().map(|it| i32::try_from(it.version)).collect::<Result<_, _>>()?;
    sqlx::query!(
        "with wanted as (
            select name, variant, version, place - 1 as place
            from unnest($2::text[], $3::text[], $4::int[]) with ordinality as metric (name, variant, version, place)
        ),
        dated as (
            select name, variant, version + 1000 * (n / $6) as version, n
            from generate_series(0, $5::int - 1) as n join wanted on wanted.place = n % $6
        )
        insert into score (image_id, metric, variant, version, value, job_id)
        select image.id, dated.name, dated.variant, dated.version,
            1 + 0.02 * cell.source_idx + 0.3 * (hashtext(cell.sample) & 255) / 255.0
                + 0.2 * (hashtext(encode(cell.picture, 'hex') || dated.n) & 255) / 255.0, 0
        from cell join image on image.picture = cell.picture cross join dated
        where cell.sweep_id = $1",
        sweep,
        &names,
        &variants,
        &versions,
        past.n_scores,
        i32::try_from(past.metrics.len())?
    )
    .execute(pool)
    .await
    .context("write the scores")?;
    Ok(())
}
