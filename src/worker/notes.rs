//! What a running task wants noted: where it begins, its checkpoints, its curves.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::pipe::Keep;
use super::turn::Bench;
use crate::database::within::within;
use crate::job::task::finetune::sample_key;
use crate::job::{Hash, JobId, Lease};
use crate::queue::LeaseLost;
use crate::queue::claim::Claimed;
use crate::store::checkpoint::{self, Saved};
use crate::store::made::Artifact;
use crate::store::training;
use crate::tasks::supervisor::Point;

/// The most points that wait for Postgres; of more the oldest are dropped.
const MOST_POINTS: usize = 200_000;

/// What a running task wants noted, and what of it is not written yet.
pub(super) struct Notes {
    to: Arc<To>,
    points: Vec<Point>,
    /// What the slot waits for: one at a time. A task of its own, because it locks the job's row: whoever writes to that row
    /// while this waited to be polled would wait for a lock that nobody gives back.
    noting: JoinSet<anyhow::Result<()>>,
}

/// Where it is noted.
struct To {
    bench: Arc<Bench>,
    job: JobId,
    lease: Lease,
    key: Hash,
}

impl Notes {
    /// Nothing yet.
    pub(super) fn new(bench: &Arc<Bench>, job: &Claimed) -> Self {
        let to = To { bench: bench.clone(), job: job.id, lease: job.lease, key: job.task.key() };
        Self { to: Arc::new(to), points: Vec::new(), noting: JoinSet::new() }
    }

    /// Takes points of curves.
    pub(super) fn points(&mut self, points: Vec<Point>) {
        self.points.extend(points);
        if self.points.len() > MOST_POINTS {
            let n_dropped = self.points.len() - MOST_POINTS / 2;
            self.points.drain(..n_dropped);
            tracing::warn!(job = self.to.job.0, n_dropped, "Postgres is away for long: points of curves are dropped");
        }
    }

    /// Begins to note where the attempt begins.
    pub(super) fn begin(&mut self, after: Option<u64>) {
        let to = self.to.clone();
        self.noting.spawn(async move { to.patiently(|| to.begin(after)).await });
    }

    /// Begins to keep a checkpoint. Its curves are written first: a later attempt goes on with both.
    pub(super) fn keep(&mut self, keep: Keep) {
        let to = self.to.clone();
        let points = std::mem::take(&mut self.points);
        self.noting.spawn(async move {
            to.patiently(|| to.write(&points)).await?;
            let file = PathBuf::from(&keep.file);
            let (hash, n_bytes) = to.patiently(|| to.store(&file)).await?;
            let artifact = Artifact { hash, n_bytes, media: "application/octet-stream" };
            let saved = Saved { step: keep.step, artifact: hash, meta: keep.meta };
            to.patiently(|| to.keep(&saved, &artifact, (keep.keep_last, keep.spare))).await
        });
    }

    /// Begins to store a picture that was made on the way.
    pub(super) fn show(&mut self, file: PathBuf, step: u64, idx: usize) {
        let to = self.to.clone();
        self.noting.spawn(async move {
            let (hash, n_bytes) = to.patiently(|| to.store(&file)).await?;
            let artifact = Artifact { hash, n_bytes, media: "image/png" };
            to.patiently(|| to.show(step, idx, &artifact)).await
        });
    }

    /// Waits until what the slot waits for is noted; for ever if it waits for nothing. Safe to drop and call again.
    ///
    /// # Errors
    /// [`LeaseLost`], or it cannot be noted at all.
    pub(super) async fn noted(&mut self) -> anyhow::Result<()> {
        match self.noting.join_next().await {
            Some(noted) => noted.context("note what the slot wants noted")?,
            None => std::future::pending().await,
        }
    }

    /// Writes the curves so far. What cannot be written now stays here.
    pub(super) async fn flush(&mut self) {
        if let Err(error) = self.settle().await {
            tracing::warn!(error = format!("{error:#}"), "cannot write the curves yet");
        }
    }

    /// Writes the curves so far.
    ///
    /// # Errors
    /// Postgres is out of reach.
    pub(super) async fn settle(&mut self) -> anyhow::Result<()> {
        self.to.write(&self.points).await.map_err(Trouble::into_error)?;
        self.points.clear();
        Ok(())
    }
}

/// Why something could not be noted.
enum Trouble {
    /// It may be possible later.
    Passes(anyhow::Error),
    /// It will not.
    Stays(anyhow::Error),
}

impl Trouble {
    fn into_error(self) -> anyhow::Error {
        let (Self::Passes(error) | Self::Stays(error)) = self;
        error
    }
}

impl To {
    /// Repeats `action` until it works, cannot work, or the lease is lost.
    async fn patiently<T, F: Future<Output = Result<T, Trouble>>>(&self, action: impl Fn() -> F) -> anyhow::Result<T> {
        let mut pause = Duration::from_millis(200);
        loop {
            match action().await {
                Ok(value) => return Ok(value),
                Err(Trouble::Stays(error)) => return Err(error),
                Err(Trouble::Passes(error)) if error.is::<LeaseLost>() => return Err(error),
                Err(Trouble::Passes(error)) => {
                    tracing::warn!(job = self.job.0, error = format!("{error:#}"), "cannot note it yet; trying again");
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }

    async fn begin(&self, after: Option<u64>) -> Result<(), Trouble> {
        let begun = checkpoint::begin_after(&self.bench.pool, self.job, self.lease, &self.key, after);
        within(self.bench.patience, begun).await.map_err(Trouble::Passes)
    }

    async fn keep(&self, saved: &Saved, artifact: &Artifact, stay: (u32, Option<u64>)) -> Result<(), Trouble> {
        let (pool, key) = (&self.bench.pool, &self.key);
        let kept = checkpoint::keep(pool, self.job, self.lease, key, saved, artifact, stay);
        within(self.bench.patience, kept).await.map_err(Trouble::Passes)
    }

    async fn show(&self, step: u64, idx: usize, artifact: &Artifact) -> Result<(), Trouble> {
        let key = sample_key(&self.key, step, idx);
        let shown = training::show(&self.bench.pool, self.job, self.lease, &key, artifact);
        within(self.bench.patience, shown).await.map_err(Trouble::Passes)
    }

    async fn write(&self, points: &[Point]) -> Result<(), Trouble> {
        if points.is_empty() {
            return Ok(());
        }
        let point = |it: &Point| checkpoint::Point {
            name: it.name.clone(),
            step: i64::try_from(it.step).unwrap_or(i64::MAX),
            value: it.value,
        };
        let points: Vec<_> = points.iter().map(point).collect();
        let added = checkpoint::add_points(&self.bench.pool, self.job, self.lease, &self.key, &points);
        within(self.bench.patience, added).await.map_err(Trouble::Passes)
    }

    /// Puts the file of a scratch folder into the store.
    async fn store(&self, file: &Path) -> Result<(Hash, u64), Trouble> {
        let within = self.bench.scratch.holds(file);
        within.map_err(Trouble::Stays)?;
        let found = file.symlink_metadata().with_context(|| format!("find the checkpoint {}", file.display()));
        if !found.map_err(Trouble::Stays)?.is_file() {
            return Err(Trouble::Stays(anyhow::anyhow!("the checkpoint {} is no file", file.display())));
        }
        self.bench.artifacts.take(file).await.map_err(Trouble::Passes)
    }
}
