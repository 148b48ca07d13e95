//! Random histories: whatever several actors do to a queue, step by step, it is what a small model says; and whatever they
//! do at the same time, the laws hold, nothing waits for ever and nobody deadlocks.

mod model;
mod together;

use std::collections::BTreeMap;
use std::time::Duration;

use jobctl::plan::{EdgeKind, Plan};
use jobctl::queue::claim::{Claimed, beat};
use jobctl::queue::rescue::rescue;
use jobctl::queue::submit::{self, Submitted};
use jobctl::queue::{LeaseLost, control, locks};
use jobctl::sweep::OnFailure;
use proptest::prelude::*;
use uuid::Uuid;

use self::model::{Model, Row};
use crate::support::database::Database;
use crate::support::graph::{How, graph};

const STALE: Duration = Duration::from_secs(45);
/// The jobs that sweeps are made of.
const LABELS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
/// Who waits for whom: parent, child, and whether the child needs the parent's result.
const EDGES: [(usize, usize, bool); 10] = [
    (0, 2, true),
    (1, 2, true),
    (2, 3, true),
    (3, 5, true),
    (4, 5, true),
    (0, 7, false),
    (3, 7, false),
    (5, 7, false),
    (6, 7, false),
    (1, 6, true),
];
const N_WORKERS: usize = 3;

/// A sweep over some of the jobs.
fn plan_of(members: u8, stops: bool) -> (Plan, Vec<usize>) {
    let members: Vec<usize> = (0..LABELS.len()).filter(|it| members >> it & 1 == 1).collect();
    let labels: Vec<&str> = members.iter().map(|it| LABELS[*it]).collect();
    let place = |it: usize| members.iter().position(|member| *member == it);
    let edges: Vec<(usize, usize, EdgeKind)> = EDGES
        .iter()
        .filter_map(|&(parent, child, needs)| {
            Some((place(parent)?, place(child)?, if needs { EdgeKind::Needs } else { EdgeKind::After }))
        })
        .collect();
    let mut plan = graph(if stops { "stops" } else { "goes-on" }, &labels, &edges);
    plan.on_failure = if stops { OnFailure::Stop } else { OnFailure::Continue };
    (plan, members)
}

/// What somebody does. Numbers pick one of what there is.
#[derive(Clone, Copy, Debug)]
enum Op {
    Enqueue(u8, bool),
    Claim(usize),
    Settle(usize, How),
    /// With a lease that is lost.
    SettleLate(usize, How),
    Beat(usize),
    Die(usize),
    CancelSweep(usize),
    CancelJob(usize),
    RetrySweep(usize),
    RetryJob(usize),
    Pause(usize, bool),
}

fn how() -> impl Strategy<Value = How> {
    prop_oneof![3 => Just(How::Finish), 2 => Just(How::Fail), 2 => Just(How::Retry), 1 => Just(How::Release)]
}

fn op() -> impl Strategy<Value = Op> {
    let which = 0..64_usize;
    prop_oneof![
        3 => (1..=255_u8, any::<bool>()).prop_map(|(members, stops)| Op::Enqueue(members, stops)),
        8 => (0..N_WORKERS).prop_map(Op::Claim),
        8 => (which.clone(), how()).prop_map(|(which, how)| Op::Settle(which, how)),
        1 => (which.clone(), how()).prop_map(|(which, how)| Op::SettleLate(which, how)),
        1 => (0..N_WORKERS).prop_map(Op::Beat),
        1 => (0..N_WORKERS).prop_map(Op::Die),
        1 => which.clone().prop_map(Op::CancelSweep),
        1 => which.clone().prop_map(Op::CancelJob),
        2 => which.clone().prop_map(Op::RetrySweep),
        1 => which.clone().prop_map(Op::RetryJob),
        2 => (which, any::<bool>()).prop_map(|(which, paused)| Op::Pause(which, paused)),
    ]
}

/// One actor after the other, on a database and on the model.
struct Play {
    db: Database,
    model: Model,
    workers: Vec<Uuid>,
    /// Attempts that run, with their workers.
    running: Vec<(usize, usize, Claimed)>,
    /// Attempts that are over.
    over: Vec<Claimed>,
    /// The rows of the sweeps, in the model's order.
    sweeps: Vec<i32>,
}

impl Play {
    async fn new() -> Self {
        let db = Database::new().await;
        let mut workers = Vec::new();
        for _ in 0..N_WORKERS {
            workers.push(db.worker().await);
        }
        Self { db, model: Model::new(LABELS.len()), workers, running: Vec::new(), over: Vec::new(), sweeps: Vec::new() }
    }

    /// Which of the labels a job is.
    async fn label(&self, job: i64) -> usize {
        let ids = ids(&self.db).await;
        *ids.iter().find(|it| *it.1 == job).expect("every job has a label").0
    }

    async fn step(&mut self, op: Op) {
        match op {
            Op::Enqueue(members, stops) => self.enqueue(members, stops).await,
            Op::Claim(worker) => self.claim(worker).await,
            Op::Settle(which, how) if !self.running.is_empty() => {
                let (label, _, claimed) = self.running.remove(which % self.running.len());
                self.db.settle(&claimed, how).await.unwrap();
                self.model.settle(label, how);
                self.over.push(claimed);
            }
            Op::SettleLate(which, how) if !self.over.is_empty() => {
                let claimed = &self.over[which % self.over.len()];
                let error = self.db.settle(claimed, how).await.unwrap_err();
                assert!(error.is::<LeaseLost>(), "{error:#}");
            }
            Op::Beat(worker) => {
                let pulse = beat(&self.db.pool, self.workers[worker]).await.unwrap().expect("it lives");
                let own = self.running.iter().filter(|it| it.1 == worker);
                let mut held: Vec<_> = own.clone().map(|it| (it.2.id, it.2.lease)).collect();
                let mut cancelled: Vec<_> =
                    own.filter(|it| self.model.jobs[it.0].cancel_asked).map(|it| it.2.lease).collect();
                let (mut said, mut asked) = (pulse.held, pulse.cancelled);
                held.sort();
                cancelled.sort();
                said.sort();
                asked.sort();
                assert_eq!((said, asked), (held, cancelled));
            }
            Op::Die(worker) => self.die(worker).await,
            Op::CancelSweep(which) if !self.sweeps.is_empty() => {
                let which = which % self.sweeps.len();
                let mut tx = self.db.begin().await;
                control::cancel_sweep(&mut tx, self.sweeps[which]).await.unwrap();
                tx.commit().await.unwrap();
                self.model.cancel_sweep(which);
            }
            Op::CancelJob(which) => {
                let label = which % LABELS.len();
                if let Some(id) = ids(&self.db).await.get(&label) {
                    let mut tx = self.db.begin().await;
                    control::cancel_jobs(&mut tx, &[*id]).await.unwrap();
                    tx.commit().await.unwrap();
                    self.model.cancel_jobs(&[label]);
                }
            }
            Op::RetrySweep(which) if !self.sweeps.is_empty() => self.retry_sweep(which % self.sweeps.len()).await,
            Op::RetryJob(which) => {
                let label = which % LABELS.len();
                if let Some(id) = ids(&self.db).await.get(&label) {
                    let mut tx = self.db.begin().await;
                    let worked = control::retry(&mut tx, &[*id]).await.is_ok();
                    if worked {
                        tx.commit().await.unwrap();
                    } else {
                        tx.rollback().await.unwrap();
                    }
                    assert_eq!(self.model.retry(&[label]), worked, "retry of {}", LABELS[label]);
                }
            }
            Op::Pause(which, paused) if !self.sweeps.is_empty() => {
                let which = which % self.sweeps.len();
                let mut tx = self.db.begin().await;
                control::set_paused(&mut tx, self.sweeps[which], paused).await.unwrap();
                tx.commit().await.unwrap();
                self.model.set_paused(which, paused);
            }
            _ => {}
        }
    }

    async fn enqueue(&mut self, members: u8, stops: bool) {
        let (plan, members) = plan_of(members, stops);
        let submitted = enqueue(&self.db, &plan).await;
        let worked = submitted.is_ok();
        if let Ok(Some(submitted)) = &submitted {
            self.sweeps.push(submitted.sweep);
        }
        assert_eq!(self.model.enqueue(&members, stops), worked, "enqueue: {submitted:?}");
    }

    async fn claim(&mut self, worker: usize) {
        self.db.all_due().await;
        let claimed = self.db.claim(self.workers[worker]).await;
        let Some(claimed) = claimed else {
            assert!(!self.model.jobs.iter().any(Row::is_claimable), "nothing was claimed: {:?}", self.model.jobs);
            return;
        };
        let label = self.label(claimed.id.0).await;
        assert!(self.model.jobs[label].is_claimable(), "{} was claimed: {:?}", LABELS[label], self.model.jobs);
        self.model.claim(label);
        assert_eq!(claimed.number as usize, self.model.jobs[label].n_attempts);
        self.running.push((label, worker, claimed));
    }

    async fn die(&mut self, worker: usize) {
        sqlx::query("update worker set beat_at = now() - interval '1 hour' where id = $1")
            .bind(self.workers[worker])
            .execute(&self.db.pool)
            .await
            .unwrap();
        let (dead, alive): (Vec<_>, Vec<_>) = self.running.drain(..).partition(|it| it.1 == worker);
        self.running = alive;
        assert_eq!(rescue(&self.db.pool, STALE, STALE).await.unwrap(), dead.len());
        let mut order: Vec<(i64, usize)> = dead.iter().map(|it| (it.2.id.0, it.0)).collect();
        order.sort();
        order.iter().for_each(|it| self.model.settle(it.1, How::Retry));
        self.over.extend(dead.into_iter().map(|it| it.2));
        self.workers[worker] = self.db.worker().await;
    }

    /// As `jobctl retry SWEEP`.
    async fn retry_sweep(&mut self, which: usize) {
        let mut tx = self.db.begin().await;
        let sweep = self.sweeps[which];
        let retried = async {
            control::revive_sweep(&mut tx, sweep).await?;
            let others = control::retryable(&mut tx, sweep).await?;
            control::retry(&mut tx, &others).await
        };
        let worked = retried.await.is_ok();
        // Dropped instead, it would hold its locks for a moment longer, and claims pass by what is locked.
        if worked {
            tx.commit().await.unwrap();
        } else {
            tx.rollback().await.unwrap();
        }
        assert_eq!(self.model.retry_sweep(which), worked);
    }

    /// The database is what the model says.
    async fn check(&self) {
        self.db.check_laws().await;
        let rows: Vec<(i64, String, i32, bool, i32)> = sqlx::query_as(
            "select id, state, n_attempts, held, n_blockers from job
            union all select id, state, n_attempts, false, 0 from job_history",
        )
        .fetch_all(&self.db.pool)
        .await
        .unwrap();
        let ids = ids(&self.db).await;
        for (label, model) in self.model.jobs.iter().enumerate() {
            let id = ids.get(&label);
            let Some(row) = id.and_then(|id| rows.iter().find(|it| it.0 == *id)) else {
                assert!(!model.exists, "{} is not there", LABELS[label]);
                continue;
            };
            let is = (row.1.as_str(), usize::try_from(row.2).unwrap(), row.3);
            let shall = (model.state.word(), model.n_attempts, model.held && !model.state.is_final());
            assert_eq!(is, shall, "{} (state, attempts, held)", LABELS[label]);
            if model.lives() && row.1 != "running" {
                let n_blockers = self.model.n_blockers(label);
                assert_eq!(usize::try_from(row.4).unwrap(), n_blockers, "blockers of {}", LABELS[label]);
            }
        }
    }
}

/// Enqueues a plan; none if it was known.
async fn enqueue(db: &Database, plan: &Plan) -> anyhow::Result<Option<Submitted>> {
    let mut tx = db.pool.begin().await?;
    locks::alone(&mut tx).await?;
    let key = plan.key();
    let submitted = async {
        Ok(match submit::find(&mut tx, &key).await? {
            Some(row) => submit::resubmit(&mut tx, row, plan).await.map(|_| None)?,
            None => Some(submit::submit(&mut tx, plan, &key, "", &Default::default(), "test").await?),
        })
    }
    .await;
    if submitted.is_ok() {
        tx.commit().await?;
    } else {
        tx.rollback().await?;
    }
    submitted
}

/// The job of each label.
async fn ids(db: &Database) -> BTreeMap<usize, i64> {
    let rows: Vec<(Vec<u8>, i64)> =
        sqlx::query_as("select key, job_id from job_key").fetch_all(&db.pool).await.unwrap();
    let key = |label: usize| graph("", &[LABELS[label]], &[]).jobs[0].key.0.to_vec();
    let id = |label: usize| Some((label, rows.iter().find(|it| it.0 == key(label))?.1));
    (0..LABELS.len()).filter_map(id).collect()
}

/// proptest's default of 256 cases is for nights: `PROPTEST_CASES` says so.
fn config(n_cases: u32) -> ProptestConfig {
    let config = ProptestConfig { failure_persistence: None, max_shrink_iters: 40, ..ProptestConfig::default() };
    if config.cases == 256 { ProptestConfig { cases: n_cases, ..config } } else { config }
}

#[test]
fn every_history_is_what_the_model_says() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    proptest!(config(10), |(first in 1..=255_u8, stops in any::<bool>(), ops in proptest::collection::vec(op(), 10..60))| {
        runtime.block_on(async {
            let mut play = Play::new().await;
            play.step(Op::Enqueue(first, stops)).await;
            play.check().await;
            for op in &ops {
                play.step(*op).await;
                play.check().await;
            }
        });
    });
}
