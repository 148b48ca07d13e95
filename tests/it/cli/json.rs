//! What programs read: `--json`.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use crate::support::database::Database;
use crate::support::golden;
use crate::support::pictures::{pictures, sweep};

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap_or_else(|| panic!("{value}")).keys().map(String::as_str).collect()
}

fn has_keys(value: &Value, wanted: &[&str]) {
    let keys = keys(value);
    for key in wanted {
        assert!(keys.contains(key), "no `{key}` in {value}");
    }
}

/// A finished sweep of three pictures, one of them bad.
async fn finished(db: &Database) -> String {
    let folder = db.home.path().join("photos");
    pictures(&folder, 2);
    fs::copy(golden("images/truncated.jpg"), folder.join("bad.jpg")).unwrap();
    let path = sweep(&folder, "small", "", &["glcm_score", "compression_ratio"]);
    db.jobctl(["run", path.to_str().unwrap()], 1);
    path.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn enqueue_ends_with_its_summary() {
    let db = Database::new().await;
    let path = finished(&db).await;
    let said = db.jobctl(["enqueue", &path, "--json"], 0).json();
    has_keys(&said, &["sweep", "new", "done", "gpu_hours"]);
    assert!(said["sweep"].as_str().unwrap().starts_with("small-"));
    assert_eq!((&said["new"], &said["done"]), (&json!({}), &json!({ "evaluate": 3, "pool": 1 })));
    assert_eq!(said["gpu_hours"], 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn run_ends_with_the_report() {
    let db = Database::new().await;
    let path = finished(&db).await;
    let said = db.jobctl(["run", &path, "--json"], 1).json();
    assert_eq!(said["jobs"], json!({ "done": 3, "failed": 1 }));
    assert!(fs::exists(said["report"].as_str().unwrap()).unwrap());
    let said = db.jobctl(["report", "small", "--json"], 0).json();
    let report: Value = serde_json::from_slice(&fs::read(said["json"].as_str().unwrap()).unwrap()).unwrap();
    assert!(report.is_object());
}

#[tokio::test(flavor = "multi_thread")]
async fn status_jobs_show_and_logs_have_their_forms() {
    let db = Database::new().await;
    finished(&db).await;
    let status = db.jobctl(["status", "--json"], 0).json();
    assert_eq!(status["sweeps"].as_array().unwrap().len(), 1);
    has_keys(&status["sweeps"][0], &["sweep", "state", "enqueued_at", "jobs"]);
    assert_eq!((&status["sweeps"][0]["state"], &status["workers"]), (&json!("ended"), &json!([])));
    assert_eq!(status["sweeps"][0]["jobs"], json!({ "done": 3, "failed": 1 }));

    let jobs = db.jobctl(["jobs", "--json"], 0).json_lines();
    assert_eq!(jobs.len(), 4);
    has_keys(&jobs[0], &["job", "kind", "state", "source", "sample", "n_attempts", "error", "waits_for"]);
    let failed = db.jobctl(["jobs", "--json", "--state", "failed", "--sweep", "small"], 0).json_lines();
    let [failed] = failed.as_slice() else { panic!("{failed:?}") };
    assert_eq!((&failed["sample"], &failed["source"]), (&json!("bad"), &json!("photos")));
    assert!(failed["error"].as_str().unwrap().contains("truncated"));
    assert_eq!(db.jobctl(["jobs", "--json", "--kind", "pool"], 0).json_lines().len(), 1);

    let number = failed["job"].to_string();
    let shown = db.jobctl(["show", &number, "--json"], 0).json();
    has_keys(&shown, &["job", "task", "sweeps", "parents", "children", "progress", "attempts"]);
    assert_eq!(shown["task"]["kind"], "evaluate");
    assert_eq!(shown["children"].as_array().unwrap().len(), 1);
    has_keys(&shown["attempts"][0], &["lease", "number", "host", "slot", "started_at", "seconds", "outcome", "error"]);
    assert_eq!(shown["attempts"][0]["outcome"], "failed");

    let log = db.jobctl(["logs", &number, "--json"], 0).json_lines();
    assert_eq!(log.len(), 1);
    has_keys(&log[0], &["lease", "seq", "at", "line"]);
    let text = db.jobctl(["logs", "-f", &number], 0).out;
    assert_eq!(text.trim_end(), log[0]["line"].as_str().unwrap());
    assert!(text.contains("truncated"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_without_json_is_for_people() {
    let db = Database::new().await;
    finished(&db).await;
    let status = db.jobctl(["status", "small"], 0).out;
    assert!(status.contains("SWEEP") && status.contains("ended") && status.contains("no worker is alive"), "{status}");
    let jobs = db.jobctl(["jobs"], 0).out;
    assert!(jobs.contains("truncated") && jobs.contains("evaluate") && jobs.contains("p000"), "{jobs}");
    let number = db.text("select id::text from job_history where state = 'failed'").await;
    let shown = db.jobctl(["show", &number], 0).out;
    assert!(shown.contains("state     failed") && shown.contains("sample    bad"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_and_retry_say_how_many() {
    let db = Database::new().await;
    let folder = db.home.path().join("photos");
    pictures(&folder, 3);
    let path = sweep(&folder, "small", "", &["glcm_score"]);
    db.jobctl(["enqueue", path.to_str().unwrap()], 0);
    let n_jobs = db.number("select count(*) from job").await;
    assert_eq!(db.jobctl(["cancel", "small", "--json"], 0).json(), json!({ "ended": n_jobs, "asked": 0 }));
    assert!(db.jobctl(["cancel", "small"], 0).out.contains("nothing was unfinished"));
    assert_eq!(db.jobctl(["retry", "small", "--json"], 0).json(), json!({ "revived": n_jobs }));
    db.jobctl(["worker", "--until-idle"], 0);
    assert_eq!(db.states().await, [("done".to_owned(), n_jobs)].into());
}
