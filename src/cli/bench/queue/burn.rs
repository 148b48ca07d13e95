//! How many jobs a second are claimed, run and settled.

use std::time::Instant;

use serde_json::json;

use super::Ground;
use super::enqueue::plans;
use super::executors::{Executors, How};
use crate::config::Config;
use crate::database;
use crate::queue::load;
use crate::store::artifact::Artifacts;
use crate::worker::agent::{Options, Until, work};
use crate::worker::devices::SlotDevice;

/// Burns `n_jobs` jobs down, all of them enqueued before.
pub(super) async fn measure(
    ground: &Ground,
    n_executors: usize,
    how: How,
    n_jobs: u32,
    config: &Config,
) -> anyhow::Result<serde_json::Value> {
    ground.enqueue(&plans(ground.seeds(n_jobs.into()))).await?;
    load::vacuum(&ground.pool).await?;
    let before = load::meter(&ground.pool).await?;
    let start = Instant::now();
    if how == How::Slots {
        let pool = database::connect(ground.database.url(), ground.pool.options().get_max_connections()).await?;
        let slots = vec![SlotDevice::Cpu; n_executors];
        let options = Options {
            slots,
            labels: Vec::new(),
            times: config.times,
            until: Until::Idle,
            vitals: Default::default(),
            judge: None,
        };
        work(pool, Artifacts::open(&config.store)?, options).await?;
    } else {
        Executors::run(&ground.pool, n_executors, how, usize::try_from(n_jobs)?, |_| ()).await?;
    }
    let seconds = start.elapsed().as_secs_f64();
    let after = load::meter(&ground.pool).await?;
    Ok(json!({
        "executors": n_executors,
        "how": how.name(),
        "jobs": n_jobs,
        "seconds": seconds,
        "jobs_per_s": f64::from(n_jobs) / seconds,
        "wal_bytes_per_job": (after.wal_bytes - before.wal_bytes) as f64 / f64::from(n_jobs),
        "commits_per_job": (after.n_commits - before.n_commits) as f64 / f64::from(n_jobs),
    }))
}
