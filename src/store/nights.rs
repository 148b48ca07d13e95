//! Nights: what sweeps had found by a moment, and what reports said of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;
use sqlx::PgPool;
use sqlx::types::Json;
use time::OffsetDateTime;

use crate::job::Hash;
use crate::job::task::MetricId;
use crate::queue::Tx;

/// A sweep that was there at some moment.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its row.
    pub id: i32,
    /// Its name.
    pub name: String,
}

/// The sweeps that had been enqueued by `at`, within `window` before it; the latest first.
///
/// # Errors
/// Postgres is out of reach.
pub async fn candidates(pool: &PgPool, at: OffsetDateTime, window: Option<Duration>) -> anyhow::Result<Vec<Candidate>> {
    sqlx::query_as!(
        Candidate,
        "select id, name
        from sweep
        where enqueued_at <= $1 and ($2::float8 is null or enqueued_at > $1 - make_interval(secs => $2))
        order by enqueued_at desc, id desc",
        at,
        window.map(|it| it.as_secs_f64())
    )
    .fetch_all(pool)
    .await
    .context("look for sweeps")
}

/// What some sweeps had found by a moment.
#[derive(Clone, Debug)]
pub struct Night {
    /// The moment.
    pub at: OffsetDateTime,
    /// The sweeps; other parts refer to them by index.
    pub sweeps: Vec<NightSweep>,
    /// What they compare; other parts refer to it by index.
    pub sources: Vec<NightSource>,
    /// Scores of pictures.
    pub scores: Vec<NightScores>,
    /// Scores of whole sources.
    pub sets: Vec<NightSet>,
    /// What did not work.
    pub failures: Vec<NightFailure>,
}

/// One sweep of a night.
#[derive(Clone, Debug)]
pub struct NightSweep {
    /// Its row.
    pub row: i32,
    /// Its id for people.
    pub slug: String,
    /// Its name.
    pub name: String,
    /// The programs that planned it and worked on it, with their commits.
    pub programs: BTreeSet<String>,
    /// The machines that worked on it.
    pub machines: BTreeSet<String>,
    /// How many of its jobs had not ended.
    pub n_unfinished: i64,
}

/// One source of a night.
#[derive(Clone, Debug)]
pub struct NightSource {
    /// Index into [`Night::sweeps`].
    pub sweep: usize,
    /// Its name.
    pub name: String,
    /// The model that its pictures stand for.
    pub model: Option<String>,
    /// How a model makes them: the JSON of [`crate::plan::Making`].
    pub making: Option<Value>,
    /// Hashes of the parts of packages that made them.
    pub packages: BTreeSet<String>,
    /// The hash of what its pictures are made from.
    pub pictures: Hash,
    /// What pairs its pictures with others', by the cell's number.
    pub samples: BTreeMap<i32, String>,
}

/// One metric of one source.
#[derive(Clone, Debug)]
pub struct NightScores {
    /// Index into [`Night::sources`].
    pub source: usize,
    /// Which metric.
    pub metric: MetricId,
    /// The cell's number, and the value; none where it is undefined.
    pub values: Vec<(i32, Option<f64>)>,
}

/// One metric of a whole source.
#[derive(Clone, Debug)]
pub struct NightSet {
    /// Index into [`Night::sources`].
    pub source: usize,
    /// Which metric.
    pub metric: MetricId,
    /// The value; none where it is undefined.
    pub value: Option<f64>,
    /// Over how many pictures.
    pub n: u64,
}

/// Jobs that ended without a result in the same way.
#[derive(Clone, Debug)]
pub struct NightFailure {
    /// Index into [`Night::sweeps`].
    pub sweep: usize,
    /// Their kind.
    pub kind: String,
    /// Failed, cancelled or skipped.
    pub state: String,
    /// What went wrong.
    pub error: String,
    /// How many they are.
    pub n: i64,
}

/// Reads what these sweeps had found by `at`: scores that were written later are not in it.
/// Of set scores only the last is kept; one that was computed anew after `at` is not known any more.
///
/// # Errors
/// Postgres is out of reach.
pub async fn read(pool: &PgPool, sweeps: &[i32], at: OffsetDateTime) -> anyhow::Result<Night> {
    let mut night = Night {
        at,
        sweeps: Vec::new(),
        sources: Vec::new(),
        scores: Vec::new(),
        sets: Vec::new(),
        failures: Vec::new(),
    };
    for &row in sweeps {
        read_sweep(pool, row, &mut night).await?;
    }
    Ok(night)
}

async fn read_sweep(pool: &PgPool, row: i32, night: &mut Night) -> anyhow::Result<()> {
    let at = night.at;
    let head = sqlx::query!(
        "select slug, name, program, metrics as \"metrics: Json<BTreeSet<MetricId>>\",
            (select count(*) from sweep_job join job on job.id = sweep_job.job_id where sweep_job.sweep_id = sweep.id)
            + (select count(*) from sweep_job join job_history as ended on ended.id = sweep_job.job_id
                where sweep_job.sweep_id = sweep.id and ended.ended_at > $2) as \"n_unfinished!\"
        from sweep
        where id = $1",
        row,
        at
    )
    .fetch_one(pool)
    .await
    .context("read the sweep")?;
    let work = sqlx::query!(
        "select array_remove(array_agg(distinct worker.program), null) as \"programs: Vec<String>\",
            array_remove(array_agg(distinct worker.machine), null) as \"machines: Vec<String>\"
        from sweep_job
        join attempt on attempt.job_id = sweep_job.job_id
        join worker on worker.id = attempt.worker_id
        where sweep_job.sweep_id = $1 and attempt.started_at <= $2",
        row,
        at
    )
    .fetch_one(pool)
    .await
    .context("read who worked on the sweep")?;
    let sweep = night.sweeps.len();
    let mut programs: BTreeSet<String> = work.programs.unwrap_or_default().into_iter().collect();
    programs.insert(head.program);
    night.sweeps.push(NightSweep {
        row,
        slug: head.slug,
        name: head.name,
        programs,
        machines: work.machines.unwrap_or_default().into_iter().collect(),
        n_unfinished: head.n_unfinished,
    });
    let first = night.sources.len();
    read_sources(pool, row, sweep, night).await?;
    let place = |idx: i32| -> anyhow::Result<usize> { Ok(first + usize::try_from(idx)?) };

    let rows = sqlx::query!(
        "select cell.source_idx, score.metric, score.variant, score.version,
            array_agg(cell.idx order by cell.idx, score.scored_at) as \"cells!\",
            array_agg(score.value order by cell.idx, score.scored_at) as \"values!: Vec<Option<f64>>\"
        from cell
        join sweep on sweep.id = cell.sweep_id
        join image on image.picture = cell.picture
        join score on score.image_id = image.id and score.reference in ('', cell.reference)
            and encode(score.network, 'hex') = coalesce(sweep.networks ->> score.metric, '')
        where cell.sweep_id = $1 and score.scored_at <= $2
        group by cell.source_idx, score.metric, score.variant, score.version
        order by cell.source_idx, score.metric, score.variant, score.version",
        row,
        at
    )
    .fetch_all(pool)
    .await
    .context("read the scores")?;
    for it in rows {
        let metric = MetricId { metric: it.metric, variant: it.variant, version: u32::try_from(it.version)? };
        if head.metrics.0.contains(&metric) {
            // The same score written twice counts once: the latest.
            let values: BTreeMap<i32, Option<f64>> = it.cells.into_iter().zip(it.values).collect();
            let values = values.into_iter().collect();
            night.scores.push(NightScores { source: place(it.source_idx)?, metric, values });
        }
    }
    let rows = sqlx::query!(
        "select source.idx, metric, variant, version, value, n
        from source join set_score on set_score.set_key = source.set_key
        where source.sweep_id = $1 and scored_at <= $2
        order by source.idx, metric, variant, version",
        row,
        at
    )
    .fetch_all(pool)
    .await
    .context("read the scores of sets")?;
    for it in rows {
        let metric = MetricId { metric: it.metric, variant: it.variant, version: u32::try_from(it.version)? };
        if head.metrics.0.contains(&metric) {
            night.sets.push(NightSet { source: place(it.idx)?, metric, value: it.value, n: u64::try_from(it.n)? });
        }
    }
    let rows = sqlx::query!(
        "select ended.kind, ended.state, coalesce(ended.error, '') as \"error!\", count(*) as \"n!\"
        from sweep_job join job_history as ended on ended.id = sweep_job.job_id
        where sweep_job.sweep_id = $1 and ended.state <> 'done' and ended.ended_at <= $2
        group by ended.kind, ended.state, ended.error
        order by 4 desc, 1, 2, 3
        limit 50",
        row,
        at
    )
    .fetch_all(pool)
    .await
    .context("read what failed")?;
    night.failures.extend(rows.into_iter().map(|it| NightFailure {
        sweep,
        kind: it.kind,
        state: it.state,
        error: it.error,
        n: it.n,
    }));
    Ok(())
}

async fn read_sources(pool: &PgPool, row: i32, sweep: usize, night: &mut Night) -> anyhow::Result<()> {
    let rows = sqlx::query!(
        "select source.name, source.model, source.making,
            (select array_agg(cell.idx order by cell.idx) from cell where cell.sweep_id = $1 and cell.source_idx = source.idx) as cells,
            (select array_agg(cell.sample order by cell.idx) from cell where cell.sweep_id = $1 and cell.source_idx = source.idx) as samples,
            (select array_agg(cell.picture order by cell.idx) from cell where cell.sweep_id = $1 and cell.source_idx = source.idx) as pictures,
            (
                select array_agg(distinct part)
                from cell
                join image on image.picture = cell.picture
                left join generation on generation.content = image.content
                left join reconstruction on reconstruction.content = image.content
                cross join lateral unnest(array[
                    left(encode(generation.text_hash, 'hex'), 12), left(encode(generation.denoiser_hash, 'hex'), 12),
                    left(encode(coalesce(generation.vae_hash, reconstruction.vae_hash), 'hex'), 12)]) as part
                where cell.sweep_id = $1 and cell.source_idx = source.idx and part is not null
            ) as packages
        from source
        where source.sweep_id = $1
        order by source.idx",
        row
    )
    .fetch_all(pool)
    .await
    .context("read the sources")?;
    for it in rows {
        let samples = it.cells.unwrap_or_default().into_iter().zip(it.samples.unwrap_or_default());
        night.sources.push(NightSource {
            sweep,
            name: it.name,
            model: it.model,
            making: it.making,
            packages: it.packages.unwrap_or_default().into_iter().collect(),
            pictures: Hash::of(&it.pictures.unwrap_or_default().concat()),
            samples: samples.collect(),
        });
    }
    Ok(())
}

/// A night that a report has told of.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its row.
    pub id: i64,
    /// The moment.
    pub at: OffsetDateTime,
    /// Whether it is one that later nights are compared with.
    pub good: bool,
    /// The analysed value.
    pub found: Value,
}

/// The nights of a report before `before`, the latest first.
///
/// # Errors
/// Postgres is out of reach.
pub async fn past(pool: &PgPool, name: &str, before: OffsetDateTime, limit: i64) -> anyhow::Result<Vec<Run>> {
    sqlx::query_as!(
        Run,
        "select id, at, good, found from report_run where name = $1 and at < $2 order by at desc, id desc limit $3",
        name,
        before,
        limit
    )
    .fetch_all(pool)
    .await
    .context("read the nights before")
}

/// The last good night of a report before `before`.
///
/// # Errors
/// Postgres is out of reach.
pub async fn last_good(pool: &PgPool, name: &str, before: OffsetDateTime) -> anyhow::Result<Option<Run>> {
    sqlx::query_as!(
        Run,
        "select id, at, good, found from report_run where name = $1 and at < $2 and good order by at desc, id desc limit 1",
        name,
        before
    )
    .fetch_optional(pool)
    .await
    .context("look for the last good night")
}

/// A night that is to be kept.
#[derive(Debug)]
pub struct NewRun<'a> {
    /// What the report is called.
    pub name: &'a str,
    /// The moment.
    pub at: OffsetDateTime,
    /// Whether later nights are to be compared with it.
    pub good: bool,
    /// The analysed value.
    pub found: &'a Value,
    /// The definition's text.
    pub definition: &'a str,
    /// This program.
    pub program: &'a str,
    /// The schedule and the time that it came due.
    pub firing: Option<(i32, OffsetDateTime)>,
}

/// Keeps a night. Returns its row.
///
/// # Errors
/// Postgres is out of reach, or the firing has one already.
pub async fn record(tx: &mut Tx<'_>, new: &NewRun<'_>) -> anyhow::Result<i64> {
    sqlx::query_scalar!(
        "insert into report_run (name, at, good, found, definition, program, schedule_id, due_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8)
        returning id",
        new.name,
        new.at,
        new.good,
        new.found,
        new.definition,
        new.program,
        new.firing.map(|it| it.0),
        new.firing.map(|it| it.1)
    )
    .fetch_one(&mut **tx)
    .await
    .context("keep the night")
}

/// Takes the latest night of a report as good in spite of what was found: what is next is compared with it.
///
/// # Errors
/// It has none; Postgres is out of reach.
pub async fn accept(pool: &PgPool, name: &str) -> anyhow::Result<Run> {
    let accepted = sqlx::query_as!(
        Run,
        "update report_run set good = true, accepted_at = now()
        where id = (select id from report_run where name = $1 order by at desc, id desc limit 1)
        returning id, at, good, found",
        name
    )
    .fetch_optional(pool)
    .await
    .context("accept the night")?;
    accepted.with_context(|| format!("no night of the report `{name}` has been kept yet"))
}
