//! Executors that claim jobs which do nothing and settle them: an agent's work without its slots.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::{Mutex, Notify};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::job::needs::Offer;
use crate::queue::claim::{Claimed, Introduction, beat, claim, register};
use crate::queue::wake::{Bells, listen};
use crate::queue::{rescue::rescue, settle};
use crate::worker::desk::Desk;

/// How jobs are claimed and settled.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(super) enum How {
    /// A statement for each claim, a transaction for each end.
    Single,
    /// Claims that are asked for at the same time are one statement, and ends one transaction.
    Batched,
    /// By an agent with as many slots, each a process.
    Slots,
}

/// Executors of one worker.
pub(super) struct Executors {
    tasks: JoinSet<anyhow::Result<()>>,
    helpers: JoinSet<()>,
}

/// What executors share.
struct Shared<Start> {
    pool: PgPool,
    worker: Uuid,
    desk: Option<Desk>,
    bells: Bells,
    idle: Mutex<()>,
    n_left: AtomicUsize,
    all_done: Notify,
    on_start: Start,
}

impl How {
    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Batched => "batched",
            Self::Slots => "slots",
        }
    }
}

impl Executors {
    /// Runs `n` executors until `n_jobs` jobs are done; `on_start` hears of each job just after its claim.
    pub(super) async fn run(
        pool: &PgPool,
        n: usize,
        how: How,
        n_jobs: usize,
        on_start: impl Fn(&Claimed) + Send + Sync + 'static,
    ) -> anyhow::Result<()> {
        let worker = introduce(pool, n).await?;
        let shared = Arc::new(Shared {
            pool: pool.clone(),
            worker,
            desk: (how == How::Batched).then(|| Desk::open(pool.clone(), Offer::default())),
            bells: Bells::default(),
            idle: Mutex::default(),
            n_left: AtomicUsize::new(n_jobs),
            all_done: Notify::new(),
            on_start,
        });
        let mut it = Self { tasks: JoinSet::new(), helpers: JoinSet::new() };
        let listener = shared.clone();
        it.helpers.spawn(async move { listen(listener.pool.clone(), &listener.bells).await });
        it.helpers.spawn(keep_alive(pool.clone(), worker));
        for idx in 0..n {
            it.tasks.spawn(execute(shared.clone(), format!("cpu:{idx}")));
        }
        let ended = it.wait(&shared.all_done).await;
        settle::retire(pool, worker).await?;
        ended
    }

    /// Waits until all jobs are done, or an executor fails.
    async fn wait(&mut self, all_done: &Notify) -> anyhow::Result<()> {
        tokio::select! {
            () = all_done.notified() => Ok(()),
            Some(ended) = self.tasks.join_next() => ended?,
        }
    }
}

impl<Start> Shared<Start> {
    async fn claim(&self, slot: &str) -> anyhow::Result<Option<Claimed>> {
        match &self.desk {
            Some(desk) => desk.claim(self.worker, slot).await,
            None => claim(&self.pool, self.worker, slot, &Offer::default(), None).await,
        }
    }

    /// Asks until there is a job. As in an agent, only the first of those who are idle does: a call that something is
    /// ready wakes one, and whoever gets a job lets the next one look. At a desk they ask together.
    async fn next(&self, slot: &str) -> anyhow::Result<Claimed> {
        let mut bell = self.bells.ready.subscribe();
        let _first = match self.desk {
            Some(_) => None,
            None => {
                if let Some(job) = self.claim(slot).await? {
                    return Ok(job);
                }
                Some(self.idle.lock().await)
            }
        };
        loop {
            bell.mark_unchanged();
            if let Some(job) = self.claim(slot).await? {
                return Ok(job);
            }
            let _ = tokio::time::timeout(Duration::from_secs(2), bell.changed()).await;
        }
    }
}

async fn introduce(pool: &PgPool, n: usize) -> anyhow::Result<Uuid> {
    let id = Uuid::now_v7();
    let worker =
        Introduction { id, host: "bench", program: "bench", machine: "bench", n_slots: n, labels: &[], gpus: &[] };
    register(pool, &worker).await?;
    Ok(id)
}

/// What an agent's heart does, at its usual pace.
async fn keep_alive(pool: PgPool, worker: Uuid) {
    loop {
        tokio::time::sleep(Duration::from_secs(10)).await;
        let stale = Duration::from_secs(45);
        let beaten = beat(&pool, worker).await.map(drop);
        if let Err(error) = beaten.and(rescue(&pool, stale, stale).await.map(drop)) {
            tracing::warn!(error = format!("{error:#}"), "cannot beat");
        }
    }
}

async fn execute<Start: Fn(&Claimed)>(shared: Arc<Shared<Start>>, slot: String) -> anyhow::Result<()> {
    loop {
        let job = shared.next(&slot).await?;
        let Shared { pool, .. } = &*shared;
        (shared.on_start)(&job);
        if let Some(desk) = &shared.desk {
            desk.finish(job.id, job.lease).await?;
        } else {
            let mut tx = pool.begin().await?;
            settle::finish(&mut tx, job.id, job.lease).await?;
            tx.commit().await?;
        }
        if shared.n_left.fetch_sub(1, Ordering::Relaxed) == 1 {
            shared.all_done.notify_one();
        }
    }
}
