//! Plans made by hand, and what is done with them to the queue.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use jobctl::job::needs::Offer;
use jobctl::job::outcome::Cause;
use jobctl::job::task::{Evaluate, MetricId, Picture, Task};
use jobctl::job::{Hash, JobId};
use jobctl::plan::{Cell, Edge, EdgeKind, Job, Plan, Source};
use jobctl::queue::claim::{Claimed, Gpu, Introduction, claim, register};
use jobctl::queue::submit::{self, Submitted};
use jobctl::queue::{Tx, locks, settle};
use jobctl::store::record::record_plan;
use jobctl::sweep::OnFailure;
use uuid::Uuid;

use super::database::Database;

/// An evaluation for each label; equal labels are equal jobs, in whichever plan.
pub fn graph(name: &str, labels: &[&str], edges: &[(usize, usize, EdgeKind)]) -> Plan {
    let task = |label: &str| {
        Task::Evaluate(Evaluate {
            picture: Picture::of_file(Hash::of(label.as_bytes()), Vec::new()),
            reference: None,
            metrics: vec![MetricId { metric: "glcm_score".to_owned(), variant: "authors".to_owned(), version: 1 }],
            network: None,
            max_pixels: None,
        })
    };
    let subject = |label: &str| Picture::of_file(Hash::of(label.as_bytes()), Vec::new()).key();
    let job = |label: &&str| Job {
        key: task(label).key(),
        task: task(label),
        subject: Some(subject(label)),
        reference: None,
        affinity: Some(Hash::of(label.as_bytes())),
        megapixels: 1.0,
        needs: Default::default(),
    };
    let cell = |(idx, label): (usize, &&str)| Cell {
        source: 0,
        sample: (*label).to_owned(),
        key: subject(label),
        jobs: vec![idx],
        path: Some(PathBuf::from(format!("/{label}.png"))),
        caption: None,
    };
    Plan {
        name: name.to_owned(),
        on_failure: OnFailure::Continue,
        priority: 0,
        max_running: None,
        limits: BTreeMap::new(),
        sources: vec![Source { name: "photos".to_owned(), model: None, rung: None, making: None, set: None }],
        cells: labels.iter().enumerate().map(cell).collect(),
        jobs: labels.iter().map(job).collect(),
        edges: edges.iter().map(|&(parent, child, kind)| Edge { parent, child, kind }).collect(),
        trainings: Vec::new(),
        asking: Vec::new(),
    }
}

/// The label's job.
fn key_of(label: &str) -> Vec<u8> {
    graph("", &[label], &[]).jobs[0].key.0.to_vec()
}

/// How a job is made to end.
#[derive(Clone, Copy, Debug)]
pub enum How {
    Finish,
    Fail,
    Retry,
    Release,
}

impl Database {
    /// A transaction.
    pub async fn begin(&self) -> Tx<'static> {
        self.pool.begin().await.unwrap()
    }

    /// Enqueues a plan that is not known yet, or revives the one that is.
    pub async fn submit(&self, plan: &Plan) -> Option<Submitted> {
        let mut tx = self.begin().await;
        locks::alone(&mut tx).await.unwrap();
        let key = plan.key();
        let submitted = match submit::find(&mut tx, &key).await.unwrap() {
            Some(row) => {
                submit::resubmit(&mut tx, row, plan).await.unwrap();
                None
            }
            None => {
                let submitted = submit::submit(&mut tx, plan, &key, "", &BTreeSet::new(), "test").await.unwrap();
                record_plan(&mut tx, submitted.sweep, plan).await.unwrap();
                Some(submitted)
            }
        };
        tx.commit().await.unwrap();
        submitted
    }

    /// Registers a worker.
    pub async fn worker(&self) -> Uuid {
        self.worker_with(&[], &[]).await
    }

    /// Registers a worker with labels and GPUs.
    pub async fn worker_with(&self, labels: &[String], gpus: &[Gpu]) -> Uuid {
        let id = Uuid::now_v7();
        let worker = Introduction { id, host: "host", program: "test", machine: "machine", n_slots: 1, labels, gpus };
        register(&self.pool, &worker).await.unwrap();
        id
    }

    /// Claims the best job.
    pub async fn claim(&self, worker: Uuid) -> Option<Claimed> {
        claim(&self.pool, worker, "cpu:0", &Offer::default(), None).await.unwrap()
    }

    /// Makes waiting for a next try a thing of the past.
    pub async fn all_due(&self) {
        self.execute(
            "update job set run_at = now()
            where id in (select id from job where run_at > now() order by id for update)",
        )
        .await;
    }

    /// Ends an attempt.
    pub async fn settle(&self, job: &Claimed, how: How) -> anyhow::Result<()> {
        let mut tx = self.pool.begin().await?;
        let settled = match how {
            How::Finish => settle::finish(&mut tx, job.id, job.lease).await,
            How::Fail => settle::fail(&mut tx, job.id, job.lease, "no picture").await,
            How::Retry => settle::retry_later(&mut tx, job.id, job.lease, Cause::Machine, "disk").await.map(drop),
            How::Release => settle::release(&mut tx, job.id, job.lease).await,
        };
        // Dropped instead, it would hold its locks for a moment longer, and claims pass by what is locked.
        if settled.is_err() {
            tx.rollback().await?;
        } else {
            tx.commit().await?;
        }
        settled
    }

    /// Claims the label's job, which must be the next one, and ends it.
    pub async fn work_on(&self, worker: Uuid, label: &str, how: How) {
        let claimed = self.claim(worker).await.unwrap_or_else(|| panic!("nothing is ready, not even {label}"));
        assert_eq!(claimed.id, self.job(label).await, "{label} is not the next one");
        self.settle(&claimed, how).await.unwrap();
    }

    /// The number of the label's job.
    pub async fn job(&self, label: &str) -> JobId {
        let query = sqlx::query_scalar("select job_id from job_key where key = $1").bind(key_of(label));
        JobId(query.fetch_one(&self.pool).await.unwrap())
    }

    /// The state of the label's job.
    pub async fn state(&self, label: &str) -> String {
        let query = sqlx::query_scalar("select state from every_job where key = $1").bind(key_of(label));
        query.fetch_one(&self.pool).await.unwrap()
    }

    /// The states of all jobs, counted.
    pub async fn states(&self) -> BTreeMap<String, i64> {
        let rows: Vec<(String, i64)> =
            sqlx::query_as("select state, count(*) from every_job group by state").fetch_all(&self.pool).await.unwrap();
        rows.into_iter().collect()
    }

    /// What holds of every queue, whatever was done to it.
    pub async fn check_laws(&self) {
        let miscounted = self
            .number(
                "select count(*) from job where state <> 'running' and n_blockers <> (
                    select count(*) from job_edge join job as parent on parent.id = job_edge.parent
                    where job_edge.child = job.id
                )",
            )
            .await;
        assert_eq!(miscounted, 0, "a job's count of unfinished parents is wrong");
        let twice = self.number("select count(*) - count(distinct id) from every_job").await;
        assert_eq!(twice, 0, "a job stands in both tables");
        let lost = self.number("select count(*) from job_key where job_id not in (select id from every_job)").await;
        assert_eq!(lost, 0, "a job is gone");
        let open = self
            .number(
                "select count(*) from attempt
                where (ended_at is null) <> (lease in (select lease from job where state = 'running'))",
            )
            .await;
        assert_eq!(open, 0, "an attempt's end and its job's state disagree");
        let leaked = self
            .number(
                "select count(*) from permit
                where lease is not null and lease not in (select lease from job where state = 'running')",
            )
            .await;
        assert_eq!(leaked, 0, "a place behind a gate is held by an attempt that has ended");
    }
}
