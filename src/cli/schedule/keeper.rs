//! What a worker does about schedules: notes what comes due, takes firings, does what they say.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use rand::RngExt;
use sqlx::PgPool;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{interval, sleep};
use uuid::Uuid;

use super::super::enqueue::{Ask, Confirm, Summary, enqueue, understand};
use super::super::report::night::{Done, Wanted, tell};
use crate::config::{Config, Times};
use crate::database::within::within;
use crate::queue::LeaseLost;
use crate::queue::schedule::Action;
use crate::queue::schedule::firing::{Held, Taken, come_due, fail, leave_to_others, renew, take};
use crate::report::definition::Definition;
use crate::store::artifact::Artifacts;
use crate::worker::machine;

/// Does what schedules ask for, until it is dropped.
pub async fn keep(pool: PgPool, artifacts: Artifacts, config: Config) -> Infallible {
    let times = config.times;
    let holder = Uuid::now_v7();
    loop {
        if let Err(error) = look(&pool, &artifacts, holder, &config).await {
            tracing::warn!(error = format!("{error:#}"), "cannot look after the schedules; trying again");
        }
        // Jitter, so that many workers don't all ask at the same moment.
        sleep(times.beat.mul_f64(rand::rng().random_range(0.75..1.25))).await;
    }
}

async fn look(pool: &PgPool, artifacts: &Artifacts, holder: Uuid, config: &Config) -> anyhow::Result<()> {
    let (stale, host) = (config.times.stale, machine::host());
    within(stale, come_due(pool)).await?;
    while let Some(taken) = within(stale, take(pool, holder, &host, stale)).await? {
        perform(pool, artifacts, &taken, config).await?;
    }
    Ok(())
}

/// Does what a firing says and notes how it went.
async fn perform(pool: &PgPool, artifacts: &Artifacts, taken: &Taken, config: &Config) -> anyhow::Result<()> {
    let (schedule, held, times) = (&taken.name, taken.held, config.times);
    let outcome = match &taken.action {
        Action::Enqueue { file, base, text } => {
            if !Path::new(base).is_dir() {
                let why = format!("{} has no folder {base}", machine::host());
                tracing::info!(schedule, why, "leaving a firing to other workers");
                return within(times.stale, leave_to_others(pool, held, &why)).await;
            }
            let artifacts = artifacts.clone();
            let work = Work { held, file: file.clone(), base: base.into(), text: text.clone(), artifacts };
            let summary = held_while(pool, held, times, apart(pool.clone(), work)).await;
            summary.map(|it| format!("{}: {} new jobs", it.sweep, it.new.values().sum::<usize>()))
        }
        Action::Report { file, text } => {
            let told = report(pool, config, taken, file, text);
            held_while(pool, held, times, told).await.map(|it| format!("{}: {}", it.report, it.verdict))
        }
    };
    let error = match outcome {
        Ok(did) => {
            tracing::info!(schedule, did, "a schedule has fired");
            return Ok(());
        }
        Err(error) if error.is::<LeaseLost>() => {
            tracing::warn!(schedule, "another worker has taken the firing over; ours is dropped");
            return Ok(());
        }
        Err(error) => format!("{error:#}"),
    };
    let again = within(times.stale, fail(pool, held, &error)).await?;
    tracing::warn!(schedule, error, again, "a schedule could not do its work");
    Ok(())
}

/// Tells of the moment at which the firing came due, whenever that is done: a second try tells the same.
async fn report(pool: &PgPool, config: &Config, taken: &Taken, file: &str, text: &str) -> anyhow::Result<Done> {
    let definition = Definition::parse(text, file).map_err(|faults| anyhow::anyhow!("{faults}"))?;
    let told = tell(pool, definition, text.to_owned(), taken.due_at).await?;
    let rendered = told.render(pool, config, None).await?;
    told.keep(pool, config, &rendered, Wanted::Mail, Some(taken.held)).await
}

/// What a thread needs to enqueue.
struct Work {
    held: Held,
    file: String,
    base: PathBuf,
    text: String,
    artifacts: Artifacts,
}

/// Enqueues on a thread of its own: hashing files for minutes must not hold up what else the worker does.
async fn apart(pool: PgPool, work: Work) -> anyhow::Result<Summary> {
    let (sender, receiver) = oneshot::channel();
    let runtime = Handle::current();
    std::thread::Builder::new()
        .name("schedule".to_owned())
        .spawn(move || {
            let loaded = understand(work.text, &work.file, work.base).map_err(|faults| anyhow::anyhow!("{faults}"));
            // Workers elsewhere need the pictures too.
            let upload = work.artifacts.is_remote().then_some(&work.artifacts);
            let ask = Ask { confirm: Confirm::Assume, own: None, dry_run: false, upload, firing: Some(work.held) };
            let outcome = loaded.and_then(|it| runtime.block_on(enqueue(&pool, it, &ask)));
            // Nobody listens where the worker stops meanwhile.
            let _ = sender.send(outcome);
        })
        .context("start a thread")?;
    receiver.await.context("the thread that enqueues panicked")??.context("the sweep was refused")
}

/// Waits for `work`, holding the firing meanwhile.
async fn held_while<T>(
    pool: &PgPool,
    held: Held,
    times: Times,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let holding = async {
        let mut beat = interval(times.beat.max(Duration::from_millis(50)));
        loop {
            beat.tick().await;
            // The work's own transaction checks the lease: here nothing need be done about a lost one.
            if let Err(error) = within(times.stale, renew(pool, held, times.stale)).await {
                tracing::debug!(error = format!("{error:#}"), "cannot hold the firing longer");
            }
        }
    };
    tokio::select! {
        ended = work => ended,
        never = holding => never,
    }
}
