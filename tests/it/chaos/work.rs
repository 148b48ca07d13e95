//! The work: what the test has enqueued and cancelled, by its own account, and what may become of it.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jobctl::job::task::Task;
use jobctl::job::task::rehearse::{self, Rehearse};
use jobctl::job::{Hash, JobId};
use jobctl::plan::{Edge, EdgeKind, Job, Plan};
use jobctl::queue::{control, locks, submit};
use jobctl::sweep::OnFailure;
use rand::RngExt;
use rand::seq::IteratorRandom;
use rand_pcg::Pcg64Mcg;
use sqlx::PgPool;

/// Jobs of one sweep.
const SWEEP: usize = 24;

/// What the test knows of a job.
pub struct Known {
    pub key: Hash,
    pub id: JobId,
    pub task: Rehearse,
    /// The seed of the job whose result it needs.
    pub parent: Option<u64>,
    /// Somebody may have cancelled it.
    pub cancelled: bool,
}

/// All jobs, by their seeds.
pub struct Work {
    pub jobs: BTreeMap<u64, Known>,
    /// A file that tasks append to: a line for each effect.
    pub ledger: PathBuf,
    n_sweeps: usize,
}

impl Work {
    pub fn new(ledger: &Path) -> Self {
        Self { jobs: BTreeMap::new(), ledger: ledger.to_owned(), n_sweeps: 0 }
    }

    /// Enqueues a sweep, however often Postgres must be asked.
    pub async fn enqueue(&mut self, pool: &PgPool, dice: &mut Pcg64Mcg) {
        let first = (self.n_sweeps * SWEEP) as u64;
        let tasks: Vec<Rehearse> = (first..first + SWEEP as u64).map(|seed| self.task(seed, dice)).collect();
        // A third of the jobs needs the result of the one before.
        let edges = (1..SWEEP).filter(|it| it % 3 == 2);
        let edges: Vec<Edge> = edges.map(|child| Edge { parent: child - 1, child, kind: EdgeKind::Needs }).collect();
        let parents: HashMap<usize, usize> = edges.iter().map(|it| (it.child, it.parent)).collect();
        let job = |task: &Rehearse| {
            let task = Task::Rehearse(task.clone());
            Job {
                key: task.key(),
                task,
                subject: None,
                reference: None,
                affinity: None,
                megapixels: 0.0,
                needs: Arc::default(),
            }
        };
        let plan = Plan {
            name: format!("chaos-{}", self.n_sweeps),
            on_failure: OnFailure::Continue,
            priority: dice.random_range(0..3),
            max_running: None,
            limits: BTreeMap::new(),
            sources: Vec::new(),
            cells: Vec::new(),
            jobs: tasks.iter().map(job).collect(),
            edges,
            asking: Vec::new(),
            trainings: Vec::new(),
        };
        while let Err(error) = submit_once(pool, &plan).await {
            patience(&error).await;
        }
        let ids = loop {
            match ids(pool, &plan).await {
                Ok(ids) => break ids,
                Err(error) => patience(&error).await,
            }
        };
        for (idx, (task, job)) in tasks.into_iter().zip(&plan.jobs).enumerate() {
            let parent = parents.get(&idx).map(|it| first + *it as u64);
            let id = JobId(ids[&job.key.0.to_vec()]);
            self.jobs.insert(task.seed, Known { key: job.key, id, task, parent, cancelled: false });
        }
        self.n_sweeps += 1;
    }

    fn task(&self, seed: u64, dice: &mut Pcg64Mcg) -> Rehearse {
        let fault =
            dice.random_bool(0.03).then_some(rehearse::Fault { how: rehearse::How::Kill, step: 2, attempts: Some(1) });
        Rehearse {
            seed,
            seconds: dice.random_range(0.5..3.0),
            steps: 6,
            bytes: dice.random_range(1_000..12_000),
            scores: dice.random_range(1..4),
            checkpoint_every: dice.random_bool(0.3).then_some(2),
            fault,
            ledger: Some(self.ledger.to_str().unwrap().to_owned()),
        }
    }

    /// Cancels some job, which may or may not come too late.
    pub async fn cancel_one(&mut self, pool: &PgPool, dice: &mut Pcg64Mcg) {
        // Among the latest: the others have ended.
        let Some((_, job)) = self.jobs.iter_mut().rev().take(4 * SWEEP).choose(dice) else { return };
        // Noted before it is done: whether it was is not always known.
        job.cancelled = true;
        let _ = cancel(pool, job.id.0).await;
    }

    /// Retries what has failed, or a few of those jobs and of the cancelled ones. True if there is nothing to retry.
    pub async fn retry(&self, pool: &PgPool, which: Retry) -> anyhow::Result<bool> {
        let query = match which {
            Retry::Some => {
                "select id from job_history where state in ('failed', 'cancelled') order by random() limit 3"
            }
            Retry::Failed => "select id from job_history where state = 'failed' order by id",
        };
        let failed: Vec<i64> = sqlx::query_scalar(query).fetch_all(pool).await?;
        if failed.is_empty() {
            return Ok(true);
        }
        // One whose parent was cancelled may not be retried alone: that is not a fault.
        for id in failed {
            let _ = retry(pool, id).await;
        }
        Ok(false)
    }
}

/// What is retried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Retry {
    /// A few jobs that failed or were cancelled.
    Some,
    /// All that failed.
    Failed,
}

async fn submit_once(pool: &PgPool, plan: &Plan) -> anyhow::Result<()> {
    let mut tx = pool.begin().await?;
    locks::alone(&mut tx).await?;
    // An earlier try may have been committed, though its answer was lost.
    if submit::find(&mut tx, &plan.key()).await?.is_none() {
        submit::submit(&mut tx, plan, &plan.key(), "", &Default::default(), "chaos").await?;
    }
    Ok(tx.commit().await?)
}

async fn ids(pool: &PgPool, plan: &Plan) -> anyhow::Result<HashMap<Vec<u8>, i64>> {
    let keys: Vec<Vec<u8>> = plan.jobs.iter().map(|it| it.key.0.to_vec()).collect();
    let rows: Vec<(Vec<u8>, i64)> =
        sqlx::query_as("select key, job_id from job_key where key = any($1)").bind(&keys).fetch_all(pool).await?;
    anyhow::ensure!(rows.len() == keys.len(), "{} of {} jobs are known", rows.len(), keys.len());
    Ok(rows.into_iter().collect())
}

async fn cancel(pool: &PgPool, job: i64) -> anyhow::Result<()> {
    let mut tx = pool.begin().await?;
    control::cancel_jobs(&mut tx, &[job]).await?;
    Ok(tx.commit().await?)
}

async fn retry(pool: &PgPool, job: i64) -> anyhow::Result<()> {
    let mut tx = pool.begin().await?;
    control::retry(&mut tx, &[job]).await?;
    Ok(tx.commit().await?)
}

/// Postgres is away: that is the point.
pub async fn patience(error: &anyhow::Error) {
    tracing::debug!(error = format!("{error:#}"), "trying again");
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
}
