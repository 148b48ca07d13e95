//! Looking at the queue: what people ask of sweeps, jobs and logs.

use anyhow::{Context, bail};
use serde::Serialize;
use sqlx::PgPool;
use time::OffsetDateTime;

use crate::job::{JobId, State};

/// A sweep in a list.
#[derive(Debug, Serialize)]
pub struct Sweep {
    /// Its row.
    #[serde(skip)]
    pub id: i32,
    /// Its id for people.
    pub sweep: String,
    /// `active`, `paused`, `cancelled` or `ended`.
    pub state: String,
    /// When it was enqueued.
    #[serde(with = "time::serde::rfc3339")]
    pub enqueued_at: OffsetDateTime,
    /// Its jobs by state.
    pub jobs: serde_json::Value,
}

/// Every sweep, the newest first, or the one that is asked for.
///
/// # Errors
/// Postgres is out of reach.
pub async fn sweeps(pool: &PgPool, sweep: Option<i32>) -> anyhow::Result<Vec<Sweep>> {
    sqlx::query_as!(
        Sweep,
        "select sweep.id, sweep.slug as sweep, sweep_status.state as \"state!\", sweep.enqueued_at, sweep_status.jobs as \"jobs!\"
        from sweep join sweep_status on sweep_status.sweep = sweep.slug
        where $1::int is null or sweep.id = $1
        order by sweep.enqueued_at desc, sweep.id desc",
        sweep
    )
    .fetch_all(pool)
    .await
    .context("list the sweeps")
}

/// The sweep that a person means: by its id, by the beginning of it, or by its name, the newest then.
///
/// # Errors
/// There is none, or the beginning fits several.
pub async fn find_sweep(pool: &PgPool, word: &str) -> anyhow::Result<(i32, String)> {
    let rows = sqlx::query!(
        "select id, slug, name from sweep where slug = $1 or name = $1 or starts_with(slug, $1) order by enqueued_at desc, id desc",
        word
    )
    .fetch_all(pool)
    .await
    .context("find the sweep")?;
    if let Some(row) = rows.iter().find(|it| it.slug == word).or_else(|| rows.iter().find(|it| it.name == word)) {
        return Ok((row.id, row.slug.clone()));
    }
    match rows.as_slice() {
        [row] => Ok((row.id, row.slug.clone())),
        [] => {
            let known = sqlx::query_scalar!("select slug from sweep order by enqueued_at desc, id desc limit 5")
                .fetch_all(pool)
                .await
                .context("list the sweeps")?;
            if known.is_empty() {
                bail!("there is no sweep `{word}`; none has been enqueued yet");
            }
            bail!("there is no sweep `{word}`; the newest are {}", known.join(", "))
        }
        several => {
            let slugs: Vec<&str> = several.iter().map(|it| it.slug.as_str()).collect();
            bail!("`{word}` may be any of {}", slugs.join(", "))
        }
    }
}

/// A sweep's jobs counted by state.
///
/// # Errors
/// Postgres is out of reach.
pub async fn counts(pool: &PgPool, sweep: i32) -> anyhow::Result<Vec<(State, u64)>> {
    let rows = sqlx::query!(
        "select every_job.state as \"state!\", count(*) as \"n!\"
        from sweep_job
        join (select id, state from job union all select id, state from job_history) as every_job
            on every_job.id = sweep_job.job_id
        where sweep_job.sweep_id = $1
        group by every_job.state",
        sweep
    )
    .fetch_all(pool)
    .await
    .context("count the sweep's jobs")?;
    let mut counts = rows
        .into_iter()
        .map(|row| Ok((row.state.parse()?, u64::try_from(row.n)?)))
        .collect::<anyhow::Result<Vec<(State, u64)>>>()?;
    counts.sort();
    Ok(counts)
}

/// A job in a list.
#[derive(Debug, Serialize)]
pub struct Job {
    /// Its number.
    pub job: i64,
    /// Its kind.
    pub kind: String,
    /// Its state; `held` for a ready one that only paused sweeps want.
    pub state: String,
    /// The source that its picture belongs to.
    pub source: Option<String>,
    /// The sample that its picture is.
    pub sample: Option<String>,
    /// How often it has been tried.
    pub n_attempts: i32,
    /// Why it ended without a result.
    pub error: Option<String>,
    /// What it waits for, in words.
    pub waits_for: Option<String>,
}

/// Which jobs to list.
#[derive(Debug, Default)]
pub struct Filter {
    /// Of this sweep.
    pub sweep: Option<i32>,
    /// In this state.
    pub state: Option<State>,
    /// Of this kind.
    pub kind: Option<String>,
    /// At most so many.
    pub limit: i64,
}

/// Jobs, the newest first.
///
/// # Errors
/// Postgres is out of reach.
pub async fn jobs(pool: &PgPool, filter: &Filter) -> anyhow::Result<Vec<Job>> {
    sqlx::query_as!(
        Job,
        "select every_job.id as \"job!\", every_job.kind as \"kind!\", every_job.state as \"state!\",
            source.name as \"source?\", cell.sample as \"sample?\",
            every_job.n_attempts as \"n_attempts!\", every_job.error,
            case
                when every_job.state = 'waiting' then every_job.n_blockers || ' jobs to end'
                when every_job.state = 'held' then 'its sweep to be resumed'
                when every_job.state = 'ready' and every_job.run_at > now()
                    then 'its next try in ' || ceil(extract(epoch from every_job.run_at - now())) || ' s'
                when every_job.state = 'ready' then (select words from lane where lane.id = every_job.lane)
            end as waits_for
        from every_job
        left join lateral (
            select cell.sweep_id, cell.source_idx, cell.sample
            from sweep_job join cell on cell.sweep_id = sweep_job.sweep_id and cell.picture = every_job.subject
            where sweep_job.job_id = every_job.id and ($1::int is null or sweep_job.sweep_id = $1)
            order by cell.sweep_id, cell.idx
            limit 1
        ) as cell on true
        left join source on source.sweep_id = cell.sweep_id and source.idx = cell.source_idx
        where ($1::int is null or exists (select from sweep_job where sweep_id = $1 and job_id = every_job.id))
            and ($2::text is null or every_job.state = $2)
            and ($3::text is null or every_job.kind = $3)
        order by every_job.id desc
        limit $4",
        filter.sweep,
        filter.state.map(State::word),
        filter.kind,
        filter.limit
    )
    .fetch_all(pool)
    .await
    .context("list the jobs")
}

/// One try of a job.
#[derive(Debug, Serialize)]
pub struct Attempt {
    /// Its lease.
    pub lease: i64,
    /// Which try it was.
    pub number: i32,
    /// The machine.
    pub host: String,
    /// The slot on it.
    pub slot: String,
    /// When it began.
    #[serde(with = "time::serde::rfc3339")]
    pub started_at: OffsetDateTime,
    /// How long it took, so far.
    pub seconds: f64,
    /// How it ended.
    pub outcome: Option<String>,
    /// Why it did not end well: a word.
    pub cause: Option<String>,
    /// The step after which it went on from a checkpoint.
    pub resumed_after: Option<i64>,
    /// What went wrong.
    pub error: Option<String>,
}

/// A job with everything known of it.
#[derive(Debug, Serialize)]
pub struct Whole {
    /// What a list shows.
    #[serde(flatten)]
    pub job: Job,
    /// What it does.
    pub task: serde_json::Value,
    /// The sweeps that want it.
    pub sweeps: Vec<String>,
    /// Jobs that it waits for or waited for.
    pub parents: Vec<i64>,
    /// Jobs that wait for it.
    pub children: Vec<i64>,
    /// How far it is.
    pub progress: Option<serde_json::Value>,
    /// Every try.
    pub attempts: Vec<Attempt>,
}

/// Everything known of a job.
///
/// # Errors
/// There is no such job, or Postgres is out of reach.
pub async fn show(pool: &PgPool, id: JobId) -> anyhow::Result<Whole> {
    let row = sqlx::query!(
        "select kind as \"kind!\", state as \"state!\", n_attempts as \"n_attempts!\", error, task as \"task!\", progress,
            (select array[source.name, cell.sample]
                from sweep_job
                join cell on cell.sweep_id = sweep_job.sweep_id and cell.picture = subject
                join source on source.sweep_id = cell.sweep_id and source.idx = cell.source_idx
                where sweep_job.job_id = $1
                order by cell.sweep_id, cell.idx
                limit 1) as about
        from every_job
        where id = $1",
        id.0
    )
    .fetch_optional(pool)
    .await
    .context("find the job")?
    .with_context(|| format!("there is no job {id}"))?;
    let attempts = sqlx::query_as!(
        Attempt,
        "select lease, number, worker.host, slot, attempt.started_at,
            extract(epoch from coalesce(ended_at, now()) - attempt.started_at)::float8 as \"seconds!\", outcome, cause, resumed_after, error
        from attempt join worker on worker.id = attempt.worker_id
        where job_id = $1
        order by lease",
        id.0
    )
    .fetch_all(pool)
    .await
    .context("find the attempts")?;
    let sweeps = sqlx::query_scalar!(
        "select slug from sweep_job join sweep on sweep.id = sweep_job.sweep_id where job_id = $1 order by slug",
        id.0
    )
    .fetch_all(pool)
    .await?;
    let parents = sqlx::query_scalar!("select parent from job_edge where child = $1 order by parent", id.0)
        .fetch_all(pool)
        .await?;
    let children = sqlx::query_scalar!("select child from job_edge where parent = $1 order by child", id.0)
        .fetch_all(pool)
        .await?;
    let mut about = row.about.unwrap_or_default().into_iter();
    let (source, sample) = (about.next(), about.next());
    Ok(Whole {
        job: Job {
            job: id.0,
            kind: row.kind,
            state: row.state,
            source,
            sample,
            n_attempts: row.n_attempts,
            error: row.error,
            waits_for: None,
        },
        task: row.task,
        sweeps,
        parents,
        children,
        progress: row.progress,
        attempts,
    })
}

/// A line of a log.
#[derive(Debug, Serialize)]
pub struct LogLine {
    /// The attempt that printed it.
    pub lease: i64,
    /// Its place in the attempt's log.
    pub seq: i32,
    /// When it was stored.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// What was printed.
    pub line: String,
}

/// A job's log after a given line of it, over all its attempts.
///
/// # Errors
/// Postgres is out of reach.
pub async fn log(pool: &PgPool, id: JobId, after: (i64, i32)) -> anyhow::Result<Vec<LogLine>> {
    sqlx::query_as!(
        LogLine,
        "select attempt_log.lease, seq, at, line
        from attempt_log join attempt on attempt.lease = attempt_log.lease
        where attempt.job_id = $1 and (attempt_log.lease, seq) > ($2, $3)
        order by attempt_log.lease, seq
        limit 10000",
        id.0,
        after.0,
        after.1
    )
    .fetch_all(pool)
    .await
    .context("read the log")
}

/// Whether a job has ended.
///
/// # Errors
/// There is no such job, or Postgres is out of reach.
pub async fn has_ended(pool: &PgPool, id: JobId) -> anyhow::Result<bool> {
    let known = sqlx::query!(
        "select exists (select from every_job where id = $1) as \"known!\", exists (select from job where id = $1) as \"lives!\"",
        id.0
    )
    .fetch_one(pool)
    .await
    .context("find the job")?;
    anyhow::ensure!(known.known, "there is no job {id}");
    Ok(!known.lives)
}

/// A worker that is alive or was not long ago.
#[derive(Debug, Serialize)]
pub struct Worker {
    /// Its id, unique per start.
    pub id: String,
    /// Where it runs.
    pub host: String,
    /// Its process there.
    pub pid: i32,
    /// What the machine is.
    pub machine: String,
    /// How many jobs it runs at a time.
    pub n_slots: i32,
    /// Whether it takes jobs that need CUDA.
    pub has_cuda: bool,
    /// Its labels.
    pub labels: Vec<String>,
    /// How many it runs now.
    pub n_running: i64,
    /// Seconds since it last said that it lives.
    pub silent_s: f64,
}

/// The workers that have not stopped.
///
/// # Errors
/// Postgres is out of reach.
pub async fn workers(pool: &PgPool) -> anyhow::Result<Vec<Worker>> {
    sqlx::query_as!(
        Worker,
        "select id::text as \"id!\", host, pid, machine, n_slots, has_cuda, labels,
            (select count(*) from job where job.worker_id = worker.id and job.state = 'running') as \"n_running!\",
            extract(epoch from now() - beat_at)::float8 as \"silent_s!\"
        from worker
        where stopped_at is null
        order by host, pid",
    )
    .fetch_all(pool)
    .await
    .context("list the workers")
}

/// Median seconds of an attempt by kind, a megapixel for those that know their size; none without history.
///
/// # Errors
/// Postgres is out of reach.
pub async fn pace(pool: &PgPool, kind: &str) -> anyhow::Result<Option<f64>> {
    sqlx::query_scalar!(
        "select percentile_cont(0.5) within group (
            order by extract(epoch from ended_at - started_at)::float8 / case when megapixels > 0 then megapixels else 1 end
        )
        from (
            select job_history.started_at, job_history.ended_at, megapixels
            from job_history
            where kind = $1 and state = 'done' and started_at is not null
            order by id desc
            limit 500
        ) as latest",
        kind
    )
    .fetch_one(pool)
    .await
    .context("look at the pace of earlier jobs")
}

/// Whether any job, or any of one sweep, has not ended. Held jobs of a paused sweep count as unfinished.
///
/// # Errors
/// Postgres is out of reach.
pub async fn any_unfinished(pool: &PgPool, sweep: Option<i32>) -> anyhow::Result<bool> {
    sqlx::query_scalar!(
        "select exists (
            select from job where $1::int is null or exists (select from sweep_job where sweep_id = $1 and job_id = job.id)
        ) as \"any!\"",
        sweep
    )
    .fetch_one(pool)
    .await
    .context("see whether anything is left")
}
