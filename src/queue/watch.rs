//! What a live view shows: workers, what runs, sweeps under way, what ended lately. It reads the hot table and the last
//! minutes of the history; millions of jobs that ended before cost it nothing.

use anyhow::Context;
use serde::Serialize;
use sqlx::PgPool;
use time::OffsetDateTime;

use super::look::{self, Worker};

/// Seconds that one bar of the throughput stands for.
pub const BAR_S: i32 = 10;
/// So many bars are looked back.
pub const N_BARS: i32 = 60;

/// One look at everything.
#[derive(Debug, Serialize)]
pub struct Frame {
    /// The database's time.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// The workers that have not stopped.
    pub workers: Vec<Worker>,
    /// What runs, the longest first.
    pub running: Vec<Running>,
    /// Sweeps with unfinished jobs, the newest first.
    pub sweeps: Vec<Progress>,
    /// Unfinished jobs by state.
    pub jobs: Counts,
    /// Jobs that ended in each stretch of [`BAR_S`] seconds, from the oldest; the last stretch is not over yet.
    pub ended: Vec<i64>,
    /// Jobs that ended without a result within the time that `ended` spans.
    pub n_failed_lately: i64,
}

/// Unfinished jobs.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Counts {
    /// Whose parents have not ended.
    pub waiting: i64,
    /// That a slot may take.
    pub ready: i64,
    /// That wait for their next try.
    pub later: i64,
    /// That only paused sweeps want.
    pub held: i64,
    /// That run.
    pub running: i64,
}

/// A running job.
#[derive(Debug, Serialize)]
pub struct Running {
    /// The job.
    pub job: i64,
    /// Its kind.
    pub kind: String,
    /// A sweep that wants it.
    pub sweep: Option<String>,
    /// The machine.
    pub host: String,
    /// The slot on it.
    pub slot: String,
    /// Which try this is.
    pub n_attempts: i32,
    /// Seconds since it began.
    pub seconds: f64,
    /// Steps done.
    pub done: Option<i64>,
    /// Steps in all.
    pub of: Option<i64>,
}

/// A sweep under way.
#[derive(Debug, Serialize)]
pub struct Progress {
    /// Its id for people.
    pub sweep: String,
    /// Whether it is paused.
    pub paused: bool,
    /// Its jobs.
    pub n_jobs: i64,
    /// Those that have not ended.
    pub n_left: i64,
    /// Those that run.
    pub n_running: i64,
    /// Those that ended without a result.
    pub n_failed: i64,
    /// Those that ended within the last minute.
    pub n_last_minute: i64,
}

impl Progress {
    /// Seconds until it ends at the last minute's pace; none while nothing ends.
    pub fn left_s(&self) -> Option<f64> {
        (self.n_last_minute > 0).then(|| self.n_left as f64 / (self.n_last_minute as f64 / 60.0))
    }
}

/// Looks at everything once.
///
/// # Errors
/// Postgres is out of reach.
pub async fn frame(pool: &PgPool) -> anyhow::Result<Frame> {
    let workers = look::workers(pool).await?;
    let running = running(pool).await?;
    let sweeps = sweeps(pool).await?;
    let counts = sqlx::query!(
        "select now() as \"at!\",
            count(*) filter (where state = 'waiting') as \"waiting!\",
            count(*) filter (where state = 'ready' and not held and run_at <= now()) as \"ready!\",
            count(*) filter (where state = 'ready' and not held and run_at > now()) as \"later!\",
            count(*) filter (where state = 'ready' and held) as \"held!\",
            count(*) filter (where state = 'running') as \"running!\"
        from job"
    )
    .fetch_one(pool)
    .await
    .context("count the unfinished jobs")?;
    let bars = sqlx::query!(
        "select least(floor(extract(epoch from now() - ended_at) / $1), $2 - 1)::int as \"ago!\", count(*) as \"n!\",
            count(*) filter (where state <> 'done') as \"n_failed!\"
        from job_history
        where ended_at > now() - make_interval(secs => $1 * $2) and ended_at <= now()
        group by 1",
        BAR_S as _,
        N_BARS as _
    )
    .fetch_all(pool)
    .await
    .context("count what has ended lately")?;
    let mut ended = vec![0; usize::try_from(N_BARS).unwrap_or_default()];
    let mut n_failed_lately = 0;
    for bar in bars {
        n_failed_lately += bar.n_failed;
        let idx = usize::try_from(N_BARS - 1 - bar.ago).unwrap_or_default();
        ended[idx] += bar.n;
    }
    let jobs = Counts {
        waiting: counts.waiting,
        ready: counts.ready,
        later: counts.later,
        held: counts.held,
        running: counts.running,
    };
    Ok(Frame { at: counts.at, workers, running, sweeps, jobs, ended, n_failed_lately })
}

async fn running(pool: &PgPool) -> anyhow::Result<Vec<Running>> {
    sqlx::query_as!(
        Running,
        "select job.id as job, job.kind, worker.host, job.slot as \"slot!\", job.n_attempts,
            extract(epoch from now() - job.started_at)::float8 as \"seconds!\",
            (job.progress ->> 'done')::bigint as done, (job.progress ->> 'of')::bigint as of,
            (select slug from sweep_job join sweep on sweep.id = sweep_job.sweep_id
                where sweep_job.job_id = job.id order by sweep.id desc limit 1) as sweep
        from job join worker on worker.id = job.worker_id
        where job.state = 'running'
        order by job.started_at, job.id
        limit 1000"
    )
    .fetch_all(pool)
    .await
    .context("look at the running jobs")
}

async fn sweeps(pool: &PgPool) -> anyhow::Result<Vec<Progress>> {
    sqlx::query_as!(
        Progress,
        "with live as materialized (
            select sweep_job.sweep_id, count(*) as n_left, count(*) filter (where job.state = 'running') as n_running
            from job join sweep_job on sweep_job.job_id = job.id
            group by sweep_job.sweep_id
        ),
        latest as (
            select sweep_job.sweep_id, count(*) as n
            from job_history join sweep_job on sweep_job.job_id = job_history.id
            where job_history.ended_at > now() - interval '1 minute'
            group by sweep_job.sweep_id
        ),
        lost as (
            select sweep_job.sweep_id, count(*) as n
            from job_history join sweep_job on sweep_job.job_id = job_history.id
            where job_history.state <> 'done' and sweep_job.sweep_id in (select sweep_id from live)
            group by sweep_job.sweep_id
        )
        select sweep.slug as sweep, sweep.paused, live.n_left as \"n_left!\", live.n_running as \"n_running!\",
            (select count(*) from sweep_job where sweep_id = sweep.id) as \"n_jobs!\",
            coalesce(lost.n, 0) as \"n_failed!\", coalesce(latest.n, 0) as \"n_last_minute!\"
        from live
        join sweep on sweep.id = live.sweep_id
        left join latest on latest.sweep_id = live.sweep_id
        left join lost on lost.sweep_id = live.sweep_id
        order by sweep.id desc
        limit 100"
    )
    .fetch_all(pool)
    .await
    .context("look at the sweeps")
}
