//! An output disk that cannot be written: a clear word, and everything completes once it can.

use std::fs;
use std::os::unix::fs::symlink;

use super::{LONG, quick};
use crate::support::database::Database;
use crate::support::process::Running;
use crate::support::wait_until;

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_artifact_folder_holds_results_back_until_it_can_be_written() {
    let db = Database::new().await;
    let home = tempfile::tempdir().unwrap();
    // Nobody may make folders there, root neither.
    symlink("/sys/jobctl", home.path().join("artifacts")).unwrap();
    db.enqueue(&quick(&db, 6));
    let mut command = db.command(["worker", "--slots", "2", "--until-idle"]);
    command.env("JOBCTL_HOME", home.path());
    let mut worker = Running::start(command);
    wait_until("both slots hold a result", LONG, async || db.n_running().await == 2).await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert!(worker.is_running());
    assert_eq!(db.n_ended().await, 0);
    fs::remove_file(home.path().join("artifacts")).unwrap();
    let said = worker.ends_with(0, LONG);
    assert!(said.contains("cannot settle the job; trying again") && said.contains("artifacts"), "{said}");
    db.check_complete(6, 2).await;
    assert_eq!(db.number("select count(*) from attempt where outcome <> 'done'").await, 0);
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
