//! Equal work is one job, whoever asks for it and however often.

use std::collections::BTreeMap;
use std::fs;

use crate::support::database::Database;
use crate::support::graph::{How, graph};
use crate::support::pictures::{LADDER, pictures, sweep};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_two_sweeps_is_done_once() {
    let db = Database::new().await;
    let worker = db.worker().await;
    let first = db.submit(&graph("first", &["a", "b"], &[])).await.unwrap();
    db.work_on(worker, "a", How::Finish).await;
    let second = db.submit(&graph("second", &["a", "b", "c"], &[])).await.unwrap();
    assert_eq!(first.new, BTreeMap::from([("evaluate".to_owned(), 2)]));
    assert_eq!(second.new, BTreeMap::from([("evaluate".to_owned(), 1)]));
    assert_eq!(second.is_new, [false, false, true]);
    db.work_on(worker, "b", How::Finish).await;
    db.work_on(worker, "c", How::Finish).await;
    assert!(db.claim(worker).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_higher_priority_of_two_sweeps_holds() {
    let db = Database::new().await;
    let worker = db.worker().await;
    db.submit(&graph("first", &["a", "b"], &[])).await;
    let mut urgent = graph("second", &["b"], &[]);
    urgent.priority = 7;
    db.submit(&urgent).await;
    let mut idle = graph("third", &["b", "c"], &[]);
    idle.priority = -7;
    db.submit(&idle).await;
    for label in ["b", "a", "c"] {
        db.work_on(worker, label, How::Finish).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn overlapping_sweeps_enqueued_at_once_make_each_job_once() {
    let db = Database::new().await;
    let folder = db.home.path().join("photos");
    pictures(&folder, 24);
    let sweeps: Vec<_> = (0..6)
        .map(|it| sweep(&folder, &format!("s{it}"), if it % 2 == 0 { LADDER } else { "" }, &["glcm_score"]))
        .collect();
    let mut running: Vec<_> = sweeps.iter().map(|it| db.spawn(["enqueue", it.to_str().unwrap()])).collect();
    for it in &mut running {
        it.ends_with(0, std::time::Duration::from_secs(60));
    }
    db.check_laws().await;
    // 24 photographs and 4 × 24 blurred ones.
    assert_eq!(db.number("select count(*) from job where kind = 'evaluate'").await, 120);
    assert_eq!(db.number("select count(*) from job_key").await, db.number("select count(*) from job").await);
    assert_eq!(db.number("select count(*) from sweep").await, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn enqueueing_twice_adds_nothing() {
    let db = Database::new().await;
    let folder = db.home.path().join("photos");
    pictures(&folder, 3);
    let path = sweep(&folder, "twice", LADDER, &["glcm_score", "psnr"]);
    let first = db.jobctl(["enqueue", path.to_str().unwrap(), "--json"], 0).json();
    assert_eq!(first["new"]["evaluate"], 15);
    // The files were written just now, so that they are read once more; then they are known.
    let before = db.dump().await;
    let second = db.jobctl(["enqueue", path.to_str().unwrap(), "--json"], 0).json();
    assert_eq!((&second["new"], &second["done"]["evaluate"]), (&serde_json::json!({}), &15.into()));
    assert_eq!(second["sweep"], first["sweep"]);
    let without_files = |dump: &str| dump.split("\n\n").filter(|it| !it.starts_with("source_file")).collect::<String>();
    assert_eq!(without_files(&db.dump().await), without_files(&before));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_metric_that_is_added_is_computed_alone() {
    let db = Database::new().await;
    let folder = db.home.path().join("photos");
    pictures(&folder, 3);
    let before = sweep(&folder, "before", "", &["glcm_score"]);
    db.jobctl(["run", before.to_str().unwrap()], 0);
    let after = sweep(&folder, "after", "", &["glcm_score", "compression_ratio"]);
    let said = db.jobctl(["enqueue", after.to_str().unwrap(), "--json"], 0).json();
    assert_eq!(said["new"]["evaluate"], 3);
    let asked = db.text("select string_agg(task::text, ' ') from job where kind = 'evaluate'").await;
    assert!(!asked.contains("glcm_score"), "{asked}");
    assert_eq!(
        db.number(
            "select count(*) from job where kind = 'evaluate' and jsonb_array_length(task::jsonb -> 'metrics') = 1"
        )
        .await,
        3
    );
    db.jobctl(["worker", "--until-idle"], 0);
    assert_eq!(db.number("select count(*) from score").await, 6);
    assert_eq!(db.number("select count(*) from image").await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_added_is_planned_alone() {
    let db = Database::new().await;
    let folder = db.home.path().join("photos");
    pictures(&folder, 3);
    let path = sweep(&folder, "grows", "", &["glcm_score"]);
    db.jobctl(["enqueue", path.to_str().unwrap()], 0);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("[evaluate]", &format!("{LADDER}\n[evaluate]"))).unwrap();
    let said = db.jobctl(["enqueue", path.to_str().unwrap(), "--json"], 0).json();
    assert_eq!((&said["new"]["evaluate"], &said["done"]["evaluate"]), (&12.into(), &3.into()));
}
