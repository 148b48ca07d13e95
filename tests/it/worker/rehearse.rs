//! Rehearsals: checkpoints, curves, and every way in which a task may go wrong, with real processes.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::LONG;
use crate::support::database::Database;
use crate::support::process::Running;
use crate::support::wait_until;

/// A sweep with one `[[rehearse]]` block.
pub(super) fn rehearsal(db: &Database, name: &str, keys: &str) -> PathBuf {
    let path = db.home.path().join(format!("{name}.toml"));
    fs::write(&path, format!("name = \"{name}\"\n\n[[rehearse]]\nname = \"{name}\"\n{keys}\n")).unwrap();
    path
}

/// A worker whose tasks have a minute to save, so that a test sees whether they use it.
fn patient_worker(db: &Database) -> Running {
    let mut command = db.command(["worker", "--slots", "1"]);
    command.env("JOBCTL_GRACE_MS", "60000");
    Running::start(command)
}

async fn attempts(db: &Database) -> Vec<(String, Option<String>, Option<i64>)> {
    let query = "select outcome, cause, resumed_after from attempt where outcome is not null order by lease";
    sqlx::query_as(query).fetch_all(&db.pool).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_rehearsals_makes_their_files_and_scores_once() {
    let db = Database::new().await;
    let path = rehearsal(&db, "dress", "n = 20\nseconds = 0.02\nsteps = 2\nbytes = 100000\nscores = 3");
    let printed = db.jobctl(["run", path.to_str().unwrap(), "--json"], 0);
    assert_eq!(printed.json_lines()[0]["new"], serde_json::json!({ "rehearse": 20 }));
    db.check_complete(20, 3).await;
    assert_eq!(db.number("select count(*) from artifact where bytes = 100000").await, 20);
    assert_eq!(db.number("select count(*) from job_output").await, 20);
    let report: Value = printed.json();
    assert!(PathBuf::from(report["report"].as_str().unwrap()).is_file());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_attempt_after_a_death_goes_on_from_the_newest_checkpoint() {
    let db = Database::new().await;
    let keys = "seconds = 0.5\nsteps = 10\ncheckpoint_every = 3\nfault = \"kill\"\nfault_step = 7\nfault_attempts = 1";
    db.enqueue(&rehearsal(&db, "phoenix", keys));
    db.spawn(["worker", "--slots", "1", "--until-idle"]).ends_with(0, LONG);
    db.check_laws().await;
    let words = |outcome: &str, cause: Option<&str>, after| (outcome.to_owned(), cause.map(str::to_owned), after);
    assert_eq!(attempts(&db).await, [words("retried", Some("signal"), None), words("done", None, Some(6))]);
    // One value a step, the first six of the first attempt, the rest of the second.
    let curve: Vec<(i64, i64)> = sqlx::query_as(
        "select step, dense_rank() over (order by lease) from curve_point where name = 'loss' order by step",
    )
    .fetch_all(&db.pool)
    .await
    .unwrap();
    assert_eq!(curve, (1..=10).map(|step| (step, if step <= 6 { 1 } else { 2 })).collect::<Vec<_>>());
    assert_eq!(db.number("select count(*) from checkpoint").await, 0, "a done job needs none");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_task_saves_first_and_a_retry_goes_on_from_there() {
    let db = Database::new().await;
    db.enqueue(&rehearsal(&db, "spare", "seconds = 60\nsteps = 600\ncheckpoint_every = 100000"));
    let mut worker = patient_worker(&db);
    wait_until("it has done some steps", LONG, async || db.number("select count(*) from curve").await > 0).await;
    let start = Instant::now();
    db.jobctl(["cancel", "spare"], 0);
    wait_until("it ends", LONG, async || db.number("select count(*) from job").await == 0).await;
    let took = start.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(attempts(&db).await, [("cancelled".to_owned(), Some("order".to_owned()), None)]);
    let saved = db.number("select max(step) from checkpoint").await;
    assert!(saved > 0);
    assert!(worker.is_running());

    db.jobctl(["retry", "spare"], 0);
    wait_until("it goes on", LONG, async || {
        db.number("select count(*) from attempt where resumed_after > 0").await == 1
    })
    .await;
    assert_eq!(db.number("select max(resumed_after) from attempt").await, saved);
    db.check_laws().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_and_a_preemption_save_and_charge_nothing() {
    let db = Database::new().await;
    db.enqueue(&rehearsal(&db, "moved", "seconds = 60\nsteps = 600\ncheckpoint_every = 100000"));
    let mut saved = 0;
    for signal in [Signal::TERM, Signal::USR1, Signal::INT] {
        let mut worker = patient_worker(&db);
        let at = format!("it is past step {saved}");
        wait_until(&at, LONG, async || db.number("select coalesce(max(step), 0) from curve").await > saved).await;
        worker.signal(signal);
        // Far sooner than the minute that it has.
        worker.ends_with(0, Duration::from_secs(5));
        let step = db.number("select max(step) from checkpoint").await;
        assert!(step > saved, "{signal:?}: {step} after {saved}");
        saved = step;
    }
    assert_eq!(db.number("select n_attempts::bigint from job").await, 0);
    assert_eq!(db.number("select count(*) from attempt where outcome = 'released' and cause = 'order'").await, 3);
    assert_eq!(db.number("select count(*) from checkpoint").await, 2, "the two newest are kept");
    db.check_laws().await;
}
