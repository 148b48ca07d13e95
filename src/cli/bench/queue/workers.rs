//! What workers cost that have nothing to do: beats, rescues and polls of simulated agents.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::Ground;
use crate::job::needs::Offer;
use crate::queue::claim::{Introduction, beat, claim, register};
use crate::queue::load;
use crate::queue::rescue::rescue;

const STALE: Duration = Duration::from_secs(45);

/// Lets `n` workers beat, look for orphans and ask for work as often as the server answers, and counts.
pub(super) async fn measure(ground: &Ground, n: u32, length: Duration) -> anyhow::Result<serde_json::Value> {
    let mut workers = Vec::new();
    for idx in 0..n {
        let id = Uuid::now_v7();
        let host = format!("host{idx}");
        let worker =
            Introduction { id, host: &host, program: "bench", machine: "bench", n_slots: 8, labels: &[], gpus: &[] };
        register(&ground.pool, &worker).await?;
        workers.push(id);
    }
    let n_clients = ground.pool.options().get_max_connections();
    let counts: Arc<[AtomicU64; 3]> = Arc::default();
    let before = load::meter(&ground.pool).await?;
    let start = Instant::now();
    let mut clients = JoinSet::new();
    for first in 0..n_clients as usize {
        let (pool, counts) = (ground.pool.clone(), counts.clone());
        let own: Vec<Uuid> = workers.iter().skip(first).step_by(n_clients as usize).copied().collect();
        clients.spawn(async move {
            while start.elapsed() < length && !own.is_empty() {
                for id in &own {
                    anyhow::ensure!(beat(&pool, *id).await?.is_some(), "a worker was given up");
                    counts[0].fetch_add(1, Ordering::Relaxed);
                    rescue(&pool, STALE, STALE).await?;
                    counts[1].fetch_add(1, Ordering::Relaxed);
                    claim(&pool, *id, "cpu:0", &Offer::default(), None).await?;
                    counts[2].fetch_add(1, Ordering::Relaxed);
                }
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended??;
    }
    let seconds = start.elapsed().as_secs_f64();
    let after = load::meter(&ground.pool).await?;
    let [beats, rescues, polls] = [0, 1, 2].map(|it: usize| counts[it].load(Ordering::Relaxed) as f64);
    Ok(json!({
        "workers": n,
        "seconds": seconds,
        "beats_per_s": beats / seconds,
        "rescues_per_s": rescues / seconds,
        "polls_per_s": polls / seconds,
        "wal_bytes_per_beat": (after.wal_bytes - before.wal_bytes) as f64 / beats,
    }))
}
