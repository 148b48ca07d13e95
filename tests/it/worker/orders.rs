//! Stop, cancel, pause: what a worker does when it is told to.

use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};

use super::rehearse::rehearsal;
use super::{LONG, quick, slow};
use crate::support::database::Database;
use crate::support::process::lives;
use crate::support::wait_until;

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_told_to_stop_gives_everything_back_uncharged() {
    let db = Database::new().await;
    db.enqueue(&slow(&db, 4));
    let mut worker = db.spawn(["worker", "--slots", "2"]);
    wait_until("two jobs run", LONG, async || db.n_running().await == 2).await;
    let slots = worker.slots();
    assert_eq!(slots.len(), 2);
    worker.signal(Signal::TERM);
    worker.ends_with(0, Duration::from_secs(10));
    assert!(!slots.iter().any(|it| lives(*it)), "a slot outlives its agent");
    assert_eq!(db.n_running().await, 0);
    assert_eq!(db.number("select count(*) from job where n_attempts > 0").await, 0);
    assert_eq!(db.number("select count(*) from attempt where outcome not in ('done', 'released')").await, 0);
    assert_eq!(db.number("select count(*) from worker where stopped_at is null").await, 0);
    db.check_laws().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_stops_at_once() {
    let db = Database::new().await;
    // It saves nothing, so a drain lets it go on.
    db.enqueue(&rehearsal(&db, "long", "n = 2\nseconds = 60\nsteps = 600"));
    let mut command = db.command(["worker", "--slots", "1"]);
    command.env("JOBCTL_GRACE_MS", "60000");
    let mut worker = crate::support::process::Running::start(command);
    wait_until("a job runs", LONG, async || db.n_running().await == 1).await;
    // What comes at once is one order: batch systems send it to a process and to its group. While it is stopped, so that it
    // finds both, however busy the machine is.
    for signal in [Signal::STOP, Signal::INT, Signal::TERM, Signal::CONT] {
        worker.signal(signal);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(worker.is_running());
    assert_eq!(db.n_running().await, 1);
    worker.signal(Signal::INT);
    worker.ends_with(0, Duration::from_secs(10));
    assert_eq!(db.n_running().await, 0);
    db.check_laws().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_sweep_ends_within_two_seconds() {
    let db = Database::new().await;
    db.enqueue(&slow(&db, 6));
    let mut worker = db.spawn(["worker", "--slots", "2"]);
    wait_until("two jobs run", LONG, async || db.n_running().await == 2).await;
    let start = Instant::now();
    db.jobctl(["cancel", "slow"], 0);
    wait_until("the sweep ends", LONG, async || db.number("select count(*) from job").await == 0).await;
    let took = start.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(db.number("select count(*) from attempt where outcome = 'cancelled'").await > 0);
    assert_eq!(db.text("select state from sweep_status").await, "cancelled");
    // The worker lives and takes what comes next.
    assert!(worker.is_running());
    db.jobctl(["retry", "slow"], 0);
    wait_until("it works again", LONG, async || db.n_running().await > 0).await;
    db.check_laws().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_sweep_waits_and_a_resumed_one_ends() {
    let db = Database::new().await;
    db.enqueue(&quick(&db, 60));
    let _worker = db.spawn(["worker", "--slots", "1"]);
    wait_until("five jobs done", LONG, async || db.n_ended().await >= 5).await;
    db.jobctl(["pause", "quick"], 0);
    wait_until("nothing runs", LONG, async || db.n_running().await == 0).await;
    let n_ended = db.n_ended().await;
    assert!(n_ended < 61, "the sweep was over before it was paused");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(db.n_ended().await, n_ended);
    assert_eq!(db.text("select state from sweep_status").await, "paused");
    db.jobctl(["resume", "quick"], 0);
    wait_until("all is done", LONG, async || db.n_ended().await == 61).await;
    db.check_complete(60, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_does_not_take_its_work_can_be_cancelled() {
    let db = Database::new().await;
    let worker = db.spawn(["worker", "--slots", "1", "--no-schedules"]);
    wait_until("its slot is there", LONG, async || worker.slots().len() == 1).await;
    let slot = worker.slots()[0];
    kill_process(slot, Signal::STOP).unwrap();
    // It claims nothing before the task is as long as it should be: far more than a pipe holds.
    worker.signal(Signal::STOP);
    db.enqueue(&rehearsal(&db, "long", "seconds = 60"));
    db.execute("update job set task = jsonb_set(task::jsonb, '{ledger}', to_jsonb(repeat('x', 1000000)), true)::text")
        .await;
    worker.signal(Signal::CONT);
    wait_until("it is given the job", LONG, async || db.n_running().await == 1).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let start = Instant::now();
    db.jobctl(["cancel", "long"], 0);
    wait_until("it is cancelled", LONG, async || db.number("select count(*) from job").await == 0).await;
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(db.text("select string_agg(outcome, ' ') from attempt").await, "cancelled");
    assert!(!lives(slot), "it is ended, though it was stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_does_not_wait_for_what_is_noted_on_the_way() {
    let db = Database::new().await;
    db.enqueue(&rehearsal(&db, "long", "seconds = 0\nfault = \"flood\""));
    let mut command = db.command(["worker", "--slots", "1", "--no-schedules"]);
    command.env("JOBCTL_STALE_MS", "20000");
    let worker = crate::support::process::Running::start(command);
    wait_until("a job runs", LONG, async || db.n_running().await == 1).await;
    let slot = worker.slots()[0];
    // What it prints cannot be written.
    let mut lock = db.pool.begin().await.unwrap();
    sqlx::query("lock table attempt_log in exclusive mode").execute(&mut *lock).await.unwrap();
    let waiting = "select count(*) from pg_stat_activity
        where datname = current_database() and application_name = 'jobctl' and wait_event_type = 'Lock'";
    wait_until("its agent waits", LONG, async || db.number(waiting).await >= 1).await;
    let start = Instant::now();
    db.jobctl(["cancel", "long"], 0);
    wait_until("its process ends", LONG, async || !lives(slot)).await;
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    lock.rollback().await.unwrap();
    wait_until("it is cancelled", LONG, async || db.number("select count(*) from job").await == 0).await;
    assert_eq!(db.text("select string_agg(outcome, ' ') from attempt").await, "cancelled");
}
