//! The part of an agent that asks machines: it claims such jobs, several at a time, and asks itself, for slots hold no key.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::Instrument;

use super::{Agent, Stop, lock};
use crate::config::JudgeSettings;
use crate::database::within::within;
use crate::job::needs::{ASKS, Offer, asks_at};
use crate::judge::client::Client;
use crate::queue::claim::claim;
use crate::worker::ask;
use crate::worker::keeper::idle;
use crate::worker::turn::guarded;

/// What claims of it are told apart by.
const SLOT: &str = "ask";

/// The labels of a worker that asks there, beside its own.
pub(super) fn labels(settings: &JudgeSettings) -> [String; 2] {
    [ASKS.to_owned(), asks_at(&settings.url)]
}

/// What an agent that asks there has to offer.
pub fn offer(settings: &JudgeSettings, own: &[String]) -> Offer {
    Offer { labels: own.iter().cloned().chain(labels(settings)).collect(), ..Offer::default() }
}

/// Claims and asks until the worker stops.
pub(super) async fn serve(agent: Arc<Agent>, settings: JudgeSettings) {
    let (offer, at_once) = (offer(&settings, &agent.options.labels), settings.at_once);
    if settings.tells_its_key() {
        tracing::warn!(
            url = settings.url,
            "the judge's key goes over the network unencrypted: give it an https:// address"
        );
    }
    let client = match Client::new(settings) {
        Ok(client) => Arc::new(client),
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "this worker asks no machine");
            return;
        }
    };
    let places = Arc::new(Semaphore::new(at_once));
    let children = Arc::new(ask::Children::new(agent.program.clone()));
    let mut turns = JoinSet::new();
    let mut stop = agent.stop.subscribe();
    let mut bell = agent.bells.ready.subscribe();
    while *stop.borrow() == Stop::No {
        let place = tokio::select! {
            place = places.clone().acquire_owned() => place.expect("nobody closes the places"),
            _ = stop.changed() => continue,
        };
        bell.mark_unchanged();
        let worker = *lock(&agent.id);
        let claimed = within(agent.options.times.stale, claim(&agent.bench.pool, worker, SLOT, &offer, None)).await;
        match claimed {
            Ok(Some(job)) => {
                let orders = agent.begin(&job);
                agent.options.vitals.claimed(job.task.kind(), job.waited);
                let span = tracing::info_span!("attempt", %worker, slot = SLOT, job = job.id.0, lease = job.lease.0, attempt = job.number);
                let job = Arc::new(job);
                let turn = {
                    let (bench, client, children) = (agent.bench.clone(), client.clone(), children.clone());
                    let (job, orders) = (job.clone(), orders.clone());
                    async move { ask::take(&bench, &client, &children, &job, orders).await }
                };
                let agent = agent.clone();
                let turn = async move {
                    guarded(&agent.bench, &job, orders, turn).await;
                    lock(&agent.running).remove(&job.lease);
                    drop(place);
                };
                turns.spawn(turn.instrument(span));
            }
            Ok(None) => {
                drop(place);
                // What nobody needs holds no memory.
                if places.available_permits() == at_once {
                    children.end().await;
                }
                idle(&mut bell, &mut stop, agent.options.times.poll).await;
            }
            Err(error) => {
                drop(place);
                tracing::warn!(error = format!("{error:#}"), "cannot claim what asks machines; trying again");
                idle(&mut bell, &mut stop, Duration::from_secs(1)).await;
            }
        }
        while let Some(ended) = turns.try_join_next() {
            report(ended);
        }
    }
    while let Some(ended) = turns.join_next().await {
        report(ended);
    }
    children.end().await;
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(error = %error, "what asked a machine panicked");
    }
}
