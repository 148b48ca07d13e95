//! A slot's keeper, one for each: claims a job, has it run, settles it, again.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::Instrument;

use super::agent::memory::left;
use super::agent::{Agent, lock};
use super::child::Child;
use super::machine;
use super::turn;
use super::vitals::Slot;
use super::wish::Stop;
use crate::database::within::within;
use crate::job::needs::Offer;
use crate::queue::claim::claim;

/// Where the idle slots of an agent that offer the same wait: the first of them asks for jobs, so that an agent with
/// nothing to do asks once a poll, however many slots it has.
pub(super) type Queue = tokio::sync::Mutex<()>;

/// One slot's life.
pub(super) async fn keep(agent: Arc<Agent>, slot_idx: usize, slot: String, offer: Offer, queue: Arc<Queue>) {
    let vitals = agent.options.vitals.clone();
    let n_threads = (machine::n_cores() / agent.options.slots.len()).max(1);
    let device_name = agent.options.slots[slot_idx].name();
    let mut stop = agent.stop.subscribe();
    let mut bell = agent.bells.ready.subscribe();
    let mut child = None;
    let mut loaded = None;
    while *stop.borrow() == Stop::No {
        let ready = match child.take() {
            Some(child) => child,
            None => match Child::start(&agent.program, &device_name, n_threads) {
                Ok(started) => {
                    loaded = None;
                    started
                }
                Err(error) => {
                    tracing::error!(slot, error = format!("{error:#}"), "cannot start a slot; trying again");
                    idle(&mut bell, &mut stop, Duration::from_secs(2)).await;
                    continue;
                }
            },
        };
        vitals.slot(slot_idx, &slot, Slot::Idle);
        let first = tokio::select! {
            first = queue.lock() => first,
            _ = stop.changed() => {
                child = Some(ready);
                continue;
            }
        };
        bell.mark_unchanged();
        let worker = *lock(&agent.id);
        let (asked, offer) = (Instant::now(), left(&agent, &device_name, &offer));
        let claimed = within(agent.options.times.stale, claim(&agent.bench.pool, worker, &slot, &offer, loaded)).await;
        vitals.asked(asked.elapsed());
        child = match claimed {
            Ok(Some(job)) => {
                drop(first);
                loaded = job.affinity.or(loaded);
                let orders = agent.begin(&job);
                tracing::debug!(slot, job = job.id.0, lease = job.lease.0, kind = job.task.kind(), "begins");
                vitals.claimed(job.task.kind(), job.waited);
                vitals.slot(slot_idx, &slot, Slot::Busy);
                let span = tracing::info_span!("attempt", %worker, slot, job = job.id.0, lease = job.lease.0, attempt = job.number);
                let job = Arc::new(job);
                let turn = {
                    let (bench, job, orders) = (agent.bench.clone(), job.clone(), orders.clone());
                    async move { turn::take(&bench, ready, &job, orders).await }
                };
                let survivor = turn::guarded(&agent.bench, &job, orders, turn).instrument(span).await.flatten();
                lock(&agent.running).remove(&job.lease);
                vitals.slot(slot_idx, &slot, if survivor.is_some() { Slot::Idle } else { Slot::Gone });
                survivor
            }
            Ok(None) => {
                idle(&mut bell, &mut stop, agent.options.times.poll).await;
                Some(ready)
            }
            Err(error) => {
                tracing::warn!(slot, error = format!("{error:#}"), "cannot claim; trying again");
                idle(&mut bell, &mut stop, Duration::from_secs(1)).await;
                Some(ready)
            }
        };
    }
    if let Some(child) = child {
        child.end().await;
    }
    vitals.slot(slot_idx, &slot, Slot::Gone);
}

/// Waits for a wake-up, the end of about `limit`, or the order to stop.
pub(super) async fn idle(bell: &mut watch::Receiver<()>, stop: &mut watch::Receiver<Stop>, limit: Duration) {
    // Jitter, so that many workers don't all ask at the same moment.
    let limit = limit.mul_f64(rand::rng().random_range(0.75..1.25));
    tokio::select! {
        _ = bell.changed() => {}
        () = sleep(limit) => {}
        _ = stop.changed() => {}
    }
}
