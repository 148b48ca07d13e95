//! One job's turn in a slot: from the claim to the settled result.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use sqlx::PgPool;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tracing::Instrument;

use super::child::{Child, Said};
use super::death::Death;
use super::inputs::{Gathered, gather};
use super::log::Log;
use super::notes::Notes;
use super::pipe::{Fault, Reply, Request, Work};
use super::results::{self, Stored};
use super::scratch::Scratch;
use super::vitals::Vitals;
use super::wish::{Ending, Stop, Wish};
use super::words::resolved;
use crate::database::within::within;
use crate::job::outcome::Cause;
use crate::job::task::Task;
use crate::job::{JobId, Lease};
use crate::queue::claim::{self, Claimed};
use crate::queue::{LeaseLost, Tx, remake, settle};
use crate::store::artifact::{Artifacts, Fetched};

/// How an attempt ended, before anything is written.
pub(super) enum End {
    Replied(Reply),
    /// Its process died or could not be reached.
    Died(Death),
    /// It took longer than its kind may.
    TooLong(Duration),
    /// It was ended by order.
    Ordered,
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
    pub(super) vitals: Arc<Vitals>,
    /// How long Postgres may take for an answer.
    pub(super) patience: Duration,
}

/// Runs a claimed job in `child` and settles it. Returns the child if it lives and may take another job.
pub(super) async fn take(
    bench: &Arc<Bench>,
    child: Child,
    job: &Claimed,
    mut wishes: watch::Receiver<Wish>,
) -> Option<Child> {
    let began = Instant::now();
    let mut notes = Notes::new(bench, job);
    let Some(task) = patiently(|| resolved(bench, &job.task), &mut wishes).await else {
        settle_end(bench, job, End::Ordered, &mut notes, &mut wishes, began).await;
        return Some(child);
    };
    let task = match task {
        Ok(task) => task,
        Err(error) => {
            let end = End::Replied(Reply::Failed { fault: Fault::Machine, error });
            settle_end(bench, job, end, &mut notes, &mut wishes, began).await;
            return Some(child);
        }
    };
    let done = run(bench, child, job, &task, began + job.limit, &mut wishes, &mut notes).await;
    settle_end(bench, job, done.end, &mut notes, &mut wishes, began).await;
    done.child
}

/// What the turn of a claimed job comes to; none if it panics. That is settled as a fault of the machine, so that a job which
/// makes its agent panic each time ends as failed.
pub(super) async fn guarded<T: Send + 'static>(
    bench: &Arc<Bench>,
    job: &Claimed,
    mut wishes: watch::Receiver<Wish>,
    turn: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    let began = Instant::now();
    let panic = match tokio::spawn(turn.in_current_span()).await {
        Ok(done) => return Some(done),
        Err(panic) => panic,
    };
    let error = format!("its agent panicked: {panic}");
    tracing::error!(job = job.id.0, error);
    let end = End::Replied(Reply::Failed { fault: Fault::Machine, error });
    settle_end(bench, job, end, &mut Notes::new(bench, job), &mut wishes, began).await;
    None
}

/// What running a task came to. Its files stay where they are as long as this lives.
pub(super) struct Run {
    pub(super) end: End,
    /// The child, if it lives and may take another job.
    pub(super) child: Option<Child>,
    _scratch: Option<TempDir>,
    /// What lies among the copies of a remote store stays there as long as it is held.
    _held: Vec<Fetched>,
}

/// Runs a task of a claimed job in `child` until `deadline`, which counts from the claim as Postgres does, and settles nothing.
pub(super) async fn run(
    bench: &Arc<Bench>,
    mut child: Child,
    job: &Claimed,
    task: &Task,
    deadline: Instant,
    wishes: &mut watch::Receiver<Wish>,
    notes: &mut Notes,
) -> Run {
    let unbegun = |end, child| Run { end, child: Some(child), _scratch: None, _held: Vec::new() };
    let needs_scratch = task.makes_file() || task.saves() || task.asks();
    let prepare = async || {
        // On the store's disk as a rule: what is away for a while costs no attempt.
        let scratch = needs_scratch.then(|| bench.scratch.turn()).transpose()?;
        Ok((gather(bench, task).await?, scratch))
    };
    let (mut inputs, held, scratch) = match timeout_at(deadline, patiently(prepare, wishes)).await {
        Ok(Some((Gathered::Ready(inputs, held), scratch))) => (*inputs, held, scratch),
        Ok(Some((Gathered::Gone { makers, error }, _))) => return unbegun(End::Starved { makers, error }, child),
        Ok(None) => return unbegun(End::Ordered, child),
        Err(_) => return unbegun(End::TooLong(job.limit), child),
    };
    inputs.scratch = scratch.as_ref().map(|it| it.path().as_os_str().to_owned()).unwrap_or_default();
    inputs.attempt = job.number;
    inputs.lease = job.lease.0;
    let mut log = Log::new(job.lease);
    let work = Work { task: task.clone(), inputs };
    child.send(&Request::Do(Box::new(work)));
    let end = wait(bench, &mut child, job, deadline, wishes, &mut log, notes).await;
    let survives = match &end {
        // A process that ran out of memory may hold on to what filled it.
        End::Replied(Reply::Failed { fault, .. }) => *fault != Fault::Memory,
        End::Replied(_) => true,
        _ => false,
    };
    let (rest, child) = if survives { (child.rest_of_log().await, Some(child)) } else { (child.end().await, None) };
    rest.into_iter().for_each(|it| log.push(it));
    log.end();
    log.flush(bench).await;
    Run { end, child, _scratch: scratch, _held: held }
}

/// Listens to the slot until the attempt is over, and sees to what it wants noted.
async fn wait(
    bench: &Bench,
    child: &mut Child,
    job: &Claimed,
    deadline: Instant,
    wishes: &mut watch::Receiver<Wish>,
    log: &mut Log,
    notes: &mut Notes,
) -> End {
    // Until when it may save, once it was told to.
    let mut saving: Option<Instant> = None;
    let mut flush = tokio::time::interval(Duration::from_secs(1));
    let mut progress = None;
    // The attempt may have been told to end before it began.
    wishes.mark_changed();
    loop {
        let until = saving.unwrap_or(deadline);
        tokio::select! {
            said = child.hear(|| log.latest()) => match said {
                Ok(Said::Line(line)) => log.push(line),
                Ok(Said::Reply(Reply::Progress { done, of })) => progress = Some((done, of)),
                Ok(Said::Reply(Reply::Points(points))) => notes.points(points),
                Ok(Said::Reply(Reply::Begin { after })) => notes.begin(after),
                Ok(Said::Reply(Reply::Keep(keep))) => notes.keep(keep),
                Ok(Said::Reply(Reply::Show { file, step, idx })) => notes.show(file.into(), step, idx),
                // A save that went wrong is no fault of a task that was told to end.
                Ok(Said::Reply(Reply::Failed { .. } | Reply::Stopped)) if saving.is_some() => break End::Ordered,
                Ok(Said::Reply(reply)) => break End::Replied(reply),
                Err(_) if saving.is_some() => break End::Ordered,
                Err(death) => break End::Died(death),
            },
            noted = notes.noted() => {
                let error = match noted {
                    Ok(()) => None,
                    Err(error) if error.is::<LeaseLost>() => break End::Ordered,
                    Err(error) => Some(format!("{error:#}")),
                };
                child.send(&Request::Noted { error });
            }
            _ = flush.tick() => {
                let flushed = async {
                    log.flush(bench).await;
                    notes.flush().await;
                    if let Some((done, of)) = progress.take() {
                        note_progress(bench, job, done, of).await;
                    }
                };
                // Where Postgres takes its time, neither a wish nor the deadline waits for it. What is not flushed stays.
                tokio::select! {
                    () = flushed => {}
                    () = sleep_until(until) => {}
                    _ = next_wish(wishes) => wishes.mark_changed(),
                }
            }
            () = sleep_until(until) => break if saving.is_some() { End::Ordered } else { End::TooLong(job.limit) },
            wish = next_wish(wishes) => match wish.ending(job.task.saves()) {
                Ending::None => {}
                Ending::Kill => break End::Ordered,
                Ending::Save if saving.is_some() => {}
                Ending::Save => {
                    saving = Some(Instant::now() + bench.grace);
                    child.send(&Request::Stop);
                }
            },
        }
    }
}

/// Progress is worth less than a result: it must not hold the job up.
async fn note_progress(bench: &Bench, job: &Claimed, done: usize, of: usize) {
    let said = serde_json::json!({ "done": done, "of": of });
    let noted = within(bench.patience, claim::progress(&bench.pool, job.id, job.lease, &said));
    if let Err(error) = noted.await {
        tracing::warn!(error = format!("{error:#}"), "cannot note the progress yet");
    }
}

/// Waits until the agent wants something else.
pub(super) async fn next_wish(wishes: &mut watch::Receiver<Wish>) -> Wish {
    if wishes.changed().await.is_err() {
        // The agent is gone, and this with it.
        pending::<()>().await;
    }
    *wishes.borrow_and_update()
}

/// Repeats `action` while Postgres or the store is out of reach, until it works or the agent wants an end: none then.
pub(super) async fn patiently<T, F: Future<Output = anyhow::Result<T>>>(
    action: impl Fn() -> F,
    wishes: &mut watch::Receiver<Wish>,
) -> Option<T> {
    let mut pause = Duration::from_millis(200);
    loop {
        match action().await {
            Ok(value) => return Some(value),
            Err(error) => tracing::warn!(error = format!("{error:#}"), "cannot get what the job needs; trying again"),
        }
        tokio::select! {
            () = sleep(pause) => pause = (pause * 2).min(Duration::from_secs(5)),
            _ = wishes.wait_for(|it| *it != Wish::default()) => return None,
        }
    }
}

/// Writes how the attempt that `began` then ended, however long Postgres is away, unless the lease is lost meanwhile.
pub(super) async fn settle_end(
    bench: &Bench,
    job: &Claimed,
    end: End,
    notes: &mut Notes,
    wishes: &mut watch::Receiver<Wish>,
    began: Instant,
) {
    let mut pause = Duration::from_millis(200);
    let begun = Instant::now();
    // A file is put into the store once, however often Postgres must be asked.
    let mut stored = None;
    loop {
        let wish = *wishes.borrow();
        if wish.abandon {
            bench.vitals.lost_lease();
            return;
        }
        let error = match settle_once(bench, job, &end, &mut stored, notes).await {
            Ok(outcome) => {
                let outcome = if outcome == "released" && wish.cancel { "cancelled" } else { outcome };
                bench.vitals.ended(job.task.kind(), outcome, began.elapsed());
                return;
            }
            Err(error) => error,
        };
        if error.is::<LeaseLost>() {
            bench.vitals.lost_lease();
            tracing::warn!(job = job.id.0, lease = job.lease.0, "the lease is lost; its result is dropped");
            return;
        }
        // A worker that must stop cannot wait for ever: what it could not settle is rescued by others.
        if wish.stop >= Stop::GiveBack && begun.elapsed() > bench.grace {
            return;
        }
        tracing::warn!(job = job.id.0, error = format!("{error:#}"), "cannot settle the job; trying again");
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

/// Writes it once; returns the attempt's outcome as the table has it.
async fn settle_once(
    bench: &Bench,
    job: &Claimed,
    end: &End,
    stored: &mut Option<Stored>,
    notes: &mut Notes,
) -> anyhow::Result<&'static str> {
    notes.settle().await?;
    if let (End::Replied(Reply::Done(output)), None) = (end, &stored) {
        *stored = Some(results::store(&bench.artifacts, &job.task, output).await?);
    }
    within(bench.patience, write_end(bench, job, end, stored.as_ref())).await
}

async fn write_end(bench: &Bench, job: &Claimed, end: &End, stored: Option<&Stored>) -> anyhow::Result<&'static str> {
    let mut tx = bench.pool.begin().await.context("begin a transaction")?;
    let (id, lease) = (job.id, job.lease);
    let outcome = match end {
        End::Replied(Reply::Done(output)) => {
            settle::finish(&mut tx, id, lease).await?;
            results::record(&mut tx, id, &job.task, output, stored).await?;
            "done"
        }
        End::Replied(Reply::Failed { fault, error }) => match fault {
            Fault::Task => {
                tracing::warn!(job = id.0, error, "the job failed");
                settle::fail(&mut tx, id, lease, error).await?;
                "failed"
            }
            Fault::Machine => retry(&mut tx, id, lease, Cause::Machine, error).await?,
            Fault::Memory => retry(&mut tx, id, lease, Cause::Memory, error).await?,
        },
        End::Died(death) => retry(&mut tx, id, lease, death.cause, &death.error).await?,
        End::TooLong(limit) => {
            let error = format!("it took longer than {} s", limit.as_secs());
            retry(&mut tx, id, lease, Cause::Deadline, &error).await?
        }
        // Somebody else may have told the slot to save and end: a batch system, say.
        End::Ordered | End::Replied(Reply::Stopped) => {
            settle::release(&mut tx, id, lease).await?;
            "released"
        }
        End::Replied(
            Reply::Progress { .. } | Reply::Points(_) | Reply::Begin { .. } | Reply::Keep(_) | Reply::Show { .. },
        ) => anyhow::bail!("that is no end"),
        End::Starved { makers, error } => {
            let again = remake::remake(&mut tx, id, lease, makers, error).await?;
            tracing::warn!(job = id.0, error, again, "what the job needs is gone");
            if again { "retried" } else { "failed" }
        }
    };
    tx.commit().await.context("commit the result")?;
    Ok(outcome)
}

async fn retry(tx: &mut Tx<'_>, job: JobId, lease: Lease, cause: Cause, error: &str) -> anyhow::Result<&'static str> {
    let again = settle::retry_later(tx, job, lease, cause, error).await?;
    tracing::warn!(job = job.0, error, cause = cause.word(), again, "an attempt failed");
    Ok(if again { "retried" } else { "failed" })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use sqlx::PgPool;
    use tokio::sync::watch;

    use super::{Bench, guarded};
    use crate::job::task::Task;
    use crate::job::{JobId, Lease};
    use crate::queue::claim::Claimed;
    use crate::store::artifact::Artifacts;
    use crate::worker::scratch::Scratch;
    use crate::worker::vitals::Vitals;
    use crate::worker::wish::Wish;

    #[tokio::test]
    async fn a_turn_that_panics_is_settled_and_ends_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let vitals = Arc::new(Vitals::new());
        let bench = Arc::new(Bench {
            pool: PgPool::connect_lazy("postgres://nobody@127.0.0.1:1/nothing").unwrap(),
            artifacts: Artifacts::new(folder.path().join("artifacts")),
            scratch: Scratch::new(folder.path()),
            grace: Duration::from_millis(50),
            patience: Duration::from_millis(50),
            vitals: vitals.clone(),
        });
        let job = Claimed {
            id: JobId(1),
            lease: Lease(1),
            number: 1,
            task: Task::Rehearse(Default::default()),
            affinity: None,
            limit: Duration::from_secs(1),
            waited: Duration::ZERO,
        };
        // A lease that is lost is settled without Postgres, and counted.
        let (_sender, wishes) = watch::channel(Wish { abandon: true, ..Wish::default() });
        let turn = async {
            if true {
                panic!("a turn goes wrong")
            }
        };
        assert!(guarded(&bench, &job, wishes.clone(), turn).await.is_none());
        let n_lost = |it: &Vitals| {
            let families = it.gather();
            let lost = families.iter().find(|it| it.name() == "jobctl_leases_lost_total").unwrap();
            lost.get_metric()[0].get_counter().get_value()
        };
        assert_eq!(n_lost(&vitals), 1.0);
        assert_eq!(guarded(&bench, &job, wishes, async { 7 }).await, Some(7));
        assert_eq!(n_lost(&vitals), 1.0);
    }
}
