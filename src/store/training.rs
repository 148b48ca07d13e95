//! Fine-tuning in the tables: which models a sweep trains, what they came to, and their curves.

use std::collections::HashMap;

use anyhow::Context;
use sqlx::PgPool;
use sqlx::types::Json;

use super::artifact::Artifacts;
use super::checkpoint::Point;
use super::findings::{Curve, Frame, Training};
use super::made::{self, Artifact};
use crate::job::task::Task;
use crate::job::task::finetune::{Finetune, PICTURE, sample_key};
use crate::job::{Hash, JobId, Lease};
use crate::plan::Plan;
use crate::queue::Tx;
use crate::queue::settle::hold;

/// Writes which models a sweep trains.
///
/// # Errors
/// Postgres is out of reach.
pub async fn record_plan(tx: &mut Tx<'_>, sweep: i32, plan: &Plan) -> anyhow::Result<()> {
    let (mut names, mut parts, mut bases, mut keys) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for it in &plan.trainings {
        names.push(it.name.clone());
        parts.push(it.part.word().to_owned());
        bases.push(it.base.clone());
        keys.push(it.key.0.to_vec());
    }
    sqlx::query!(
        "insert into training (sweep_id, idx, name, part, base, key)
        select $1, at - 1, name, part, base, key
        from unnest($2::text[], $3::text[], $4::text[], $5::bytea[]) with ordinality as fresh (name, part, base, key, at)",
        sweep,
        &names,
        &parts,
        &bases,
        &keys
    )
    .execute(&mut **tx)
    .await
    .context("write which models are trained")?;
    Ok(())
}

/// Writes what training came to, in the transaction that ends its job.
///
/// # Errors
/// Postgres is out of reach.
pub async fn record(
    tx: &mut Tx<'_>,
    job: JobId,
    key: &Hash,
    n_pictures: usize,
    left_out: &[(Hash, String)],
    held_out: Option<f64>,
) -> anyhow::Result<()> {
    sqlx::query!(
        "insert into trained (key, job_id, n_pictures, left_out, held_out) values ($1, $2, $3, $4, $5)
        on conflict (key) do update
        set job_id = excluded.job_id, n_pictures = excluded.n_pictures, left_out = excluded.left_out,
            held_out = excluded.held_out, made_at = now()",
        &key.0[..],
        job.0,
        i32::try_from(n_pictures)?,
        Json(left_out) as _,
        held_out
    )
    .execute(&mut **tx)
    .await
    .context("write what training came to")?;
    Ok(())
}

/// Notes a picture that was made on the way, whose file is in the store, under a key of its own.
///
/// # Errors
/// [`LeaseLost`](crate::queue::LeaseLost), or Postgres is out of reach; nothing is written then.
pub async fn show(pool: &PgPool, job: JobId, lease: Lease, key: &Hash, artifact: &Artifact) -> anyhow::Result<()> {
    let mut tx = pool.begin().await.context("begin a transaction")?;
    hold(&mut tx, job, lease).await?;
    made::record_artifact(&mut tx, job, key, artifact, None).await?;
    tx.commit().await.context("commit a picture that was made on the way")
}

/// The pictures that were made on the way, as far as they were, by prompt and step.
async fn frames(pool: &PgPool, artifacts: &Artifacts, job: &Hash, task: &Finetune) -> anyhow::Result<Vec<Frame>> {
    let Some(samples) = &task.samples else { return Ok(Vec::new()) };
    let due = samples.due(task.steps.into()).flat_map(|step| (0..samples.texts.len()).map(move |idx| (idx, step)));
    let by_key: HashMap<Hash, (usize, u64)> =
        due.map(|(idx, step)| (sample_key(job, step, idx), (idx, step))).collect();
    let keys: Vec<Hash> = by_key.keys().copied().collect();
    let found = made::outputs(pool, &keys).await?.into_iter().filter_map(|it| {
        let (idx, step) = *by_key.get(&it.key)?;
        Some(Frame { idx, step, path: artifacts.path(&it.artifact) })
    });
    let mut frames: Vec<Frame> = found.collect();
    frames.sort_by_key(|it| (it.idx, it.step));
    Ok(frames)
}

/// The models that a sweep trains, as far as they are, with their curves.
///
/// # Errors
/// Postgres is out of reach.
pub async fn trainings(pool: &PgPool, artifacts: &Artifacts, sweep: i32) -> anyhow::Result<Vec<Training>> {
    let rows = sqlx::query!(
        "select training.name, training.base, training.key, every_job.id as \"job!\", every_job.state as \"state!\",
            every_job.task as \"task!: Json<Task>\", trained.n_pictures as \"n_pictures?\",
            trained.left_out as \"left_out?: Json<Vec<(Hash, String)>>\"
        from training
        join job_key on job_key.key = training.key
        join every_job on every_job.id = job_key.job_id
        left join trained on trained.key = training.key
        where training.sweep_id = $1
        order by training.idx",
        sweep
    )
    .fetch_all(pool)
    .await
    .context("read which models are trained")?;
    let mut trainings = Vec::with_capacity(rows.len());
    for row in rows {
        let Json(Task::Finetune(task)) = row.task else { continue };
        trainings.push(Training {
            name: row.name,
            base: row.base,
            job: JobId(row.job),
            state: row.state.parse()?,
            frames: frames(pool, artifacts, &row.key.clone().try_into()?, &task).await?,
            looked_at: Hash::of_value(&task.held_out),
            task: plain(*task),
            n_pictures: row.n_pictures.and_then(|it| u32::try_from(it).ok()),
            left_out: row.left_out.map(|it| it.0).unwrap_or_default(),
            curves: curves(pool, &row.key).await?,
        });
    }
    Ok(trainings)
}

/// Without the keys of what is learnt from, of which there may be very many.
fn plain(mut task: Finetune) -> Finetune {
    (task.data, task.held_out) = Default::default();
    task
}

async fn curves(pool: &PgPool, key: &[u8]) -> anyhow::Result<Vec<Curve>> {
    let rows = sqlx::query!(
        "select name, array_agg(step order by step) as \"steps!\", array_agg(value order by step) as \"values!: Vec<Option<f64>>\"
        from curve
        where key = $1
        group by name
        order by name",
        key
    )
    .fetch_all(pool)
    .await
    .context("read curves")?;
    let of = |steps: Vec<i64>, values: Vec<Option<f64>>| {
        steps.into_iter().zip(values).map(|(step, value)| (u64::try_from(step).unwrap_or(0), value)).collect()
    };
    Ok(rows.into_iter().map(|row| Curve { name: row.name, points: of(row.steps, row.values) }).collect())
}

/// The last point of each curve of a job, but those of single pictures: how it stands.
///
/// # Errors
/// Postgres is out of reach.
pub async fn latest(pool: &PgPool, job: JobId) -> anyhow::Result<Vec<Point>> {
    sqlx::query_as!(
        Point,
        "select distinct on (curve.name) curve.name, curve.step, curve.value
        from curve join job_key on job_key.key = curve.key
        where job_key.job_id = $1 and not starts_with(curve.name, $2)
        order by curve.name, curve.step desc",
        job.0,
        PICTURE
    )
    .fetch_all(pool)
    .await
    .context("read curves")
}

/// How a model that is being trained stands.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Live {
    /// The job that trains it.
    pub job: JobId,
    /// What a sweep calls it.
    pub model: String,
    /// The loss, and after which step; none before the first.
    pub loss: Option<f64>,
    /// After which step that was.
    pub step: Option<i64>,
    /// Images a second, at that time.
    pub images_per_s: Option<f64>,
    /// The last loss on what is held out.
    pub held_out: Option<f64>,
}

/// The models that are being trained now, of one sweep or of all, as their curves have it.
///
/// # Errors
/// Postgres is out of reach.
pub async fn live(pool: &PgPool, sweep: Option<i32>) -> anyhow::Result<Vec<Live>> {
    let rows = sqlx::query!(
        "select job.id, min(training.name) as \"model!\",
            min(loss.value) as loss, min(loss.step) as step, min(rate.value) as images_per_s, min(held_out.value) as held_out
        from job
        join job_key on job_key.job_id = job.id
        join training on training.key = job_key.key
        left join lateral (
            select value, step from curve where curve.key = job_key.key and name = 'loss' order by step desc limit 1
        ) as loss on true
        left join lateral (
            select value from curve where curve.key = job_key.key and name = 'images_per_s' order by step desc limit 1
        ) as rate on true
        left join lateral (
            select value from curve where curve.key = job_key.key and name = 'held_out' order by step desc limit 1
        ) as held_out on true
        where job.kind = 'finetune' and job.state = 'running' and ($1::int is null or training.sweep_id = $1)
        group by job.id
        order by job.id",
        sweep
    )
    .fetch_all(pool)
    .await
    .context("read how training stands")?;
    let live = rows.into_iter().map(|it| Live {
        job: JobId(it.id),
        model: it.model,
        loss: it.loss,
        step: it.step,
        images_per_s: it.images_per_s,
        held_out: it.held_out,
    });
    Ok(live.collect())
}

/// A model that a sweep trains, and where it comes from.
#[derive(Clone, Debug)]
pub struct Part {
    /// What the sweep calls it.
    pub name: String,
    /// What it starts from, as the sweep names it.
    pub base: String,
    /// The part that it starts from: the hash of its files, or the key of the job that trains it.
    pub model: Hash,
    /// The trained part, once its job is done.
    pub artifact: Option<Hash>,
}

/// The models that a sweep trains.
///
/// # Errors
/// Postgres is out of reach.
pub async fn parts(pool: &PgPool, sweep: i32) -> anyhow::Result<Vec<Part>> {
    let rows = sqlx::query!(
        "select training.name, training.base, every_job.task ->> 'model' as \"model!\",
            job_output.artifact as \"artifact?\"
        from training
        join job_key on job_key.key = training.key
        join every_job on every_job.id = job_key.job_id
        left join job_output on job_output.key = training.key
        where training.sweep_id = $1
        order by training.idx",
        sweep
    )
    .fetch_all(pool)
    .await
    .context("look for trained parts")?;
    let part = |it: (String, String, String, Option<Vec<u8>>)| -> anyhow::Result<Part> {
        let artifact = it.3.map(Hash::try_from).transpose()?;
        Ok(Part { name: it.0, base: it.1, model: it.2.parse()?, artifact })
    };
    rows.into_iter().map(|it| part((it.name, it.base, it.model, it.artifact))).collect()
}
