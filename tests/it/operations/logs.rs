//! What the program logs: as text or JSON, filtered, with nothing in it that a terminal obeys.

use std::fs;

use crate::support::database::Database;
use crate::support::golden;
use crate::support::pictures::{pictures, sweep};
use crate::support::process::Printed;

/// A sweep of two pictures and one that cannot be read, whose name holds a terminal's commands.
fn spoilt(db: &Database) -> String {
    let folder = db.home.path().join("photos");
    pictures(&folder, 2);
    fs::copy(golden("images/truncated.jpg"), folder.join("bad\u{1b}[2J.jpg")).unwrap();
    sweep(&folder, "spoilt", "", &["glcm_score"]).to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn json_lines_name_worker_slot_job_lease_and_attempt() {
    let db = Database::new().await;
    db.jobctl(["enqueue", &spoilt(&db)], 0);
    let mut command = db.command(["worker", "--slots", "1", "--until-idle", "--log-format", "json"]);
    let said = Printed::of(command.env("JOBCTL_LOG", "debug").output().unwrap(), 0);
    let lines: Vec<serde_json::Value> =
        said.err.lines().map(|it| serde_json::from_str(it).unwrap_or_else(|error| panic!("{error}: {it}"))).collect();
    let failed = lines.iter().find(|it| it["message"] == "the job failed").unwrap_or_else(|| panic!("{}", said.err));
    assert_eq!(failed["level"], "WARN");
    let span = failed["spans"].as_array().unwrap().iter().find(|it| it["name"] == "attempt").unwrap();
    assert_eq!(span["job"], db.number("select id from job_history where state = 'failed'").await);
    assert_eq!(span["lease"], db.number("select lease from attempt where outcome = 'failed'").await);
    assert_eq!(span["attempt"], 1);
    assert_eq!(span["worker"], db.text("select id::text from worker").await);
    assert_eq!(span["slot"], "cpu:0");
    assert!(lines.iter().all(|it| it["timestamp"].is_string() && it["target"].is_string()));
    assert!(!said.err.contains("postgres://"), "an address with its password is in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn text_lines_hold_no_control_characters() {
    let db = Database::new().await;
    db.jobctl(["enqueue", &spoilt(&db)], 0);
    let mut command = db.command(["worker", "--slots", "1", "--until-idle"]);
    let said = Printed::of(command.env("RUST_LOG", "debug").output().unwrap(), 0);
    assert!(said.err.contains("the job failed") && said.err.contains("DEBUG"), "{}", said.err);
    let strange: Vec<char> = said.err.chars().filter(|it| it.is_control() && *it != '\n').collect();
    assert!(strange.is_empty(), "{strange:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wishes_that_make_no_sense_are_wrong_use() {
    let db = Database::new().await;
    for (name, value, said) in [
        ("JOBCTL_LOG", "jobctl=loud", "JOBCTL_LOG is `jobctl=loud`"),
        ("RUST_LOG", "a=b=c", "RUST_LOG is `a=b=c`"),
        ("JOBCTL_LOG_FORMAT", "xml", "it is `text` or `json`"),
    ] {
        let output = db.command(["status"]).env(name, value).output().unwrap();
        let err = Printed::of(output, 2).err;
        assert!(err.contains(said), "{err}");
    }
    // The narrower variable goes before the common one, and the flag before the variable.
    let mut command = db.command(["db", "migrate", "--log-format", "text"]);
    command.env("JOBCTL_LOG", "error").env("RUST_LOG", "a=b=c").env("JOBCTL_LOG_FORMAT", "xml");
    Printed::of(command.output().unwrap(), 0);
}
