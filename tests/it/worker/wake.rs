//! Waking: a worker that hardly ever polls starts what is enqueued at once, also after it has lost the connection that listens.

use std::time::{Duration, Instant};

use super::LONG;
use super::rehearse::rehearsal;
use crate::support::database::Database;
use crate::support::process::Running;
use crate::support::wait_until;

/// Enqueues a sweep of this name; returns how long it then takes until its job has been claimed.
async fn time_to_start(db: &Database, name: &str, seed: u32) -> Duration {
    let n_claimed = async || db.number("select count(*) from attempt").await;
    let before = n_claimed().await;
    db.enqueue(&rehearsal(db, name, &format!("seconds = 0\nseed = {seed}")));
    let start = Instant::now();
    wait_until("it is claimed", LONG, async || n_claimed().await > before).await;
    let took = start.elapsed();
    wait_until("it ends", LONG, async || db.number("select count(*) from job").await == 0).await;
    took
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_listening_connection_is_lost_listens_again() {
    const LISTENING: &str = "select coalesce(max(pid), 0)::bigint from pg_stat_activity
        where datname = current_database() and query ilike 'listen%'";
    let db = Database::new().await;
    let mut command = db.command(["worker", "--slots", "1", "--no-schedules"]);
    command.env("JOBCTL_POLL_MS", "600000");
    let _worker = Running::start(command);
    wait_until("it listens", LONG, async || db.number(LISTENING).await > 0).await;
    // It has looked once since, and found nothing.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let took = time_to_start(&db, "first", 1).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    let listening = db.number(LISTENING).await;
    db.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and query ilike 'listen%'",
    )
    .await;
    wait_until("it listens again", LONG, async || ![0, listening].contains(&db.number(LISTENING).await)).await;
    let took = time_to_start(&db, "second", 2).await;
    assert!(took < Duration::from_secs(3), "{took:?}");
}
