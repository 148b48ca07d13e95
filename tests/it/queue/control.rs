//! Cancel, pause, resume and enqueue again, where sweeps share jobs.

use jobctl::queue::claim::beat;
use jobctl::queue::control::{self, Cancelled};
use jobctl::queue::settle;

use crate::support::database::Database;
use crate::support::graph::{How, graph};

async fn cancel(db: &Database, sweep: i32) -> Cancelled {
    let mut tx = db.begin().await;
    let cancelled = control::cancel_sweep(&mut tx, sweep).await.unwrap();
    tx.commit().await.unwrap();
    db.check_laws().await;
    cancelled
}

async fn set_paused(db: &Database, sweep: i32, paused: bool) {
    let mut tx = db.begin().await;
    control::set_paused(&mut tx, sweep, paused).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_leaves_what_another_sweep_wants() {
    let db = Database::new().await;
    let first = db.submit(&graph("first", &["a", "shared"], &[])).await.unwrap();
    let second = db.submit(&graph("second", &["shared", "b"], &[])).await.unwrap();
    assert_eq!(cancel(&db, first.sweep).await, Cancelled { ended: 1, asked: 0 });
    assert_eq!((db.state("a").await, db.state("shared").await), ("cancelled".to_owned(), "ready".to_owned()));
    assert_eq!(cancel(&db, second.sweep).await, Cancelled { ended: 2, asked: 0 });
    assert_eq!(db.states().await, [("cancelled".to_owned(), 3)].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_job_is_asked_to_end_and_ends_as_cancelled() {
    let db = Database::new().await;
    let worker = db.worker().await;
    let sweep = db.submit(&graph("busy", &["a", "b"], &[])).await.unwrap().sweep;
    let job = db.claim(worker).await.unwrap();
    assert_eq!(cancel(&db, sweep).await, Cancelled { ended: 1, asked: 1 });
    let pulse = beat(&db.pool, worker).await.unwrap().unwrap();
    assert_eq!((pulse.held, pulse.cancelled), (vec![(job.id, job.lease)], vec![job.lease]));
    let mut tx = db.begin().await;
    settle::release(&mut tx, job.id, job.lease).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(db.states().await, [("cancelled".to_owned(), 2)].into());
    db.check_laws().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_sweep_lives_again_when_it_is_enqueued_again() {
    let db = Database::new().await;
    let worker = db.worker().await;
    let plan = graph("again", &["a", "b", "c"], &[(1, 2, jobctl::plan::EdgeKind::Needs)]);
    let sweep = db.submit(&plan).await.unwrap().sweep;
    db.work_on(worker, "a", How::Finish).await;
    cancel(&db, sweep).await;
    assert!(db.submit(&plan).await.is_none());
    db.check_laws().await;
    assert_eq!(db.text("select state from sweep_status").await, "active");
    for label in ["b", "c"] {
        db.work_on(worker, label, How::Finish).await;
    }
    assert_eq!(db.states().await, [("done".to_owned(), 3)].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn enqueueing_again_takes_the_order_to_end_back() {
    let db = Database::new().await;
    let worker = db.worker().await;
    let plan = graph("again", &["a"], &[]);
    let sweep = db.submit(&plan).await.unwrap().sweep;
    let job = db.claim(worker).await.unwrap();
    assert_eq!(cancel(&db, sweep).await, Cancelled { ended: 0, asked: 1 });
    db.submit(&plan).await;
    let pulse = beat(&db.pool, worker).await.unwrap().unwrap();
    assert_eq!((pulse.held, pulse.cancelled), (vec![(job.id, job.lease)], vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_was_told_to_end_a_job_that_is_wanted_again_gives_it_back() {
    let db = Database::new().await;
    let worker = db.worker().await;
    let sweep = db.submit(&graph("first", &["a"], &[])).await.unwrap().sweep;
    let job = db.claim(worker).await.unwrap();
    cancel(&db, sweep).await;
    // The worker has heard of it, and before it settles another sweep comes.
    db.submit(&graph("second", &["a", "b"], &[])).await;
    let mut tx = db.begin().await;
    settle::release(&mut tx, job.id, job.lease).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(db.state("a").await, "ready");
    db.check_laws().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_sweep_starts_nothing_that_no_other_wants() {
    let db = Database::new().await;
    let worker = db.worker().await;
    let first = db.submit(&graph("first", &["a", "shared"], &[])).await.unwrap().sweep;
    let second = db.submit(&graph("second", &["shared", "b"], &[])).await.unwrap().sweep;
    set_paused(&db, first, true).await;
    assert_eq!((db.state("a").await, db.state("shared").await), ("held".to_owned(), "ready".to_owned()));
    set_paused(&db, second, true).await;
    assert!(db.claim(worker).await.is_none());
    set_paused(&db, second, false).await;
    db.work_on(worker, "shared", How::Finish).await;
    db.work_on(worker, "b", How::Finish).await;
    assert!(db.claim(worker).await.is_none());
    set_paused(&db, first, false).await;
    db.work_on(worker, "a", How::Finish).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_sweep_frees_what_a_paused_one_held() {
    let db = Database::new().await;
    let worker = db.worker().await;
    let first = db.submit(&graph("first", &["a"], &[])).await.unwrap().sweep;
    set_paused(&db, first, true).await;
    assert!(db.claim(worker).await.is_none());
    db.submit(&graph("second", &["a", "b"], &[])).await;
    db.work_on(worker, "a", How::Finish).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_paused_sweep_still_wants_is_held_when_the_other_is_cancelled() {
    let db = Database::new().await;
    let worker = db.worker().await;
    let paused = db.submit(&graph("paused", &["a"], &[])).await.unwrap().sweep;
    let active = db.submit(&graph("active", &["a", "b"], &[])).await.unwrap().sweep;
    set_paused(&db, paused, true).await;
    assert_eq!(db.state("a").await, "ready");
    cancel(&db, active).await;
    assert_eq!(db.state("a").await, "held");
    assert!(db.claim(worker).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_job_of_a_paused_sweep_is_held_when_it_becomes_ready() {
    let db = Database::new().await;
    let worker = db.worker().await;
    let sweep = db.submit(&graph("line", &["a", "b"], &[(0, 1, jobctl::plan::EdgeKind::Needs)])).await.unwrap().sweep;
    let job = db.claim(worker).await.unwrap();
    set_paused(&db, sweep, true).await;
    db.settle(&job, How::Finish).await.unwrap();
    assert_eq!(db.state("b").await, "held");
    assert!(db.claim(worker).await.is_none());
}
