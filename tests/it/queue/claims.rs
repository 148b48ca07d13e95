//! Who gets which job.

use std::collections::HashSet;

use jobctl::job::Hash;
use jobctl::job::needs::Offer;
use jobctl::queue::claim::claim;

use crate::support::database::Database;
use crate::support::graph::{How, graph};

#[tokio::test(flavor = "multi_thread")]
async fn eight_claimers_get_each_job_once() {
    let db = Database::new().await;
    let labels: Vec<String> = (0..200).map(|it| format!("job {it}")).collect();
    db.submit(&graph("many", &labels.iter().map(String::as_str).collect::<Vec<_>>(), &[])).await;
    let mut claimers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (worker, pool) = (db.worker().await, db.pool.clone());
        claimers.spawn(async move {
            let mut claimed = Vec::new();
            while let Some(job) = claim(&pool, worker, "cpu:0", &Offer::default(), None).await.unwrap() {
                claimed.push((job.id, job.lease));
            }
            claimed
        });
    }
    let claimed: Vec<_> = claimers.join_all().await.into_iter().flatten().collect();
    assert_eq!(claimed.len(), 200);
    assert_eq!(claimed.iter().map(|it| it.0).collect::<HashSet<_>>().len(), 200);
    assert_eq!(claimed.iter().map(|it| it.1).collect::<HashSet<_>>().len(), 200);
    assert_eq!(db.number("select count(*) from attempt where number = 1").await, 200);
    db.check_laws().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn higher_priorities_come_first_and_the_oldest_among_equals() {
    let db = Database::new().await;
    let worker = db.worker().await;
    for (name, priority, labels) in [("low", -5, ["a", "b"]), ("high", 5, ["c", "d"]), ("none", 0, ["e", "f"])] {
        let mut plan = graph(name, &labels, &[]);
        plan.priority = priority;
        db.submit(&plan).await;
    }
    for label in ["c", "d", "e", "f", "a", "b"] {
        db.work_on(worker, label, How::Finish).await;
    }
    assert!(db.claim(worker).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_loaded_is_preferred_but_never_over_a_higher_priority() {
    let db = Database::new().await;
    let worker = db.worker().await;
    db.submit(&graph("plain", &["a", "b", "c"], &[])).await;
    let loaded = Some(Hash::of(b"c").first_8_bytes());
    let take = async || claim(&db.pool, worker, "cpu:0", &Offer::default(), loaded).await.unwrap().unwrap().id;
    let mut urgent = graph("urgent", &["d"], &[]);
    urgent.priority = 1;
    db.submit(&urgent).await;
    assert_eq!(take().await, db.job("d").await);
    assert_eq!(take().await, db.job("c").await);
    // Nothing more of what is loaded: the oldest.
    assert_eq!(take().await, db.job("a").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_loaded_is_preferred_among_low_priorities_too() {
    let db = Database::new().await;
    let worker = db.worker().await;
    let mut plan = graph("low", &["a", "b", "c"], &[]);
    plan.priority = -3;
    db.submit(&plan).await;
    let claimed = claim(&db.pool, worker, "cpu:0", &Offer::default(), Some(Hash::of(b"b").first_8_bytes()))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(claimed.id, db.job("b").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_time_has_not_come_is_nobodys() {
    let db = Database::new().await;
    let worker = db.worker().await;
    db.submit(&graph("later", &["a"], &[])).await;
    db.execute("update job set run_at = now() + interval '1 hour'").await;
    assert!(db.claim(worker).await.is_none());
    db.all_due().await;
    assert!(db.claim(worker).await.is_some());
}
