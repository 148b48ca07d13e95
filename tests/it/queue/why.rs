//! What is said of a job that waits.

use std::sync::Arc;
use std::time::Duration;

use jobctl::job::JobId;
use jobctl::job::needs::Needs;
use jobctl::plan::{EdgeKind, Plan};
use jobctl::queue::claim::Gpu;
use jobctl::queue::control;
use jobctl::queue::limit::{self, Of};
use jobctl::queue::why::{Why, waits, why};

use crate::support::database::Database;
use crate::support::graph::{How, graph};

const STALE: Duration = Duration::from_secs(45);

async fn of(db: &Database, job: JobId) -> (Why, String) {
    let wait = why(&db.pool, job, STALE).await.unwrap().expect("it waits");
    (wait.why, wait.words)
}

async fn summary(db: &Database) -> Vec<(Why, i64)> {
    waits(&db.pool, None, STALE).await.unwrap().into_iter().map(|it| (it.why, it.n_jobs)).collect()
}

fn asking(name: &str, labels: &[&str], needs: Needs) -> Plan {
    let mut plan = graph(name, labels, &[]);
    let needs = Arc::new(needs);
    for job in &mut plan.jobs {
        job.needs = needs.clone();
    }
    plan
}

#[tokio::test(flavor = "multi_thread")]
async fn each_reason_is_said() {
    let db = Database::new().await;
    db.submit(&graph("graph", &["a", "b", "c"], &[(0, 1, EdgeKind::Needs)])).await;
    let (a, b, c) = (db.job("a").await, db.job("b").await, db.job("c").await);
    assert_eq!(of(&db, a).await.0, Why::NoWorker);
    assert_eq!(summary(&db).await, [(Why::Blocked, 1), (Why::NoWorker, 2)]);

    let worker = db.worker().await;
    assert_eq!(of(&db, b).await, (Why::Blocked, format!("for jobs {a} (ready) to end")));
    assert_eq!(of(&db, a).await, (Why::InLine, "for a free slot: it is the next".to_owned()));
    assert_eq!(of(&db, c).await, (Why::InLine, "for a free slot: 1 job is before it".to_owned()));
    assert_eq!(summary(&db).await, [(Why::Blocked, 1), (Why::InLine, 2)]);

    db.work_on(worker, "a", How::Retry).await;
    db.execute("update job set run_at = now() + interval '90 seconds' where n_attempts > 0").await;
    let (reason, words) = of(&db, a).await;
    assert_eq!((reason, words.as_str()), (Why::NotDue, "for its next try in 90 s, after 1 that failed"));
    assert_eq!(summary(&db).await, [(Why::Blocked, 1), (Why::NotDue, 1), (Why::InLine, 1)]);

    let running = db.claim(worker).await.unwrap();
    assert!(why(&db.pool, running.id, STALE).await.unwrap().is_none());
    // A worker that has fallen silent is none.
    db.execute("update worker set beat_at = now() - interval '46 seconds'").await;
    db.all_due().await;
    assert_eq!(of(&db, a).await.0, Why::NoWorker);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_and_a_pause_are_named() {
    let db = Database::new().await;
    let worker = db.worker().await;
    let mut plan = graph("tight", &["a", "b", "c"], &[]);
    plan.max_running = Some(1);
    let sweep = db.submit(&plan).await.unwrap().sweep;
    let c = db.job("c").await;
    assert_eq!(of(&db, c).await.0, Why::InLine);
    db.claim(worker).await.unwrap();
    let (reason, words) = of(&db, c).await;
    assert!(reason == Why::AtLimit && words.starts_with("at a limit: 1 of sweep tight-"), "{words}");
    let mut tx = db.begin().await;
    limit::set(&mut tx, Of::Sweep(sweep), None).await.unwrap();
    limit::set(&mut tx, Of::Kind("evaluate"), Some(1)).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(of(&db, c).await.1, "at a limit: 1 of kind evaluate runs at a time");
    assert_eq!(summary(&db).await, [(Why::AtLimit, 2)]);
    let mut tx = db.begin().await;
    control::set_paused(&mut tx, sweep, true).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(of(&db, c).await.0, Why::Held);
    assert_eq!(summary(&db).await, [(Why::Held, 2)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_has_is_named_with_the_nearest_worker() {
    let db = Database::new().await;
    let gpu = |device: &str, slot: &str, memory_gib| Gpu {
        device: device.to_owned(),
        slot: slot.to_owned(),
        model: "NVIDIA A100-SXM4".to_owned(),
        memory_gib,
    };
    db.worker_with(&["lab".to_owned()], &[gpu("cuda:0", "cuda:0", 40), gpu("cuda:1", "cuda:1", 80)]).await;
    let needs = Needs { gpu_memory_gib: 141, labels: vec!["lab".to_owned()], ..Needs::gpu() };
    db.submit(&asking("huge", &["a", "b"], needs)).await;
    let words = of(&db, db.job("a").await).await.1;
    assert!(
        words.starts_with("for a GPU with 141 GiB of a worker labelled `lab`, which no live worker has"),
        "{words}"
    );
    assert!(words.ends_with("the nearest, host cuda:1, has 80 GiB"), "{words}");
    let said = waits(&db.pool, None, STALE).await.unwrap();
    assert_eq!((said[0].why, said[0].n_jobs), (Why::Unmatched, 2));
    // The same on the command line.
    let status = db.jobctl(["status"], 0).out;
    assert!(
        status.contains("2 jobs wait for a GPU with 141 GiB of a worker labelled `lab`, which no live worker has"),
        "{status}"
    );
    let shown = db.jobctl(["show", &db.job("a").await.to_string()], 0).out;
    assert!(shown.contains("waits     for a GPU with 141 GiB"), "{shown}");
    let json = db.jobctl(["status", "--json"], 0).json();
    assert_eq!((&json["waits"][0]["why"], &json["waits"][0]["n_jobs"]), (&"unmatched".into(), &2.into()));
    assert_eq!(json["gpus"][1]["memory_gib"], 80);
}
