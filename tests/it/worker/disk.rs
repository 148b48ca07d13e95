//! An output disk that cannot be written: a clear word, and everything completes once it can.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::process::Signal;

use super::{LONG, quick};
use crate::support::database::Database;
use crate::support::wait_until;

/// A place that cannot be written: nobody may make folders there, root neither.
fn take_away(store: &Path) {
    let _ = fs::rename(store, store.with_extension("away"));
    symlink("/sys/jobctl", store).unwrap();
}

fn bring_back(store: &Path) {
    fs::remove_file(store).unwrap();
    let _ = fs::rename(store.with_extension("away"), store);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_written_holds_results_back_until_it_can() {
    let db = Database::new().await;
    let store = db.home.path().join("artifacts");
    let mut worker = db.spawn(["worker", "--slots", "2"]);
    wait_until("the worker is ready", LONG, async || db.number("select count(*) from worker").await == 1).await;
    take_away(&store);
    db.enqueue(&quick(&db, 6));
    wait_until("both slots hold a result", LONG, async || db.n_running().await == 2).await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert!(worker.is_running());
    assert_eq!(db.n_ended().await, 0);
    bring_back(&store);
    wait_until("all is done", LONG, async || db.number("select count(*) from job").await == 0).await;
    worker.signal(Signal::TERM);
    let said = worker.ends_with(0, LONG);
    assert!(said.contains("cannot settle the job; trying again") && said.contains("artifacts"), "{said}");
    db.check_complete(6, 2).await;
    assert_eq!(db.number("select count(*) from attempt where outcome <> 'done'").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_its_store_claims_nothing_until_the_store_is_there() {
    let db = Database::new().await;
    let store = db.home.path().join("artifacts");
    db.enqueue(&quick(&db, 2));
    // The first worker of all marks the store; a later one looks for the mark.
    for is_first in [true, false] {
        let n_attempts = db.number("select count(*) from attempt").await;
        take_away(&store);
        let mut worker = db.spawn(["worker", "--until-idle"]);
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        assert!(worker.is_running());
        assert_eq!(db.number("select count(*) from attempt").await, n_attempts);
        bring_back(&store);
        let said = worker.ends_with(0, LONG);
        assert!(said.contains("nothing is claimed until the store answers"), "{said}");
        db.check_complete(if is_first { 2 } else { 4 }, 2).await;
        if is_first {
            db.enqueue(&quick(&db, 4));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_with_another_store_is_refused_until_that_is_adopted() {
    let db = Database::new().await;
    db.jobctl(["worker", "--until-idle"], 0);
    let path = quick(&db, 2);
    db.enqueue(&path);
    let other = tempfile::tempdir().unwrap();
    let elsewhere = |arguments: &[&str]| {
        let mut command = db.command(arguments);
        command.env("JOBCTL_STORE", other.path().join("artifacts"));
        command.output().unwrap()
    };
    // An empty folder, such as one whose disk is not mounted.
    fs::create_dir(other.path().join("artifacts")).unwrap();
    let worker = elsewhere(&["worker", "--until-idle"]);
    let said = String::from_utf8_lossy(&worker.stderr).into_owned();
    assert_eq!(worker.status.code(), Some(1), "{said}");
    assert!(said.contains("is not the store of this database") && said.contains("adopt-store"), "{said}");
    assert_eq!(db.number("select count(*) from attempt").await, 0);
    let adopted = elsewhere(&["db", "adopt-store"]);
    assert!(adopted.status.success(), "{}", String::from_utf8_lossy(&adopted.stderr));
    assert!(elsewhere(&["worker", "--until-idle"]).status.success());
    db.check_complete(2, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_cannot_be_written_is_an_error_that_names_its_folder() {
    let db = Database::new().await;
    symlink("/sys/jobctl", db.home.path().join("reports")).unwrap();
    let path = quick(&db, 2);
    let printed = db.jobctl(["run", path.to_str().unwrap()], 1);
    assert!(printed.err.contains("error: ") && printed.err.contains("reports"), "{}", printed.err);
    fs::remove_file(db.home.path().join("reports")).unwrap();
    // The work was not lost.
    db.jobctl(["run", path.to_str().unwrap()], 0);
    db.check_complete(2, 2).await;
}
