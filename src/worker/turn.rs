//! One job's turn in a slot: from the claim to the settled result.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use sqlx::PgPool;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::child::{Child, Said};
use super::inputs::{Gathered, gather};
use super::pipe::{Reply, Request};
use super::results::{self, Stored};
use super::scratch::Scratch;
use crate::job::{JobId, Lease};
use crate::queue::claim::{self, Claimed, append_log};
use crate::queue::{LeaseLost, Tx, remake, settle};
use crate::store::artifact::Artifacts;

/// What the agent wants of a running attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Order {
    /// Go on.
    Run,
    /// Somebody cancelled the job: end it.
    Cancel,
    /// The lease is lost: end it, write nothing.
    Abandon,
    /// The worker stops: give the job back.
    Release,
}

/// How an attempt ended, before anything is written.
enum End {
    Replied(Reply),
    /// Its process died or could not be reached.
    Died(anyhow::Error),
    /// It took longer than its kind may.
    TooLong(Duration),
    /// It was ended by order.
    Ordered(Order),
    /// It never began: what these jobs have made is gone or damaged.
    Starved {
        makers: Vec<JobId>,
        error: String,
    },
}

/// What turns share.
pub(super) struct Bench {
    pub(super) pool: PgPool,
    pub(super) artifacts: Artifacts,
    pub(super) scratch: Scratch,
    pub(super) grace: Duration,
}

/// Runs a claimed job in `child` and settles it. Returns the child if it lives and may take another job.
pub(super) async fn take(
    bench: &Arc<Bench>,
    mut child: Child,
    job: &Claimed,
    mut orders: watch::Receiver<Order>,
) -> Option<Child> {
    // What lies among the copies of a remote store stays there as long as it is held.
    let (mut inputs, _held) = match patiently(|| gather(bench, &job.task), &mut orders).await {
        Ok(Gathered::Ready(inputs, held)) => (inputs, held),
        Ok(Gathered::Gone { makers, error }) => {
            settle_end(bench, job, End::Starved { makers, error }, &mut orders).await;
            return Some(child);
        }
        Err(order) => {
            settle_end(bench, job, End::Ordered(order), &mut orders).await;
            return Some(child);
        }
    };
    // Lives until the result is settled.
    let scratch = match job.task.model().map(|_| bench.scratch.turn()).transpose() {
        Ok(scratch) => scratch,
        Err(error) => {
            let end = End::Replied(Reply::Failed { retry: true, error: format!("{error:#}") });
            settle_end(bench, job, end, &mut orders).await;
            return Some(child);
        }
    };
    inputs.scratch = scratch.as_ref().map(|it| it.path().as_os_str().to_owned()).unwrap_or_default();
    let request = Request { task: job.task.clone(), inputs };
    let mut printed = Printed { lease: job.lease, seq: 0, lines: Vec::new() };
    let end = match child.send(&request).await {
        Ok(()) => wait(bench, &mut child, job, &mut orders, &mut printed).await,
        Err(error) => End::Died(error),
    };
    let survivor = if matches!(end, End::Replied(_)) {
        printed.lines.extend(child.rest_of_log().await);
        Some(child)
    } else {
        printed.lines.extend(child.last_words().await);
        child.end(bench.grace).await;
        None
    };
    printed.flush(&bench.pool).await;
    settle_end(bench, job, end, &mut orders).await;
    survivor
}

async fn wait(
    bench: &Bench,
    child: &mut Child,
    job: &Claimed,
    orders: &mut watch::Receiver<Order>,
    printed: &mut Printed,
) -> End {
    let deadline = sleep_until(Instant::now() + job.limit);
    tokio::pin!(deadline);
    let mut flush = tokio::time::interval(Duration::from_secs(1));
    let mut progress = None;
    loop {
        tokio::select! {
            said = child.hear() => match said {
                Ok(Said::Line(line)) => printed.lines.push(line),
                Ok(Said::Progress(done, of)) => progress = Some((done, of)),
                Ok(Said::Reply(reply)) => break End::Replied(reply),
                Err(error) => break End::Died(error),
            },
            _ = flush.tick() => {
                printed.flush(&bench.pool).await;
                if let Some((done, of)) = progress.take() {
                    note_progress(&bench.pool, job, done, of).await;
                }
            }
            () = &mut deadline => break End::TooLong(job.limit),
            order = next_order(orders) => break End::Ordered(order),
        }
    }
}

/// Progress is worth less than a result: it must not hold the job up.
async fn note_progress(pool: &PgPool, job: &Claimed, done: usize, of: usize) {
    let said = serde_json::json!({ "done": done, "of": of });
    if let Err(error) = claim::progress(pool, job.id, job.lease, &said).await {
        tracing::warn!(error = format!("{error:#}"), "cannot note the progress yet");
    }
}

/// Waits until the agent wants anything else than to go on.
async fn next_order(orders: &mut watch::Receiver<Order>) -> Order {
    match orders.wait_for(|it| *it != Order::Run).await {
        Ok(order) => *order,
        // The agent is gone.
        Err(_) => Order::Abandon,
    }
}

/// Repeats `action` while Postgres or the store is out of reach, until it works or the agent orders an end.
async fn patiently<T, F: Future<Output = anyhow::Result<T>>>(
    action: impl Fn() -> F,
    orders: &mut watch::Receiver<Order>,
) -> Result<T, Order> {
    let mut pause = Duration::from_millis(200);
    loop {
        match action().await {
            Ok(value) => return Ok(value),
            Err(error) => tracing::warn!(error = format!("{error:#}"), "cannot get what the job needs; trying again"),
        }
        tokio::select! {
            () = sleep(pause) => pause = (pause * 2).min(Duration::from_secs(5)),
            order = next_order(orders) => return Err(order),
        }
    }
}

/// Writes how the attempt ended, however long Postgres is away, unless the lease is lost meanwhile.
async fn settle_end(bench: &Bench, job: &Claimed, end: End, orders: &mut watch::Receiver<Order>) {
    let mut pause = Duration::from_millis(200);
    let begun = Instant::now();
    // A file is put into the store once, however often Postgres must be asked.
    let mut stored = None;
    loop {
        let error = match settle_once(bench, job, &end, &mut stored).await {
            Ok(()) => return,
            Err(error) => error,
        };
        if error.is::<LeaseLost>() {
            tracing::warn!(job = job.id.0, lease = job.lease.0, "the lease is lost; its result is dropped");
            return;
        }
        // A worker that must stop cannot wait for ever: what it could not settle is rescued by others.
        let order = *orders.borrow();
        if order == Order::Abandon || (order == Order::Release && begun.elapsed() > bench.grace) {
            return;
        }
        tracing::warn!(job = job.id.0, error = format!("{error:#}"), "cannot settle the job; trying again");
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

async fn settle_once(bench: &Bench, job: &Claimed, end: &End, stored: &mut Option<Stored>) -> anyhow::Result<()> {
    if let (End::Replied(Reply::Done(output)), None) = (end, &stored) {
        *stored = Some(results::store(&bench.artifacts, &job.task, output).await?);
    }
    let mut tx = bench.pool.begin().await.context("begin a transaction")?;
    let (id, lease) = (job.id, job.lease);
    match end {
        End::Replied(Reply::Done(output)) => {
            settle::finish(&mut tx, id, lease).await?;
            results::record(&mut tx, id, &job.task, output, stored.as_ref()).await?;
        }
        End::Replied(Reply::Failed { retry: false, error }) => {
            tracing::warn!(job = id.0, error, "the job failed");
            settle::fail(&mut tx, id, lease, error).await?;
        }
        End::Replied(Reply::Progress { .. }) => anyhow::bail!("progress is no end"),
        End::Replied(Reply::Failed { retry: true, error }) => retry(&mut tx, id, lease, error).await?,
        End::Died(error) => retry(&mut tx, id, lease, &format!("{error:#}")).await?,
        End::TooLong(limit) => {
            retry(&mut tx, id, lease, &format!("it took longer than {} s", limit.as_secs())).await?;
        }
        End::Starved { makers, error } => {
            let again = remake::remake(&mut tx, id, lease, makers, error).await?;
            tracing::warn!(job = id.0, error, again, "what the job needs is gone");
        }
        End::Ordered(Order::Cancel) => settle::finish_cancelled(&mut tx, id, lease).await?,
        End::Ordered(Order::Release) => settle::release(&mut tx, id, lease).await?,
        End::Ordered(Order::Abandon | Order::Run) => return Ok(()),
    }
    tx.commit().await.context("commit the result")
}

async fn retry(tx: &mut Tx<'_>, job: JobId, lease: Lease, error: &str) -> anyhow::Result<()> {
    let again = settle::retry_later(tx, job, lease, error).await?;
    tracing::warn!(job = job.0, error, again, "an attempt failed");
    Ok(())
}

/// What an attempt has printed and is not stored yet.
struct Printed {
    lease: Lease,
    seq: i32,
    lines: Vec<String>,
}

impl Printed {
    async fn flush(&mut self, pool: &PgPool) {
        if self.lines.is_empty() {
            return;
        }
        match append_log(pool, self.lease, self.seq, &self.lines).await {
            Ok(()) => {
                self.seq += i32::try_from(self.lines.len()).unwrap_or(i32::MAX);
                self.lines.clear();
            }
            // A log is worth less than a result: it must not hold the job up.
            Err(error) => tracing::warn!(error = format!("{error:#}"), "cannot store the log yet"),
        }
    }
}
