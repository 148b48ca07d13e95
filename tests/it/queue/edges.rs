//! What a job's end means for those that wait for it.

use std::sync::Arc;

use jobctl::plan::EdgeKind::{After, Needs};
use jobctl::queue::control;
use jobctl::sweep::OnFailure;
use tokio::sync::Barrier;

use crate::support::database::Database;
use crate::support::graph::{How, graph};

#[tokio::test(flavor = "multi_thread")]
async fn children_run_when_their_parents_are_done() {
    let db = Database::new().await;
    let worker = db.worker().await;
    db.submit(&graph("line", &["a", "b", "c"], &[(0, 1, Needs), (1, 2, After), (0, 2, Needs)])).await;
    assert_eq!(db.state("c").await, "waiting");
    db.work_on(worker, "a", How::Finish).await;
    assert_eq!((db.state("b").await, db.state("c").await), ("ready".to_owned(), "waiting".to_owned()));
    db.work_on(worker, "b", How::Finish).await;
    db.work_on(worker, "c", How::Finish).await;
    db.check_laws().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_skips_what_needs_it_and_frees_what_only_comes_after_it() {
    let db = Database::new().await;
    let worker = db.worker().await;
    let edges = [(0, 1, Needs), (1, 2, Needs), (0, 3, After), (2, 4, After)];
    db.submit(&graph("family", &["a", "child", "grandchild", "after", "after grandchild"], &edges)).await;
    db.work_on(worker, "a", How::Fail).await;
    assert_eq!((db.state("child").await, db.state("grandchild").await), ("skipped".to_owned(), "skipped".to_owned()));
    assert_eq!((db.state("after").await, db.state("after grandchild").await), ("ready".to_owned(), "ready".to_owned()));
    let errors: Vec<String> =
        sqlx::query_scalar("select error from job_history order by id").fetch_all(&db.pool).await.unwrap();
    let skipped = |state| format!("a job that it needs ended as {state}");
    assert_eq!(errors, ["no picture".to_owned(), skipped("failed"), skipped("skipped")]);
    db.check_laws().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retrying_the_parent_revives_them_all() {
    let db = Database::new().await;
    let worker = db.worker().await;
    let edges = [(0, 1, Needs), (1, 2, Needs), (0, 3, After)];
    db.submit(&graph("again", &["a", "child", "grandchild", "pool"], &edges)).await;
    db.work_on(worker, "a", How::Fail).await;
    // What pooled without the failed one must pool again.
    db.work_on(worker, "pool", How::Finish).await;
    let mut tx = db.begin().await;
    assert_eq!(control::retry(&mut tx, &[db.job("a").await.0]).await.unwrap(), 4);
    tx.commit().await.unwrap();
    db.check_laws().await;
    assert_eq!(db.number("select count(*) from job where n_attempts = 0").await, 4);
    for label in ["a", "child", "grandchild", "pool"] {
        let job = db.claim(worker).await.unwrap();
        db.settle(&job, How::Finish).await.unwrap_or_else(|error| panic!("{label}: {error:#}"));
    }
    assert_eq!(db.states().await, [("done".to_owned(), 4)].into());
    db.check_laws().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_of_a_failed_parent_is_not_retried_alone() {
    let db = Database::new().await;
    let worker = db.worker().await;
    db.submit(&graph("stuck", &["a", "b"], &[(0, 1, Needs)])).await;
    db.work_on(worker, "a", How::Fail).await;
    let before = db.dump().await;
    let (parent, child) = (db.job("a").await, db.job("b").await);
    let mut tx = db.begin().await;
    let error = control::retry(&mut tx, &[child.0]).await.unwrap_err().to_string();
    assert_eq!(
        error,
        format!("job {child} needs job {parent}, which ended as failed: retry that one, and this one follows")
    );
    tx.rollback().await.unwrap();
    assert_eq!(db.dump().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_is_not_retried() {
    let db = Database::new().await;
    let worker = db.worker().await;
    db.submit(&graph("fine", &["a"], &[])).await;
    db.work_on(worker, "a", How::Finish).await;
    let mut tx = db.begin().await;
    assert_eq!(control::retry(&mut tx, &[db.job("a").await.0]).await.unwrap(), 0);
    tx.commit().await.unwrap();
    assert_eq!(db.state("a").await, "done");
}

#[tokio::test(flavor = "multi_thread")]
async fn parents_that_end_together_neither_deadlock_nor_miscount() {
    let db = Database::new().await;
    let parents: Vec<String> = (0..8).map(|it| format!("parent {it}")).collect();
    let children: Vec<String> = (0..12).map(|it| format!("child {it}")).collect();
    for round in 0..10 {
        let labels: Vec<String> = parents.iter().chain(&children).map(|it| format!("{it} of {round}")).collect();
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        // A failed parent skips every third child, and the others wait for its end alone.
        let kind = |child: usize| if child.is_multiple_of(3) { Needs } else { After };
        let edges: Vec<_> =
            (0..8).flat_map(|parent| (8..20).rev().map(move |child| (parent, child, kind(child)))).collect();
        db.submit(&graph(&format!("round {round}"), &labels, &edges)).await;
        let worker = db.worker().await;
        let barrier = Arc::new(Barrier::new(8));
        let mut claimed = Vec::new();
        for _ in 0..8 {
            claimed.push(db.claim(worker).await.unwrap());
        }
        let ends = claimed.iter().enumerate().map(|(idx, job)| {
            let (db, barrier) = (&db, barrier.clone());
            let how = if round % 2 == 1 && idx == 3 { How::Fail } else { How::Finish };
            async move {
                barrier.wait().await;
                db.settle(job, how).await.unwrap();
            }
        });
        join_all(ends).await;
        db.check_laws().await;
        let n_ready = db.number("select count(*) from job where state = 'ready'").await;
        assert_eq!(n_ready, if round % 2 == 1 { 8 } else { 12 });
        while let Some(job) = db.claim(worker).await {
            db.settle(&job, How::Finish).await.unwrap();
        }
    }
    assert_eq!(db.number("select count(*) from job").await, 0);
}

/// Runs futures side by side on this task.
async fn join_all<F: Future<Output = ()>>(futures: impl Iterator<Item = F>) {
    let mut pinned: Vec<_> = futures.map(Box::pin).collect();
    std::future::poll_fn(|context| {
        pinned.retain_mut(|it| it.as_mut().poll(context).is_pending());
        if pinned.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_that_stops_cancels_the_rest_but_not_what_another_wants() {
    let db = Database::new().await;
    let worker = db.worker().await;
    let mut strict = graph("strict", &["a", "b", "c", "shared"], &[(1, 2, Needs)]);
    strict.on_failure = OnFailure::Stop;
    db.submit(&strict).await;
    db.submit(&graph("other", &["shared", "own"], &[])).await;
    db.work_on(worker, "a", How::Fail).await;
    assert_eq!((db.state("b").await, db.state("c").await), ("cancelled".to_owned(), "cancelled".to_owned()));
    assert_eq!((db.state("shared").await, db.state("own").await), ("ready".to_owned(), "ready".to_owned()));
    assert_eq!(db.text("select state from sweep_status where sweep like 'strict%'").await, "cancelled");
    db.check_laws().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_that_stops_tells_what_runs_to_end() {
    let db = Database::new().await;
    let worker = db.worker().await;
    let mut strict = graph("strict", &["a", "b"], &[]);
    strict.on_failure = OnFailure::Stop;
    db.submit(&strict).await;
    let (a, b) = (db.claim(worker).await.unwrap(), db.claim(worker).await.unwrap());
    db.settle(&a, How::Fail).await.unwrap();
    let pulse = jobctl::queue::claim::beat(&db.pool, worker).await.unwrap().unwrap();
    assert_eq!((pulse.held, pulse.cancelled), (vec![(b.id, b.lease)], vec![b.lease]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_given_back_waits_for_a_parent_that_was_revived_meanwhile() {
    let db = Database::new().await;
    let worker = db.worker().await;
    let plan = graph("pool", &["a", "b", "pool"], &[(0, 2, After), (1, 2, After)]);
    db.submit(&plan).await;
    db.work_on(worker, "a", How::Fail).await;
    db.work_on(worker, "b", How::Finish).await;
    let pool = db.claim(worker).await.unwrap();
    let mut tx = db.begin().await;
    control::retry(&mut tx, &[db.job("a").await.0]).await.unwrap();
    tx.commit().await.unwrap();
    db.settle(&pool, How::Release).await.unwrap();
    assert_eq!(db.state("pool").await, "waiting");
    db.check_laws().await;
    db.work_on(worker, "a", How::Finish).await;
    db.work_on(worker, "pool", How::Finish).await;
}
