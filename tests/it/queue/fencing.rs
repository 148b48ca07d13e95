//! A write with an old lease changes nothing at all.

use std::time::Duration;

use jobctl::queue::claim::{Claimed, append_log, beat, progress};
use jobctl::queue::rescue::rescue;
use jobctl::queue::{LeaseLost, settle};

use crate::support::database::Database;
use crate::support::graph::{How, graph};

const STALE: Duration = Duration::from_secs(45);
const GRACE: Duration = Duration::from_secs(30);

/// Everything that the holder of a lease may write.
async fn write_everything(db: &Database, job: &Claimed) {
    for how in [How::Finish, How::Fail, How::Retry, How::Release] {
        let error = db.settle(job, how).await.unwrap_err();
        assert!(error.is::<LeaseLost>(), "{how:?}: {error:#}");
    }
    let mut tx = db.begin().await;
    assert!(settle::release(&mut tx, job.id, job.lease).await.unwrap_err().is::<LeaseLost>());
    // Even what wrongly commits has written nothing.
    tx.commit().await.unwrap();
    progress(&db.pool, job.id, job.lease, &serde_json::json!({ "done": 1 })).await.unwrap();
    append_log(&db.pool, job.lease, 0, &["from the grave".to_owned()]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_lease_of_a_job_that_runs_elsewhere_writes_nothing() {
    let db = Database::new().await;
    db.submit(&graph("fenced", &["a"], &[])).await;
    let (dead, heir) = (db.worker().await, db.worker().await);
    let old = db.claim(dead).await.unwrap();
    sqlx::query("update worker set beat_at = now() - interval '1 hour' where id = $1")
        .bind(dead)
        .execute(&db.pool)
        .await
        .unwrap();
    assert_eq!(rescue(&db.pool, STALE, GRACE).await.unwrap(), 1);
    let new = db.claim(heir).await.unwrap();
    assert_eq!(new.id, old.id);
    assert!(new.lease > old.lease);

    let before = db.dump().await;
    write_everything(&db, &old).await;
    assert!(beat(&db.pool, dead).await.unwrap().is_none(), "a worker that was given up beats");
    assert_eq!(db.dump().await, before);

    db.settle(&new, How::Finish).await.unwrap();
    assert_eq!(db.state("a").await, "done");
    db.check_laws().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lease_of_an_ended_job_writes_nothing() {
    let db = Database::new().await;
    let worker = db.worker().await;
    db.submit(&graph("ended", &["a", "b", "c", "d"], &[])).await;
    let mut old = Vec::new();
    for how in [How::Finish, How::Fail, How::Retry, How::Release] {
        let job = db.claim(worker).await.unwrap();
        db.settle(&job, how).await.unwrap();
        old.push(job);
    }
    let before = db.dump().await;
    for job in &old {
        write_everything(&db, job).await;
    }
    assert_eq!(db.dump().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_good_for_its_own_job_alone() {
    let db = Database::new().await;
    let worker = db.worker().await;
    db.submit(&graph("two", &["a", "b"], &[])).await;
    let (mut a, b) = (db.claim(worker).await.unwrap(), db.claim(worker).await.unwrap());
    a.lease = b.lease;
    let before = db.dump().await;
    for how in [How::Finish, How::Fail, How::Retry, How::Release] {
        assert!(db.settle(&a, how).await.unwrap_err().is::<LeaseLost>());
    }
    assert_eq!(db.dump().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tables_refuse_nonsense_states() {
    let db = Database::new().await;
    let worker = db.worker().await;
    db.submit(&graph("law", &["a", "b"], &[(0, 1, jobctl::plan::EdgeKind::Needs)])).await;
    db.claim(worker).await.unwrap();
    let nonsense = [
        ("update job set lease = null where state = 'running'", "a_running_job_has_a_lease"),
        ("update job set deadline_at = null where state = 'running'", "a_running_job_has_a_lease"),
        ("update job set state = 'ready' where state = 'running'", "a_running_job_has_a_lease"),
        ("update job set state = 'done', n_blockers = 0 where state = 'waiting'", "only_unfinished_jobs_live_here"),
        ("update job set state = 'ready' where state = 'waiting'", "a_waiting_job_has_blockers"),
        ("update job set n_blockers = -1, state = 'ready' where state = 'waiting'", "job_n_blockers_check"),
        ("update job set n_blockers = 0 where state = 'waiting'", "a_waiting_job_has_blockers"),
        ("update attempt set ended_at = now()", "an_ended_attempt_has_an_outcome"),
        ("update attempt set outcome = 'vanished', ended_at = now()", "attempt_outcome_check"),
        ("update sweep set on_failure = 'shrug'", "sweep_on_failure_check"),
        (
            "insert into job_history select id, key, kind, lane, priority, 'failed', 1, 3, 60, null, null, 0, task::jsonb, null,
                created_at, null, now() from job limit 1",
            "failure_says_why",
        ),
        (
            "insert into set_score (set_key, metric, variant, version, n, job_id) values ('x', 'm', 'v', 1, 1, 1)",
            "an_undefined_score_says_why",
        ),
    ];
    for (statement, constraint) in nonsense {
        let error = sqlx::query(statement).execute(&db.pool).await.expect_err(statement);
        let said = error.as_database_error().and_then(|it| it.constraint()).map(str::to_owned);
        assert_eq!(said.as_deref(), Some(constraint), "{statement}: {error}");
    }
}
