//! What must not hold a beat up: a worker that is only busy, or waits, is not dead.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jobctl::config::Times;
use jobctl::store::artifact::Artifacts;
use jobctl::worker::agent::{Options, Site, Until, work_at};
use jobctl::worker::devices::SlotDevice;
use jobctl::worker::gpus::Driver;

use super::LONG;
use super::rehearse::rehearsal;
use crate::support::database::Database;
use crate::support::process::Running;
use crate::support::wait_until;

/// After so long a silence a worker is given up.
const STALE: Duration = Duration::from_millis(1200);

/// A driver that knows its GPU and then never answers again. Counts how often it was asked.
#[derive(Default)]
struct Hanging(std::sync::atomic::AtomicUsize);

impl Driver for Hanging {
    fn model(&self, _: usize) -> String {
        "a GPU that hangs".to_owned()
    }

    fn memory_gib(&self, _: usize) -> u32 {
        80
    }

    fn used_mib(&self, _: usize) -> Option<i32> {
        loop {
            std::thread::park();
        }
    }

    fn processes_mib(&self, _: usize) -> Option<BTreeMap<i32, i32>> {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        None
    }
}

/// A driver whose GPU of 80 GiB is half full: the first process of the machine has 40.
struct HalfFull;

impl Driver for HalfFull {
    fn model(&self, _: usize) -> String {
        "a GPU that is shared".to_owned()
    }

    fn memory_gib(&self, _: usize) -> u32 {
        80
    }

    fn used_mib(&self, _: usize) -> Option<i32> {
        Some(41 << 10)
    }

    fn processes_mib(&self, _: usize) -> Option<BTreeMap<i32, i32>> {
        Some([(1, 40 << 10)].into())
    }
}

/// Looks for so long at the age of each living worker's last beat; returns the highest.
async fn oldest_beat(db: &Database, time: Duration) -> Duration {
    let start = Instant::now();
    let mut oldest = 0;
    while start.elapsed() < time {
        let age = "select (1000 * extract(epoch from max(clock_timestamp() - beat_at)))::bigint from worker";
        oldest = oldest.max(db.number(age).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Duration::from_millis(u64::try_from(oldest).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_that_hangs_holds_up_neither_beats_nor_a_cancel_nor_the_end() {
    let db = Database::new().await;
    db.enqueue(&rehearsal(&db, "long", "seconds = 600\nsteps = 600"));
    let driver = Arc::new(Hanging::default());
    let site = Site { program: PathBuf::from(env!("CARGO_BIN_EXE_jobctl")), driver: driver.clone() };
    let ms = Duration::from_millis;
    let options = Options {
        slots: vec![SlotDevice::Cpu, SlotDevice::Cuda(vec![0])],
        times: Times { beat: ms(200), stale: STALE, grace: ms(500), poll: ms(100) },
        until: Until::Idle,
        vitals: Arc::default(),
        labels: Vec::new(),
        judge: None,
    };
    let artifacts = Artifacts::new(db.home.path().join("artifacts"));
    let worker = tokio::spawn(work_at(site, db.pool.clone(), artifacts, options));
    wait_until("the job runs", LONG, async || db.n_running().await == 1).await;
    let oldest = oldest_beat(&db, 3 * STALE).await;
    assert!(oldest < STALE, "a worker that lives was silent for {oldest:?}");
    assert_eq!(driver.0.load(std::sync::atomic::Ordering::Relaxed), 1, "one thread hangs, not one for each beat");
    let start = Instant::now();
    db.jobctl(["cancel", "long"], 0);
    wait_until("it is cancelled", LONG, async || db.number("select count(*) from job").await == 0).await;
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(db.text("select string_agg(outcome, ' ') from attempt").await, "cancelled");
    tokio::time::timeout(Duration::from_secs(10), worker).await.expect("it ends").unwrap().unwrap();
    assert_eq!(db.number("select count(*) from worker").await, 1, "it was never given up");
    db.check_laws().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_other_programs_have_of_a_gpu_is_told() {
    let db = Database::new().await;
    let site = Site { program: PathBuf::from(env!("CARGO_BIN_EXE_jobctl")), driver: Arc::new(HalfFull) };
    let ms = Duration::from_millis;
    let options = Options {
        slots: vec![SlotDevice::Cuda(vec![0])],
        times: Times { beat: ms(200), stale: STALE, grace: ms(500), poll: ms(100) },
        until: Until::Told,
        vitals: Arc::default(),
        labels: Vec::new(),
        judge: None,
    };
    let artifacts = Artifacts::new(db.home.path().join("artifacts"));
    let worker = tokio::spawn(work_at(site, db.pool.clone(), artifacts, options));
    let seen = async || db.number("select coalesce(max(foreign_mib), 0)::bigint from worker_device").await;
    wait_until("it is noted", LONG, async || seen().await == 40 << 10).await;
    assert_eq!(db.number("select gpu_memory_gib::bigint from slot where n_gpus = 1").await, 40);
    worker.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_all_of_whose_other_connections_wait_for_a_lock_still_beats() {
    let db = Database::new().await;
    db.enqueue(&rehearsal(&db, "short", "n = 24\nseconds = 0.5"));
    let mut worker = db.spawn(["worker", "--slots", "8", "--until-idle", "--no-schedules"]);
    wait_until("all slots run", LONG, async || db.n_running().await == 8).await;
    // Nobody claims, writes or ends an attempt for a while.
    let mut lock = db.pool.begin().await.unwrap();
    sqlx::query("lock table attempt in exclusive mode").execute(&mut *lock).await.unwrap();
    let waiting = "select count(*) from pg_stat_activity
        where datname = current_database() and application_name = 'jobctl' and wait_event_type = 'Lock'";
    wait_until("many of its connections wait", LONG, async || db.number(waiting).await >= 8).await;
    let oldest = oldest_beat(&db, 4 * STALE).await;
    lock.rollback().await.unwrap();
    assert!(oldest < STALE, "a worker that lives was silent for {oldest:?}");
    worker.ends_with(0, LONG);
    assert_eq!(db.number("select count(*) from worker").await, 1, "it was never given up");
    assert_eq!(db.number("select count(*) from attempt where outcome <> 'done'").await, 0, "a lease was lost");
    db.check_laws().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_waits_for_postgres_without_end() {
    let db = Database::new().await;
    let mut command = db.command(["worker", "--slots", "1", "--until-idle"]);
    command.env("JOBCTL_MAIL_DIR", db.home.path().join("mails"));
    db.enqueue(&rehearsal(&db, "long", "seconds = 600\nsteps = 600"));
    let mut worker = Running::start(command);
    wait_until("the job runs", LONG, async || db.n_running().await == 1).await;
    let mut lock = db.pool.begin().await.unwrap();
    sqlx::query("lock table schedule, mail, job in access exclusive mode").execute(&mut *lock).await.unwrap();
    tokio::time::sleep(4 * STALE).await;
    lock.rollback().await.unwrap();
    db.jobctl(["cancel", "long"], 0);
    let said = worker.ends_with(0, LONG);
    for loop_ in ["look after the schedules", "look after the mails", "see whether anything is left"] {
        // Postgres gives up waiting for the lock, or the worker does.
        let why = ["has not answered", "lock timeout"];
        let gave_up = |line: &str| line.contains(&format!("cannot {loop_}")) && why.iter().any(|it| line.contains(it));
        assert!(said.lines().any(gave_up), "{loop_}: {said}");
    }
}
