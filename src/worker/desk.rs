//! A desk where the slots of one worker queue up: claims that are asked for while one is under way become one
//! statement, and ends one transaction. Who is alone waits for nobody.
//!
//! For jobs of milliseconds without results. A worker's slots do not use it: theirs take seconds, prefer what they have
//! loaded, and end with a transaction of their own; `jobctl bench queue` measures what it would bring.

use std::collections::HashMap;

use anyhow::anyhow;
use sqlx::PgPool;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::job::needs::Offer;
use crate::job::{JobId, Lease};
use crate::queue::batch::{claim_many, finish_many};
use crate::queue::claim::Claimed;
use crate::queue::{LeaseLost, settle};

/// The most that one statement is about: with more, all slots would ask at once and end at once, and Postgres would wait for
/// one of the two clerks at a time.
const MOST: usize = 128;

struct Claim {
    worker: Uuid,
    slot: String,
    answer: oneshot::Sender<anyhow::Result<Option<Claimed>>>,
}

struct End {
    job: JobId,
    lease: Lease,
    answer: oneshot::Sender<anyhow::Result<()>>,
}

/// See the module. It closes when it is dropped.
pub struct Desk {
    claims: mpsc::UnboundedSender<Claim>,
    ends: mpsc::UnboundedSender<End>,
    _clerks: JoinSet<()>,
}

impl Desk {
    /// A desk of slots that offer the same; it needs two connections of `pool`.
    pub fn open(pool: PgPool, offer: Offer) -> Self {
        let (claims, asked) = mpsc::unbounded_channel();
        let (ends, ended) = mpsc::unbounded_channel();
        let mut clerks = JoinSet::new();
        clerks.spawn(claim_all(pool.clone(), offer, asked));
        clerks.spawn(finish_all(pool, ended));
        Self { claims, ends, _clerks: clerks }
    }

    /// Takes the best ready job for a slot that has nothing loaded; none when nothing is ready.
    ///
    /// # Errors
    /// Postgres is out of reach.
    pub async fn claim(&self, worker: Uuid, slot: &str) -> anyhow::Result<Option<Claimed>> {
        let (answer, answered) = oneshot::channel();
        self.claims.send(Claim { worker, slot: slot.to_owned(), answer }).map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }

    /// Ends a job well whose result is nothing to be written.
    ///
    /// # Errors
    /// [`LeaseLost`], or Postgres is out of reach; nothing is written then.
    pub async fn finish(&self, job: JobId, lease: Lease) -> anyhow::Result<()> {
        let (answer, answered) = oneshot::channel();
        self.ends.send(End { job, lease, answer }).map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }
}

fn closed() -> anyhow::Error {
    anyhow!("the desk is closed")
}

async fn claim_all(pool: PgPool, offer: Offer, mut asked: mpsc::UnboundedReceiver<Claim>) {
    let mut waiting = Vec::new();
    while asked.recv_many(&mut waiting, MOST).await > 0 {
        gather(&mut asked, &mut waiting).await;
        let mut groups: HashMap<Uuid, Vec<Claim>> = HashMap::new();
        for claim in waiting.drain(..) {
            groups.entry(claim.worker).or_default().push(claim);
        }
        for (worker, mut claims) in groups {
            // Each round takes of what comes first: another lane's turn may come after it.
            while !claims.is_empty() {
                let slots: Vec<String> = claims.iter().map(|it| it.slot.clone()).collect();
                match claim_many(&pool, worker, &slots, &offer).await {
                    Ok(jobs) if jobs.is_empty() => {
                        claims.drain(..).for_each(|it| drop(it.answer.send(Ok(None))));
                    }
                    Ok(jobs) => claims = hand_out(&pool, claims, jobs).await,
                    Err(error) => {
                        claims.drain(..).for_each(|it| drop(it.answer.send(Err(anyhow!("{error:#}")))));
                    }
                }
            }
        }
    }
}

/// Lets those who are about to ask do so, and takes them too: who was answered in one batch asks again at the same time.
async fn gather<T>(asked: &mut mpsc::UnboundedReceiver<T>, waiting: &mut Vec<T>) {
    loop {
        let n_before = waiting.len();
        tokio::task::yield_now().await;
        while waiting.len() < MOST
            && let Ok(one) = asked.try_recv()
        {
            waiting.push(one);
        }
        if waiting.len() == n_before {
            return;
        }
    }
}

/// Gives jobs to those who asked, and returns those for whom there was none.
async fn hand_out(pool: &PgPool, claims: Vec<Claim>, jobs: Vec<(String, Claimed)>) -> Vec<Claim> {
    let mut jobs: HashMap<String, Claimed> = jobs.into_iter().collect();
    let mut left = Vec::new();
    for claim in claims {
        let Some(job) = jobs.remove(&claim.slot) else {
            left.push(claim);
            continue;
        };
        // Who asked has gone: a job is given back.
        if let Err(Ok(Some(job))) = claim.answer.send(Ok(Some(job))) {
            let given_back = async {
                let mut tx = pool.begin().await?;
                settle::release(&mut tx, job.id, job.lease).await?;
                anyhow::Ok(tx.commit().await?)
            };
            if let Err(error) = given_back.await {
                tracing::warn!(job = job.id.0, error = format!("{error:#}"), "cannot give a job back");
            }
        }
    }
    left
}

async fn finish_all(pool: PgPool, mut ended: mpsc::UnboundedReceiver<End>) {
    let mut waiting = Vec::new();
    while ended.recv_many(&mut waiting, MOST).await > 0 {
        gather(&mut ended, &mut waiting).await;
        let jobs: Vec<(JobId, Lease)> = waiting.iter().map(|it| (it.job, it.lease)).collect();
        let finish = async {
            let mut tx = pool.begin().await?;
            let finished = finish_many(&mut tx, &jobs).await?;
            tx.commit().await?;
            anyhow::Ok(finished)
        };
        let finished = finish.await;
        for end in waiting.drain(..) {
            let answer = match &finished {
                Ok(finished) if finished.contains(&end.lease) => Ok(()),
                Ok(_) => Err(LeaseLost.into()),
                Err(error) => Err(anyhow!("{error:#}")),
            };
            // Who asked may have gone.
            let _ = end.answer.send(answer);
        }
    }
}
