//! The agent: registers, beats, rescues, keeps its slots at work, and drains when it is told to stop.

pub mod asking;
pub(super) mod memory;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use rand::RngExt;
use sqlx::PgPool;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use uuid::Uuid;

use super::devices::SlotDevice;
use super::gpus::{Driver, Gpus};
use super::keeper::{Queue, keep};
use super::machine;
use super::scratch::Scratch;
use super::steady::Steady;
use super::strays::Strays;
use super::turn::Bench;
use super::vitals::{Slot, Vitals};
use super::wish::{Stop, Wish};
use crate::config::{JudgeSettings, Times};
use crate::database::one_beside;
use crate::database::within::within;
use crate::job::Lease;
use crate::job::needs::Offer;
use crate::queue::claim::{self, Gpu, Introduction, Pulse, beat, register};
use crate::queue::look::any_unfinished;
use crate::queue::wake::{Bells, listen};
use crate::queue::{rescue::rescue, settle};
use crate::store::artifact::Artifacts;
use crate::store::mark::{self, WrongStore};

/// What a worker is told when it starts.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its slots: so many jobs it runs at a time.
    pub slots: Vec<SlotDevice>,
    /// How it keeps time.
    pub times: Times,
    /// When it stops by itself.
    pub until: Until,
    /// Where it counts what it does.
    pub vitals: Arc<Vitals>,
    /// What it is called by: jobs may ask for labels.
    pub labels: Vec<String>,
    /// Which machine its agent asks; none asks nobody.
    pub judge: Option<JudgeSettings>,
}

/// When a worker stops by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Until {
    /// When it is told to.
    Told,
    /// When no job is unfinished any more.
    Idle,
    /// When no job of this sweep is unfinished any more.
    SweepEnds(i32),
}

/// The machine as a worker finds it.
pub struct Site {
    /// What slots run: `PROGRAM slot …`.
    pub program: PathBuf,
    /// Who knows its GPUs.
    pub driver: Arc<dyn Driver>,
}

impl Site {
    /// This program, and the driver that is installed.
    ///
    /// # Errors
    /// This program's own file is not to be found.
    pub async fn here() -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("find this program's own file")?;
        let driver = Arc::new(tokio::task::spawn_blocking(Gpus::open).await?);
        Ok(Self { program, driver })
    }
}

/// Between two looks for a store that does not answer.
const STORE_PAUSE: Duration = Duration::from_secs(2);

pub(super) struct Agent {
    pub(super) bench: Arc<Bench>,
    pub(super) options: Options,
    pub(super) gpus: Vec<Gpu>,
    pub(super) program: PathBuf,
    driver: Arc<dyn Driver>,
    /// MiB of GPUs that other programs have, by device, as last seen.
    foreign_mib: Mutex<HashMap<String, i32>>,
    /// Changes when the worker was given up and registers again.
    pub(super) id: Mutex<Uuid>,
    pub(super) running: Mutex<HashMap<Lease, watch::Sender<Wish>>>,
    steady: Mutex<Steady>,
    pub(super) bells: Bells,
    pub(super) stop: watch::Sender<Stop>,
}

/// Works until it is told to stop: SIGTERM or SIGINT drains, a second one gives back what runs at once.
///
/// # Errors
/// Postgres is out of reach at the start.
pub async fn work(pool: PgPool, artifacts: Artifacts, options: Options) -> anyhow::Result<()> {
    work_at(Site::here().await?, pool, artifacts, options).await
}

/// Does so on a machine that may be another than it looks.
///
/// # Errors
/// Postgres is out of reach at the start.
pub async fn work_at(site: Site, pool: PgPool, artifacts: Artifacts, options: Options) -> anyhow::Result<()> {
    expect_store(&pool, &artifacts).await?;
    let Site { program, driver } = site;
    let gpus = SlotDevice::describe(&options.slots, &*driver);
    let id = introduce(&pool, &options, &gpus).await?;
    if let Err(error) = artifacts.prepare() {
        tracing::warn!(error = format!("{error:#}"), "results wait until the store can be written");
    }
    let scratch = Scratch::new(&artifacts.scratch());
    let bench = Arc::new(Bench {
        pool,
        artifacts,
        scratch,
        grace: options.times.grace,
        patience: options.times.stale,
        vitals: options.vitals.clone(),
    });
    let agent = Arc::new(Agent {
        bench,
        options,
        gpus,
        program,
        driver,
        foreign_mib: Mutex::default(),
        id: Mutex::new(id),
        running: Mutex::default(),
        steady: Mutex::default(),
        bells: Bells::default(),
        stop: watch::Sender::new(Stop::No),
    });
    let mut slots = tokio::task::JoinSet::new();
    let mut queues: Vec<(Offer, Arc<Queue>)> = Vec::new();
    for (slot_idx, device) in agent.options.slots.iter().enumerate() {
        let name = match device {
            SlotDevice::Cpu => format!("cpu:{slot_idx}"),
            SlotDevice::Cuda(_) => device.name(),
        };
        agent.options.vitals.slot(slot_idx, &name, Slot::Gone);
        let offer = device.offer(&agent.gpus, &agent.options.labels);
        let queue = match queues.iter().find(|it| it.0 == offer) {
            Some((_, queue)) => queue.clone(),
            None => {
                queues.push((offer.clone(), Arc::default()));
                queues[queues.len() - 1].1.clone()
            }
        };
        slots.spawn(keep(agent.clone(), slot_idx, name, offer, queue));
    }
    if let Some(settings) = agent.options.judge.clone() {
        slots.spawn(asking::serve(agent.clone(), settings));
    }
    let mut helpers = tokio::task::JoinSet::new();
    let (pulses, felt) = watch::channel(Pulse::default());
    helpers.spawn(heartbeat(agent.clone(), pulses));
    helpers.spawn(give_back_strays(agent.clone(), felt));
    helpers.spawn(memory::watch(agent.clone()));
    helpers.spawn(rescue_others(agent.clone()));
    let obedient = agent.clone();
    helpers.spawn(async move {
        if let Err(error) = obey_signals(obedient).await {
            tracing::error!(error = format!("{error:#}"), "cannot hear signals");
        }
    });
    helpers.spawn(watch_for_end(agent.clone()));
    let listener = agent.clone();
    helpers.spawn(async move { listen(listener.bench.pool.clone(), &listener.bells).await });
    let mut panicked = None;
    while let Some(ended) = slots.join_next().await {
        if let Err(error) = ended {
            // Better no worker than one that has fewer slots than it says: whoever starts workers sees that one has ended.
            tracing::error!(error = %error, "a slot's keeper panicked; this worker stops");
            agent.set_stop(Stop::GiveBack);
            panicked = Some(error);
        }
    }
    helpers.shutdown().await;
    let id = *lock(&agent.id);
    timeout(Duration::from_secs(5), settle::retire(&agent.bench.pool, id))
        .await
        .context("Postgres does not answer")??;
    panicked.map_or(Ok(()), |error| Err(error).context("a slot's keeper panicked"))
}

/// Waits until the store answers, and makes sure that it is the one of the other workers.
async fn expect_store(pool: &PgPool, artifacts: &Artifacts) -> anyhow::Result<()> {
    loop {
        match mark::expect(pool, artifacts).await {
            Ok(()) => return Ok(()),
            Err(error) if error.is::<WrongStore>() => return Err(error),
            Err(error) => tracing::warn!(error = format!("{error:#}"), "nothing is claimed until the store answers"),
        }
        tokio::time::sleep(STORE_PAUSE).await;
    }
}

async fn introduce(pool: &PgPool, options: &Options, gpus: &[Gpu]) -> anyhow::Result<Uuid> {
    let id = Uuid::now_v7();
    let n_slots = options.slots.len();
    let asks = options.judge.iter().flat_map(asking::labels);
    let labels: Vec<String> = options.labels.iter().cloned().chain(asks).collect();
    let labels = labels.as_slice();
    let (host, program, machine) = (machine::host(), machine::program(), machine::describe());
    register(pool, &Introduction { id, host: &host, program: &program, machine: &machine, n_slots, labels, gpus })
        .await?;
    tracing::info!(worker = %id, host, n_slots, "the worker is ready");
    Ok(id)
}

impl Agent {
    /// Notes that an attempt runs, and returns where it hears what is wanted of it.
    pub(super) fn begin(&self, job: &claim::Claimed) -> watch::Receiver<Wish> {
        let mut running = lock(&self.running);
        // Under the lock: whoever stops the worker meanwhile finds the attempt.
        let (sender, wishes) = watch::channel(Wish { stop: *self.stop.borrow(), ..Wish::default() });
        running.insert(job.lease, sender);
        wishes
    }

    /// Wants something more of every attempt that `which` picks.
    fn want(&self, which: impl Fn(Lease) -> bool, add: impl Fn(&mut Wish)) {
        for (_, wishes) in lock(&self.running).iter().filter(|it| which(*it.0)) {
            wishes.send_if_modified(|it| {
                let before = *it;
                add(it);
                *it != before
            });
        }
    }

    fn set_stop(&self, stop: Stop) {
        self.options.vitals.drains();
        self.stop.send_if_modified(|it| {
            let changes = *it < stop;
            *it = stop.max(*it);
            changes
        });
        self.want(|_| true, |it| it.stop = it.stop.max(stop));
    }
}

/// Says that the worker lives, and hears of cancelled and lost jobs. Between two beats it waits for nothing else: whatever
/// holds that up must not make a worker look dead.
async fn heartbeat(agent: Arc<Agent>, pulses: watch::Sender<Pulse>) {
    let times = agent.options.times;
    // Its own: what waits for a lock may hold all others.
    let mut pool = one_beside(&agent.bench.pool);
    let mut bell = agent.bells.end.subscribe();
    loop {
        bell.mark_unchanged();
        let id = *lock(&agent.id);
        // What is claimed after this look is not in the answer, and must not count as lost.
        let known: Vec<Lease> = lock(&agent.running).keys().copied().collect();
        let answer = timeout(times.stale / 3, beat(&pool, id)).await;
        match answer {
            Ok(Ok(Some(pulse))) => {
                agent.options.vitals.beaten(true);
                lock(&agent.steady).beat(Instant::now(), times.stale);
                agent.want(|lease| pulse.cancelled.contains(&lease), |it| it.cancel = true);
                agent.want(|lease| known.contains(&lease) && !pulse.holds(lease), |it| it.abandon = true);
                pulses.send_replace(pulse);
            }
            Ok(Ok(None)) => {
                tracing::warn!(worker = %id, "this worker was given up for dead; it drops what it runs and starts anew");
                agent.want(|lease| known.contains(&lease), |it| it.abandon = true);
                match within(times.stale, introduce(&pool, &agent.options, &agent.gpus)).await {
                    Ok(id) => *lock(&agent.id) = id,
                    Err(error) => tracing::warn!(error = format!("{error:#}"), "cannot register again yet"),
                }
            }
            Ok(Err(error)) => {
                agent.options.vitals.beaten(false);
                tracing::warn!(error = format!("{error:#}"), "cannot beat; trying again");
            }
            Err(_) => {
                agent.options.vitals.beaten(false);
                tracing::warn!("Postgres does not answer a beat; trying again");
                // A connection that the network has forgotten must not cost the time in which another would do.
                pool = one_beside(&agent.bench.pool);
            }
        }
        // A cancellation is told by the bell too, so that it need not wait for the next beat.
        tokio::select! {
            () = sleep(times.beat.mul_f64(rand::rng().random_range(0.9..1.0))) => {}
            _ = bell.changed() => {}
        }
    }
}

/// Batch systems and `timeout` send one signal to a process and to its group: what comes this soon is the same order.
const ECHO: Duration = Duration::from_millis(250);

/// SIGTERM and SIGINT drain, for at most the grace time, and the second of them stops now. SIGUSR1 gives back what runs
/// at once, but for the time that saving takes: a machine is wanted back.
async fn obey_signals(agent: Arc<Agent>) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut preempt = signal(SignalKind::user_defined1())?;
    // When the drain is over, while there is one.
    let mut drained_at = None;
    let mut echoes_until = Instant::now();
    loop {
        let drained = async {
            match drained_at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let next = match *agent.stop.borrow() {
            Stop::No => Stop::Drain,
            _ => Stop::Now,
        };
        let stop = tokio::select! {
            _ = terminate.recv() => next,
            _ = interrupt.recv() => next,
            _ = preempt.recv() => Stop::GiveBack,
            () = drained => Stop::GiveBack,
        };
        if stop == Stop::Now && Instant::now() < echoes_until {
            continue;
        }
        echoes_until = Instant::now() + ECHO;
        drained_at = (stop == Stop::Drain).then(|| Instant::now() + agent.options.times.grace);
        match stop {
            Stop::No | Stop::Drain => {
                tracing::info!("stopping: finishing what runs; a second signal gives it back at once");
            }
            Stop::GiveBack => tracing::info!("stopping now: giving back what runs"),
            Stop::Now => tracing::info!("stopping at once: what runs is given back as it is"),
        }
        agent.set_stop(stop);
    }
}

/// Drains the worker when what it works for has ended.
async fn watch_for_end(agent: Arc<Agent>) {
    let (pool, stale) = (&agent.bench.pool, agent.options.times.stale);
    loop {
        let unfinished = match agent.options.until {
            Until::Told => std::future::pending().await,
            Until::Idle => within(stale, any_unfinished(pool, None)).await,
            Until::SweepEnds(sweep) => within(stale, any_unfinished(pool, Some(sweep))).await,
        };
        match unfinished {
            Ok(true) => {}
            Ok(false) => {
                agent.set_stop(Stop::Drain);
                return;
            }
            Err(error) => tracing::warn!(error = format!("{error:#}"), "cannot see whether anything is left"),
        }
        sleep(Duration::from_millis(300)).await;
    }
}

/// Rescues the jobs of dead workers.
async fn rescue_others(agent: Arc<Agent>) {
    let times = agent.options.times;
    loop {
        let pause = times.beat.mul_f64(rand::rng().random_range(0.75..1.25));
        sleep(pause).await;
        if !lock(&agent.steady).lasts(Instant::now(), times.stale) {
            continue;
        }
        match within(times.stale, rescue(&agent.bench.pool, times.stale, times.grace)).await {
            Ok(0) => {}
            Ok(n_rescued) => {
                agent.options.vitals.rescued(n_rescued);
                tracing::info!(n_rescued, "rescued jobs of dead workers");
            }
            Err(error) => tracing::warn!(error = format!("{error:#}"), "cannot look for orphaned jobs"),
        }
    }
}

/// Gives back jobs that Postgres has given this worker without the answer ever coming here: nobody would run them.
async fn give_back_strays(agent: Arc<Agent>, mut pulses: watch::Receiver<Pulse>) {
    let times = agent.options.times;
    let mut strays = Strays::default();
    while pulses.changed().await.is_ok() {
        let held = pulses.borrow_and_update().held.clone();
        let running: HashSet<Lease> = lock(&agent.running).keys().copied().collect();
        // No claim waits for its answer for longer than that.
        for (job, lease) in strays.among(&held, &running, Instant::now(), times.stale + times.beat) {
            let given_back = within(times.stale, async {
                let mut tx = agent.bench.pool.begin().await?;
                settle::release(&mut tx, job, lease).await?;
                Ok(tx.commit().await?)
            });
            match given_back.await {
                Ok(()) => {
                    tracing::warn!(job = job.0, lease = lease.0, "a claim's answer was lost; the job is given back");
                }
                Err(error) => tracing::warn!(job = job.0, error = format!("{error:#}"), "cannot give a job back yet"),
            }
        }
    }
}

/// A keeper that panicked must not take the others' view of what runs with it.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
