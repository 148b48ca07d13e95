//! Writing: what a sweep compares, and the results of its jobs.

use std::collections::{BTreeMap, HashSet};

use anyhow::Context;
use sqlx::types::Json;

use super::training;
use crate::job::outcome::{Made, Scored, SetScored};
use crate::job::task::{Evaluate, MetricId, Picture, Pool, Task};
use crate::job::{Hash, JobId};
use crate::plan::{Cell, Plan};
use crate::queue::Tx;
use crate::queue::bulk::{Kind, Row, Table, send};

/// Writes what a sweep compares: its sources and cells. `plan` is the whole plan, nothing taken out of it.
///
/// # Errors
/// Postgres is out of reach.
pub async fn record_plan(tx: &mut Tx<'_>, sweep: i32, plan: &Plan) -> anyhow::Result<()> {
    const SOURCE: Table = Table {
        name: "source",
        columns: &[
            ("sweep_id", Kind::Int4),
            ("idx", Kind::Int4),
            ("name", Kind::Text),
            ("model", Kind::Text),
            ("ladder", Kind::Text),
            ("ladder_of", Kind::Text),
            ("damage", Kind::Text),
            ("parameter", Kind::Text),
            ("level", Kind::Float8),
            ("severity", Kind::Float8),
            ("set_key", Kind::Bytes),
            ("making", Kind::Jsonb),
        ],
    };
    send(tx, &SOURCE, plan.sources.iter().enumerate(), |row, (idx, source)| {
        let rung = source.rung.as_ref();
        row.int4(sweep)?;
        row.int4(i32::try_from(idx)?)?;
        row.text(&source.name)?;
        row.maybe(source.model.as_deref(), Row::text)?;
        row.maybe(rung.map(|it| it.ladder.as_str()), Row::text)?;
        row.maybe(rung.map(|it| it.of.as_str()), Row::text)?;
        row.maybe(rung.map(|it| it.kind.as_str()), Row::text)?;
        row.maybe(rung.map(|it| it.parameter.as_str()), Row::text)?;
        row.maybe(rung.map(|it| it.level), Row::float8)?;
        row.maybe(rung.map(|it| it.severity), Row::float8)?;
        row.maybe(source.set.map(|job| set_key(&plan.jobs[job].task)).as_ref(), Row::hash)?;
        let making = source.making.as_ref().map(serde_json::to_string).transpose()?;
        row.maybe(making.as_deref(), Row::jsonb)
    })
    .await?;
    record_networks(tx, sweep, plan).await?;
    training::record_plan(tx, sweep, plan).await?;
    // In the order of the pictures' index: neighbours go to the same page.
    let mut cells: Vec<(usize, &Cell)> = plan.cells.iter().enumerate().collect();
    cells.sort_unstable_by_key(|(_, cell)| cell.key);
    const CELL: Table = Table {
        name: "cell",
        columns: &[
            ("sweep_id", Kind::Int4),
            ("idx", Kind::Int4),
            ("source_idx", Kind::Int4),
            ("sample", Kind::Text),
            ("picture", Kind::Bytes),
            ("reference", Kind::Bytes),
        ],
    };
    send(tx, &CELL, cells, |row, (idx, cell)| {
        row.int4(sweep)?;
        row.int4(i32::try_from(idx)?)?;
        row.int4(i32::try_from(cell.source)?)?;
        row.text(&cell.sample)?;
        row.hash(&cell.key)?;
        match cell.jobs.iter().find_map(|job| plan.jobs[*job].reference) {
            Some(reference) => row.hash(&reference),
            None => row.no_bytes(),
        }
    })
    .await
}

/// What the sweep's metrics look through, by metric.
async fn record_networks(tx: &mut Tx<'_>, sweep: i32, plan: &Plan) -> anyhow::Result<()> {
    let mut networks: BTreeMap<&str, String> = BTreeMap::new();
    for job in &plan.jobs {
        if let Task::Evaluate(Evaluate { metrics, network: Some(network), .. }) = &job.task {
            for it in metrics.iter().filter(|it| !networks.contains_key(it.metric.as_str())).collect::<Vec<_>>() {
                networks.insert(&it.metric, network.to_string());
            }
        }
    }
    if networks.is_empty() {
        return Ok(());
    }
    sqlx::query!("update sweep set networks = $2 where id = $1", sweep, Json(networks) as _)
        .execute(&mut **tx)
        .await
        .context("write what the metrics look through")?;
    Ok(())
}

fn set_key(task: &Task) -> Hash {
    match task {
        Task::Pool(pool) => pool.set_key(),
        _ => unreachable!("a source's set is a pool"),
    }
}

/// Writes an image, its scores and its preview (hash and size in bytes of a JPEG in the store),
/// in the transaction that ends its job. Scores that exist already stay as they are.
///
/// # Errors
/// Postgres is out of reach.
pub async fn record_image(
    tx: &mut Tx<'_>,
    job: JobId,
    task: &Evaluate,
    made: &Made,
    preview: Option<(Hash, usize)>,
    scores: &[Scored],
) -> anyhow::Result<()> {
    if let Some((hash, bytes)) = preview {
        sqlx::query!(
            "insert into artifact (hash, bytes, media) values ($1, $2, 'image/jpeg') on conflict do nothing",
            &hash.0[..],
            i64::try_from(bytes)?
        )
        .execute(&mut **tx)
        .await
        .context("write the preview")?;
    }
    let image = image_id(tx, &task.picture, made, preview.map(|it| it.0)).await?;
    let reference = task.reference.as_ref().map(|it| it.key().0.to_vec()).unwrap_or_default();
    let network = task.network.map(|it| it.0.to_vec()).unwrap_or_default();
    let n = scores.len();
    let (mut names, mut variants, mut versions) = (Vec::with_capacity(n), Vec::with_capacity(n), Vec::with_capacity(n));
    let (mut references, mut values) = (Vec::with_capacity(n), Vec::with_capacity(n));
    let (mut whys, mut notes) = (Vec::with_capacity(n), Vec::with_capacity(n));
    for score in scores {
        names.push(score.metric.metric.clone());
        variants.push(score.metric.variant.clone());
        versions.push(i32::try_from(score.metric.version)?);
        references.push(if score.with_reference { reference.clone() } else { Vec::new() });
        values.push(score.value);
        whys.push(score.why.clone());
        notes.push(score.note.clone());
    }
    sqlx::query!(
        "insert into score (image_id, metric, variant, version, reference, value, why, note, job_id, network)
        select $1, fresh.*, $2, $10
        from unnest($3::text[], $4::text[], $5::int[], $6::bytea[], $7::float8[], $8::text[], $9::text[])
            as fresh (metric, variant, version, reference, value, why, note)
        where not exists (
            select
            from score
            where score.image_id = $1 and score.metric = fresh.metric and score.variant = fresh.variant
                and score.version = fresh.version and score.reference = fresh.reference and score.network = $10
        )",
        image,
        job.0,
        &names,
        &variants,
        &versions,
        &references,
        &values as &[Option<f64>],
        &whys as &[Option<String>],
        &notes as &[Option<String>],
        &network,
    )
    .execute(&mut **tx)
    .await
    .context("write the scores")?;
    Ok(())
}

async fn image_id(tx: &mut Tx<'_>, picture: &Picture, made: &Made, preview: Option<Hash>) -> anyhow::Result<i64> {
    // The update changes nothing that matters, but makes `returning` and the row lock work when the image is known.
    sqlx::query_scalar!(
        "insert into image (picture, content, recipe, pixels, width, height, preview)
        values ($1, $2, $3, $4, $5, $6, $7)
        on conflict (picture) do update set preview = coalesce(image.preview, excluded.preview)
        returning id",
        &picture.key().0[..],
        &picture.content.0[..],
        Json(picture) as _,
        &made.pixels.0[..],
        i32::try_from(made.width)?,
        i32::try_from(made.height)?,
        preview.map(|it| it.0.to_vec()),
    )
    .fetch_one(&mut **tx)
    .await
    .context("write the image")
}

/// Writes the scores of a set, in the transaction that ends its job; earlier ones of the same set give way.
///
/// # Errors
/// Postgres is out of reach.
pub async fn record_set(tx: &mut Tx<'_>, job: JobId, task: &Pool, scores: &[SetScored]) -> anyhow::Result<()> {
    let set_key = task.set_key();
    for score in scores {
        sqlx::query!(
            "insert into set_score (set_key, metric, variant, version, value, why, n, job_id)
            values ($1, $2, $3, $4, $5, $6, $7, $8)
            on conflict (set_key, metric, variant, version) do update
            set value = excluded.value, why = excluded.why, n = excluded.n, job_id = excluded.job_id, scored_at = now()",
            &set_key.0[..],
            score.metric.metric,
            score.metric.variant,
            i32::try_from(score.metric.version)?,
            score.value,
            score.why,
            i32::try_from(score.n)?,
            job.0,
        )
        .execute(&mut **tx)
        .await
        .context("write the set's scores")?;
    }
    Ok(())
}

/// A score: of a picture, with or without a reference, by a metric that looks through a network or not.
type Known = (Hash, Option<Hash>, MetricId, Option<Hash>);

/// Which scores exist.
#[derive(Debug, Default)]
pub struct KnownScores(HashSet<Known>);

impl KnownScores {
    /// Reads which scores of a plan's pictures exist.
    ///
    /// # Errors
    /// Postgres is out of reach.
    pub async fn load(tx: &mut Tx<'_>, plan: &Plan) -> anyhow::Result<Self> {
        let anything = sqlx::query_scalar!("select exists (select from image) as \"anything!\"")
            .fetch_one(&mut **tx)
            .await
            .context("look for images")?;
        if !anything {
            return Ok(Self::default());
        }
        let pictures: HashSet<Hash> = plan.cells.iter().map(|it| it.key).collect();
        let pictures: Vec<Vec<u8>> = pictures.into_iter().map(|it| it.0.to_vec()).collect();
        let rows = sqlx::query!(
            "select image.picture, score.reference, score.metric, score.variant, score.version, score.network
            from image join score on score.image_id = image.id
            where image.picture = any($1)",
            &pictures
        )
        .fetch_all(&mut **tx)
        .await
        .context("look for scores that exist")?;
        let known = rows
            .into_iter()
            .map(|row| {
                let hash = |it: Vec<u8>| if it.is_empty() { Ok(None) } else { Hash::try_from(it).map(Some) };
                let (reference, network) = (hash(row.reference)?, hash(row.network)?);
                let version = u32::try_from(row.version)?;
                let metric = MetricId { metric: row.metric, variant: row.variant, version };
                Ok((row.picture.try_into()?, reference, metric, network))
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self(known))
    }

    /// Whether none exists at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this score exists.
    pub fn contains(
        &self,
        picture: &Hash,
        reference: Option<&Hash>,
        metric: &MetricId,
        network: Option<&Hash>,
    ) -> bool {
        !self.0.is_empty() && self.0.contains(&(*picture, reference.copied(), metric.clone(), network.copied()))
    }
}
