//! Trying again: how often, when, and what is remembered.

use std::time::Duration;

use jobctl::queue::rescue::rescue;

use crate::support::database::Database;
use crate::support::graph::{How, graph};

const STALE: Duration = Duration::from_secs(45);
const GRACE: Duration = Duration::from_secs(30);

async fn outcomes(db: &Database) -> Vec<(i32, String, Option<String>)> {
    sqlx::query_as("select number, outcome, error from attempt order by lease").fetch_all(&db.pool).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_tried_again_later_and_fails_with_its_last_attempt() {
    let db = Database::new().await;
    let worker = db.worker().await;
    db.submit(&graph("flaky", &["a"], &[])).await;
    for (n_attempts, longest_s) in [(1, 2), (2, 4)] {
        let job = db.claim(worker).await.unwrap();
        db.settle(&job, How::Retry).await.unwrap();
        assert_eq!(db.state("a").await, "ready");
        let wait = "select ceil(extract(epoch from run_at - now()))::bigint from job";
        assert!((0..=longest_s).contains(&db.number(wait).await));
        assert_eq!(db.number("select n_attempts::bigint from job").await, n_attempts);
        db.all_due().await;
    }
    let job = db.claim(worker).await.unwrap();
    db.settle(&job, How::Retry).await.unwrap();
    assert_eq!(db.state("a").await, "failed");
    assert_eq!(db.text("select error from job_history").await, "disk (attempt 3 of 3)");
    let tried = |number, outcome: &str| (number, outcome.to_owned(), Some("disk".to_owned()));
    assert_eq!(outcomes(&db).await, [tried(1, "retried"), tried(2, "retried"), tried(3, "failed")]);
    assert!(db.claim(worker).await.is_none());
    db.check_laws().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waits_are_spread_over_their_limit() {
    let db = Database::new().await;
    let worker = db.worker().await;
    let labels: Vec<String> = (0..40).map(|it| it.to_string()).collect();
    db.submit(&graph("together", &labels.iter().map(String::as_str).collect::<Vec<_>>(), &[])).await;
    let mut claimed = Vec::new();
    while let Some(job) = db.claim(worker).await {
        claimed.push(job);
    }
    for job in &claimed {
        db.settle(job, How::Retry).await.unwrap();
    }
    // Forty waits drawn evenly from 2 s: the extremes are apart.
    let spread = "select (1000 * extract(epoch from max(run_at) - min(run_at)))::bigint from job";
    assert!((1000..=2600).contains(&db.number(spread).await));
    assert_eq!(db.number("select count(distinct run_at) from job").await, 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_at_fault_fails_at_once() {
    let db = Database::new().await;
    let worker = db.worker().await;
    db.submit(&graph("broken", &["a"], &[])).await;
    db.work_on(worker, "a", How::Fail).await;
    assert_eq!(db.state("a").await, "failed");
    assert_eq!(outcomes(&db).await, [(1, "failed".to_owned(), Some("no picture".to_owned()))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_released_job_costs_no_attempt_and_is_ready_at_once() {
    let db = Database::new().await;
    let worker = db.worker().await;
    db.submit(&graph("given back", &["a"], &[])).await;
    for _ in 0..5 {
        db.work_on(worker, "a", How::Release).await;
    }
    assert_eq!(db.number("select n_attempts::bigint from job").await, 0);
    db.work_on(worker, "a", How::Finish).await;
    assert_eq!(db.number("select n_attempts::bigint from job_history").await, 1);
    assert_eq!(db.number("select count(*) from attempt where outcome = 'released'").await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_worker_loses_its_jobs_and_a_loud_one_keeps_them() {
    let db = Database::new().await;
    let (silent, loud) = (db.worker().await, db.worker().await);
    db.submit(&graph("orphans", &["a", "b"], &[])).await;
    let (a, b) = (db.claim(silent).await.unwrap(), db.claim(loud).await.unwrap());
    assert_eq!(rescue(&db.pool, STALE, GRACE).await.unwrap(), 0);
    sqlx::query("update worker set beat_at = now() - interval '46 s' where id = $1")
        .bind(silent)
        .execute(&db.pool)
        .await
        .unwrap();
    assert_eq!(rescue(&db.pool, STALE, GRACE).await.unwrap(), 1);
    assert_eq!((db.state("a").await, db.state("b").await), ("ready".to_owned(), "running".to_owned()));
    assert_eq!(db.text("select outcome from attempt where ended_at is not null").await, "lost");
    db.settle(&b, How::Finish).await.unwrap();
    assert!(db.settle(&a, How::Finish).await.is_err());
    // The first loss is no reason to wait.
    assert_eq!(db.claim(loud).await.unwrap().id, a.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_past_its_deadline_is_taken_from_a_worker_that_lives() {
    let db = Database::new().await;
    let worker = db.worker().await;
    db.submit(&graph("slow", &["a"], &[])).await;
    db.claim(worker).await.unwrap();
    db.execute("update job set deadline_at = now() - interval '29 s'").await;
    assert_eq!(rescue(&db.pool, STALE, GRACE).await.unwrap(), 0);
    db.execute("update job set deadline_at = now() - interval '31 s'").await;
    assert_eq!(rescue(&db.pool, STALE, GRACE).await.unwrap(), 1);
    assert!(db.text("select error from attempt").await.contains("deadline"));
    assert_eq!(db.state("a").await, "ready");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_kills_its_workers_fails_in_the_end_with_its_history() {
    let db = Database::new().await;
    db.submit(&graph("killer", &["a"], &[])).await;
    for _ in 0..3 {
        let worker = db.worker().await;
        db.all_due().await;
        assert!(db.claim(worker).await.is_some());
        db.execute("update worker set beat_at = now() - interval '1 hour' where stopped_at is null").await;
        assert_eq!(rescue(&db.pool, STALE, GRACE).await.unwrap(), 1);
    }
    assert_eq!(db.state("a").await, "failed");
    let error = db.text("select error from job_history").await;
    assert!(error.contains("died or fell silent") && error.ends_with("(attempt 3 of 3)"), "{error}");
    assert_eq!(outcomes(&db).await.iter().filter(|it| it.1 == "lost").count(), 3);
    db.check_laws().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_rescuers_rescue_each_job_once() {
    let db = Database::new().await;
    let worker = db.worker().await;
    let labels: Vec<String> = (0..150).map(|it| it.to_string()).collect();
    db.submit(&graph("many", &labels.iter().map(String::as_str).collect::<Vec<_>>(), &[])).await;
    while db.claim(worker).await.is_some() {}
    db.execute("update worker set beat_at = now() - interval '1 hour'").await;
    let mut rescuers = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let pool = db.pool.clone();
        rescuers.spawn(async move { rescue(&pool, STALE, GRACE).await.unwrap() });
    }
    assert_eq!(rescuers.join_all().await.into_iter().sum::<usize>(), 150);
    assert_eq!(db.number("select count(*) from attempt where outcome = 'lost'").await, 150);
    db.check_laws().await;
}
