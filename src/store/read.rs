//! Reading: what one sweep found, and what pools are computed from.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

use anyhow::Context;
use futures_util::TryStreamExt as _;
use sqlx::PgPool;
use sqlx::types::Json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::artifact::Artifacts;
use super::asking::spending;
use super::captions;
use super::effort;
use super::files::{places_of, sizes_of};
use super::findings::{Failure, Findings, Image, Original, Score, SetScore, Source};
use super::labels::of_sweep;
use super::made::{origins, outputs};
use super::training::trainings;
use super::upload::uploaded;
use crate::job::outcome::PoolInput;
use crate::job::task::{MetricId, Origin, Picture};
use crate::job::{Hash, JobId};
use crate::plan::{Making, Rung};
use crate::queue::look::counts;

/// The defined scores of these pictures by these metrics, those that need no reference.
///
/// # Errors
/// Postgres is out of reach.
pub async fn pool_inputs(pool: &PgPool, pictures: &[Hash], metrics: &[MetricId]) -> anyhow::Result<Vec<PoolInput>> {
    let pictures: Vec<Vec<u8>> = pictures.iter().map(|it| it.0.to_vec()).collect();
    let names: Vec<String> = metrics.iter().map(|it| it.metric.clone()).collect();
    let rows = sqlx::query!(
        "select score.metric, variant, version, width, height, value as \"value!\"
        from image join score on score.image_id = image.id
        where image.picture = any($1) and score.metric = any($2) and score.reference = '' and score.value is not null
        order by image.picture, score.metric, score.variant",
        &pictures,
        &names
    )
    .fetch_all(pool)
    .await
    .context("read the scores of a set")?;
    rows.into_iter()
        .map(|row| {
            Ok(PoolInput {
                metric: MetricId { metric: row.metric, variant: row.variant, version: u32::try_from(row.version)? },
                width: u32::try_from(row.width)?,
                height: u32::try_from(row.height)?,
                value: row.value,
            })
        })
        .collect()
}

/// Everything that is known of a sweep now.
///
/// # Errors
/// Postgres is out of reach.
pub async fn findings(pool: &PgPool, artifacts: &Artifacts, sweep: i32) -> anyhow::Result<Findings> {
    findings_at(pool, artifacts, sweep, None).await
}

/// Everything that was known of a sweep at a moment: scores and failures that came later are not in it. Of set scores only the
/// last is kept; one that was computed anew after `at` is not known any more.
///
/// # Errors
/// Postgres is out of reach.
pub async fn findings_at(
    pool: &PgPool,
    artifacts: &Artifacts,
    sweep: i32,
    at: Option<OffsetDateTime>,
) -> anyhow::Result<Findings> {
    let head = sqlx::query!(
        "select slug, name, definition, program, enqueued_at, now() as \"now!\", metrics as \"metrics: Json<BTreeSet<MetricId>>\"
        from sweep
        where id = $1",
        sweep
    )
    .fetch_one(pool)
    .await
    .context("read the sweep")?;
    let sources = sources(pool, sweep).await?;
    let (images, places) = images(pool, artifacts, sweep).await?;
    let scores = scores(pool, sweep, at, &head.metrics.0, &places).await?;
    let work = sqlx::query!(
        "select coalesce(sum(extract(epoch from attempt.ended_at - attempt.started_at)), 0)::float8 as \"busy!\",
            array_remove(array_agg(distinct worker.host || ': ' || worker.machine), null) as \"machines: Vec<String>\"
        from sweep_job
        join attempt on attempt.job_id = sweep_job.job_id
        join worker on worker.id = attempt.worker_id
        where sweep_job.sweep_id = $1",
        sweep
    )
    .fetch_one(pool)
    .await
    .context("read who worked on the sweep")?;
    let labels = of_sweep(pool, sweep, at).await?;
    Ok(Findings {
        sweep: head.slug,
        name: head.name,
        definition: head.definition,
        enqueued_at: rfc3339(head.enqueued_at)?,
        read_at: rfc3339(at.unwrap_or(head.now))?,
        program: head.program,
        machines: work.machines.unwrap_or_default(),
        busy_seconds: work.busy,
        jobs: counts(pool, sweep).await?,
        set_scores: set_scores(pool, sweep, at, &head.metrics.0).await?,
        failures: failures(pool, sweep, at).await?,
        trainings: trainings(pool, artifacts, sweep).await?,
        ratings: labels.ratings.into_iter().map(|it| it.label).collect(),
        verdicts: labels.verdicts.into_iter().map(|it| it.label).collect(),
        asked: spending(pool, Some(sweep), at).await?,
        captions: captions::of_sweep(pool, sweep, at, &images).await?,
        efforts: effort::of_images(pool, &images).await?,
        sources,
        images,
        scores,
    })
}

fn rfc3339(moment: OffsetDateTime) -> anyhow::Result<String> {
    Ok(moment.replace_nanosecond(0)?.format(&Rfc3339)?)
}

async fn sources(pool: &PgPool, sweep: i32) -> anyhow::Result<Vec<Source>> {
    let rows = sqlx::query!(
        "select name, model, ladder, ladder_of, damage, parameter, level, severity, making as \"making: Json<Making>\"
        from source
        where sweep_id = $1
        order by idx",
        sweep
    )
    .fetch_all(pool)
    .await
    .context("read the sources")?;
    Ok(rows
        .into_iter()
        .map(|row| Source {
            name: row.name,
            model: row.model,
            rung: row.ladder.map(|ladder| Rung {
                ladder,
                of: row.ladder_of.unwrap_or_default(),
                kind: row.damage.unwrap_or_default(),
                parameter: row.parameter.unwrap_or_default(),
                level: row.level.unwrap_or_default(),
                severity: row.severity.unwrap_or_default(),
            }),
            making: row.making.map(|it| it.0),
        })
        .collect())
}

/// Where the images of a picture and its reference stand in the list.
type Places = HashMap<(Hash, Vec<u8>), Vec<usize>>;

async fn images(pool: &PgPool, artifacts: &Artifacts, sweep: i32) -> anyhow::Result<(Vec<Image>, Places)> {
    let rows = sqlx::query!(
        "with asked as (
            select distinct on (every_job.subject) every_job.subject,
                case when kind in ('evaluate', 'caption') then every_job.task -> 'picture'
                    else jsonb_build_object('content', encode(every_job.key, 'hex'), 'origin', 'job') end as recipe
            from sweep_job join every_job on every_job.id = sweep_job.job_id
            where sweep_job.sweep_id = $1 and every_job.subject is not null
                and every_job.kind in ('evaluate', 'caption', 'decode', 'reconstruct')
            order by every_job.subject, kind = 'caption'
        )
        select cell.source_idx, cell.sample, cell.picture, cell.reference,
            coalesce(image.recipe, asked.recipe) as \"recipe?: Json<Picture>\",
            image.width as \"width?\", image.height as \"height?\", image.preview
        from cell
        left join image on image.picture = cell.picture
        left join asked on asked.subject = cell.picture
        where cell.sweep_id = $1
        order by cell.idx",
        sweep
    )
    .fetch_all(pool)
    .await
    .context("read the images")?;
    // What is only judged has no recipe there.
    let judged = if rows.iter().any(|it| it.recipe.is_none()) { judged(pool, sweep).await? } else { HashMap::new() };
    let mut recipes: Vec<Option<Picture>> = Vec::with_capacity(rows.len());
    for row in &rows {
        let known = row.recipe.as_ref().map(|it| it.0.clone());
        recipes.push(known.or_else(|| judged.get(row.picture.as_slice()).cloned()));
    }
    let contents = |origin: Origin| -> Vec<Hash> {
        let of = recipes.iter().flatten().filter(|it| it.origin == origin).map(|it| it.content);
        of.collect::<BTreeSet<_>>().into_iter().collect()
    };
    let made = contents(Origin::Job);
    let origins = origins(pool, &made).await?;
    let mut files = contents(Origin::File);
    files.extend(origins.originals.values().map(|it| it.content));
    // Where each content lies, and what the bytes there hash to.
    let mut paths: BTreeMap<Hash, (PathBuf, Hash)> = BTreeMap::new();
    for place in places_of(pool, &files).await? {
        if place.path.exists() {
            paths.entry(place.content).or_insert((place.path, place.content));
        }
    }
    let away: Vec<Hash> = files.iter().filter(|it| !paths.contains_key(it)).copied().collect();
    for content in uploaded(pool, &away).await? {
        paths.insert(content, (artifacts.path(&content), content));
    }
    for output in outputs(pool, &made).await? {
        paths.insert(output.key, (artifacts.path(&output.artifact), output.artifact));
    }
    let unscored = recipes.iter().zip(&rows).filter(|it| it.1.width.is_none()).filter_map(|it| it.0.as_ref());
    let whole: BTreeSet<Hash> = unscored.filter(|it| it.steps.is_empty()).map(|it| it.content).collect();
    let sizes = sizes_of(pool, &whole.into_iter().collect::<Vec<_>>()).await?;
    let mut places = Places::new();
    let mut images = Vec::with_capacity(rows.len());
    for (row, picture) in rows.into_iter().zip(recipes) {
        let Some(picture) = picture else { continue };
        let key = Hash::try_from(row.picture)?;
        places.entry((key, row.reference)).or_default().push(images.len());
        let size = row.width.zip(row.height).map(|(w, h)| anyhow::Ok((u32::try_from(w)?, u32::try_from(h)?)));
        let size =
            size.transpose()?.or_else(|| sizes.get(&picture.content).copied().filter(|_| picture.steps.is_empty()));
        let file = paths.get(&picture.content);
        let (prompt, n_cut) = origins.prompts.get(&picture.content).cloned().unzip();
        // A part of a reconstruction is laid beside nothing.
        let original = origins
            .originals
            .get(&picture.content)
            .filter(|_| picture.steps.is_empty())
            .map(|it| Original { picture: it.clone(), path: paths.get(&it.content).map(|it| it.0.clone()) });
        images.push(Image {
            source: usize::try_from(row.source_idx)?,
            sample: row.sample,
            key,
            path: file.map(|it| it.0.clone()),
            content: file.map_or(picture.content, |it| it.1),
            prompt,
            n_cut: n_cut.unwrap_or_default(),
            original,
            picture,
            size,
            preview: row.preview.map(Hash::try_from).transpose()?.map(|it| artifacts.path(&it)),
        });
    }
    Ok((images, places))
}

/// The pictures that judges of a sweep compare, by their keys.
async fn judged(pool: &PgPool, sweep: i32) -> anyhow::Result<HashMap<Vec<u8>, Picture>> {
    let rows = sqlx::query_scalar!(
        "select distinct shown.recipe as \"recipe!: Json<Picture>\"
        from sweep_job
        join every_job on every_job.id = sweep_job.job_id
        cross join lateral (values (every_job.task -> 'first'), (every_job.task -> 'second')) as shown (recipe)
        where sweep_job.sweep_id = $1 and every_job.kind = 'judge'",
        sweep
    )
    .fetch_all(pool)
    .await
    .context("read what is judged")?;
    Ok(rows.into_iter().map(|it| (it.key().0.to_vec(), it.0)).collect())
}

async fn scores(
    pool: &PgPool,
    sweep: i32,
    at: Option<OffsetDateTime>,
    metrics: &BTreeSet<MetricId>,
    places: &Places,
) -> anyhow::Result<Vec<Score>> {
    let names: Vec<String> = metrics.iter().map(|it| it.metric.clone()).collect();
    let variants: Vec<String> = metrics.iter().map(|it| it.variant.clone()).collect();
    let versions: Vec<i32> = metrics.iter().map(|it| i32::try_from(it.version)).collect::<Result<_, _>>()?;
    // Row by row: there may be a million of them, and older versions of metrics are left to the server.
    let mut rows = sqlx::query!(
        "select pair.picture as \"picture!\", pair.reference as \"reference!\",
            score.metric, score.variant, score.version, score.value, score.why, score.note
        from (select distinct picture, reference from cell where sweep_id = $1) as pair
        join sweep on sweep.id = $1
        join image on image.picture = pair.picture
        join score on score.image_id = image.id and score.reference in ('', pair.reference)
        join unnest($2::text[], $3::text[], $4::int[]) as wanted (metric, variant, version)
            on wanted.metric = score.metric and wanted.variant = score.variant and wanted.version = score.version
        where encode(score.network, 'hex') = coalesce(sweep.networks ->> score.metric, '')
            and ($5::timestamptz is null or score.scored_at <= $5)",
        sweep,
        &names,
        &variants,
        &versions,
        at
    )
    .fetch(pool);
    let mut scores = Vec::new();
    while let Some(row) = rows.try_next().await.context("read the scores")? {
        let metric = MetricId { metric: row.metric, variant: row.variant, version: u32::try_from(row.version)? };
        let place = (Hash::try_from(row.picture)?, row.reference);
        for image in places.get(&place).into_iter().flatten() {
            scores.push(Score {
                image: *image,
                metric: metric.clone(),
                value: row.value,
                why: row.why.clone(),
                note: row.note.clone(),
            });
        }
    }
    let value = |it: &Score| it.value.unwrap_or(f64::INFINITY);
    scores.sort_by(|a, b| (a.image, &a.metric).cmp(&(b.image, &b.metric)).then(value(a).total_cmp(&value(b))));
    scores.dedup_by(|a, b| (a.image, &a.metric) == (b.image, &b.metric));
    Ok(scores)
}

async fn set_scores(
    pool: &PgPool,
    sweep: i32,
    at: Option<OffsetDateTime>,
    metrics: &BTreeSet<MetricId>,
) -> anyhow::Result<Vec<SetScore>> {
    let rows = sqlx::query!(
        "select source.idx, metric, variant, version, value, why, n
        from source join set_score on set_score.set_key = source.set_key
        where source.sweep_id = $1 and ($2::timestamptz is null or scored_at <= $2)
        order by source.idx, metric, variant",
        sweep,
        at
    )
    .fetch_all(pool)
    .await
    .context("read the scores of sets")?;
    let mut scores = Vec::with_capacity(rows.len());
    for row in rows {
        let metric = MetricId { metric: row.metric, variant: row.variant, version: u32::try_from(row.version)? };
        if metrics.contains(&metric) {
            scores.push(SetScore {
                source: usize::try_from(row.idx)?,
                metric,
                value: row.value,
                why: row.why,
                n: u64::try_from(row.n)?,
            });
        }
    }
    Ok(scores)
}

async fn failures(pool: &PgPool, sweep: i32, at: Option<OffsetDateTime>) -> anyhow::Result<Vec<Failure>> {
    let rows = sqlx::query!(
        "select ended.id as \"id!\", ended.kind as \"kind!\", ended.state as \"state!\", ended.error, ended.n_attempts as \"n_attempts!\",
            coalesce((select cause = 'memory' from attempt where attempt.job_id = ended.id order by lease desc limit 1), false)
                as \"out_of_memory!\",
            cell.source_idx as \"source_idx?\", cell.sample as \"sample?\"
        from sweep_job
        join job_history as ended on ended.id = sweep_job.job_id
        left join cell on cell.sweep_id = sweep_job.sweep_id and cell.picture = ended.subject
        where sweep_job.sweep_id = $1 and ended.state <> 'done' and ($2::timestamptz is null or ended.ended_at <= $2)
        order by ended.id, cell.idx",
        sweep,
        at
    )
    .fetch_all(pool)
    .await
    .context("read what failed")?;
    rows.into_iter()
        .map(|row| {
            Ok(Failure {
                job: JobId(row.id),
                kind: row.kind,
                state: row.state.parse()?,
                source: row.source_idx.map(usize::try_from).transpose()?,
                sample: row.sample,
                error: row.error.unwrap_or_default(),
                n_attempts: u32::try_from(row.n_attempts)?,
                out_of_memory: row.out_of_memory,
            })
        })
        .collect()
}
