//! Whoever waits is called once, however many jobs there are to be had.

use std::time::Duration;

use jobctl::plan::EdgeKind::Needs;
use sqlx::postgres::PgListener;
use tokio::time::timeout;

use crate::support::database::Database;
use crate::support::graph::{How, graph};

/// How many calls are heard until there is silence.
async fn heard(listener: &mut PgListener) -> usize {
    let mut n = 0;
    while timeout(Duration::from_secs(1), listener.recv()).await.is_ok() {
        n += 1;
    }
    n
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_jobs_are_one_call() {
    let db = Database::new().await;
    let worker = db.worker().await;
    let mut listener = PgListener::connect(&db.url).await.unwrap();
    listener.listen("jobctl").await.unwrap();
    let labels: Vec<String> = (0..1000).map(|it| format!("job {it}")).collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    db.submit(&graph("many", &labels, &[])).await;
    assert_eq!(heard(&mut listener).await, 1);

    let labels: Vec<String> = (0..=100).map(|it| format!("child {it}")).collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let mut family = graph("family", &labels, &(1..=100).map(|it| (0, it, Needs)).collect::<Vec<_>>());
    family.priority = 1;
    db.submit(&family).await;
    assert_eq!(heard(&mut listener).await, 1);
    db.work_on(worker, "child 0", How::Finish).await;
    assert_eq!(heard(&mut listener).await, 1, "a hundred children are released");
}
