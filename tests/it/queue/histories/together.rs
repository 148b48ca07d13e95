//! Several actors at the same time: nothing is lost, nothing waits for ever, nobody deadlocks.

use std::time::{Duration, Instant};

use jobctl::plan::EdgeKind;
use jobctl::queue::claim::{Claimed, beat};
use jobctl::queue::rescue::rescue;
use jobctl::queue::{LeaseLost, control, locks};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{STALE, config, enqueue, plan_of};
use crate::support::database::Database;
use crate::support::graph::{How, graph};
use crate::support::wait_until;

const LENGTH: Duration = Duration::from_millis(1500);
const LONG: Duration = Duration::from_secs(30);

/// Claims and settles, honestly; now and then it takes very long, and settles too late.
async fn worker(db: &Database, seed: u64) {
    let mut dice = Pcg64Mcg::seed_from_u64(seed);
    let (start, mut id) = (Instant::now(), db.worker().await);
    while start.elapsed() < LENGTH {
        db.all_due().await;
        let Some(claimed) = db.claim(id).await else {
            tokio::time::sleep(Duration::from_millis(2)).await;
            continue;
        };
        if dice.random_range(0..12) == 0 {
            give_up(db, id).await;
            assert!(beat(&db.pool, id).await.unwrap().is_none(), "it was given up");
            id = db.worker().await;
        }
        let how = [How::Finish, How::Finish, How::Fail, How::Retry, How::Release][dice.random_range(0..5)];
        settle(db, &claimed, how).await;
    }
}

async fn settle(db: &Database, claimed: &Claimed, how: How) {
    if let Err(error) = db.settle(claimed, how).await {
        assert!(error.is::<LeaseLost>(), "{how:?}: {error:#}");
    }
}

/// What happens to a worker that falls silent.
async fn give_up(db: &Database, worker: Uuid) {
    sqlx::query("update worker set beat_at = now() - interval '1 hour' where id = $1")
        .bind(worker)
        .execute(&db.pool)
        .await
        .unwrap();
    rescue(&db.pool, STALE, STALE).await.unwrap();
}

/// Enqueues, cancels, retries, pauses and resumes.
async fn person(db: &Database, seed: u64) {
    let mut dice = Pcg64Mcg::seed_from_u64(seed);
    let start = Instant::now();
    while start.elapsed() < LENGTH {
        let sweeps: Vec<i32> = sqlx::query_scalar("select id from sweep").fetch_all(&db.pool).await.unwrap();
        let one = (!sweeps.is_empty()).then(|| sweeps[dice.random_range(0..sweeps.len())]);
        match (dice.random_range(0..5), one) {
            (0, _) | (_, None) => {
                let (plan, _) = plan_of(dice.random_range(1..=255), dice.random_range(0..2) == 0);
                unless_stuck(enqueue(db, &plan).await.map(drop));
            }
            (1, Some(sweep)) => {
                let mut tx = db.begin().await;
                control::cancel_sweep(&mut tx, sweep).await.unwrap();
                tx.commit().await.unwrap();
            }
            (2, Some(sweep)) => {
                let mut tx = db.begin().await;
                let retried = async {
                    control::revive_sweep(&mut tx, sweep).await?;
                    let others = control::retryable(&mut tx, sweep).await?;
                    control::retry(&mut tx, &others).await
                };
                match retried.await {
                    Ok(_) => tx.commit().await.unwrap(),
                    Err(error) => unless_stuck(Err(error)),
                }
            }
            (3, Some(sweep)) => {
                let mut tx = db.begin().await;
                control::set_paused(&mut tx, sweep, dice.random_range(0..2) == 0).await.unwrap();
                tx.commit().await.unwrap();
            }
            (_, Some(_)) => {}
        }
    }
}

/// That a job needs another which stays as it is, is an answer; anything else is not.
fn unless_stuck(result: anyhow::Result<()>) {
    if let Err(error) = result {
        assert!(error.to_string().contains("retry that one"), "{error:#}");
    }
}

/// Everything that is left can be finished: nothing waits for what will not come.
async fn finish_all(db: &Database) {
    let id = db.worker().await;
    let sweeps: Vec<i32> = sqlx::query_scalar("select id from sweep").fetch_all(&db.pool).await.unwrap();
    for sweep in sweeps {
        let mut tx = db.begin().await;
        control::set_paused(&mut tx, sweep, false).await.unwrap();
        tx.commit().await.unwrap();
    }
    // What a cancelled sweep has left held, nobody wants any more.
    db.execute("update job set held = false where held").await;
    loop {
        db.all_due().await;
        let Some(claimed) = db.claim(id).await else { break };
        db.settle(&claimed, How::Finish).await.unwrap();
    }
    assert_eq!(db.number("select count(*) from job").await, 0, "jobs wait for ever");
}

async fn n_deadlocks(db: &Database) -> i64 {
    // Statistics come when a backend is idle, or ends.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    db.number("select deadlocks from pg_stat_database where datname = current_database()").await
}

#[test]
fn actors_at_the_same_time_lose_nothing_and_never_deadlock() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    proptest!(config(2), |(seed in any::<u64>())| {
        runtime.block_on(async {
            let db = Database::new().await;
            tokio::join!(
                worker(&db, seed),
                worker(&db, seed ^ 1),
                worker(&db, seed ^ 2),
                worker(&db, seed ^ 3),
                person(&db, seed ^ 4),
                person(&db, seed ^ 5),
            );
            db.execute("update worker set beat_at = now() - interval '1 hour' where stopped_at is null").await;
            rescue(&db.pool, STALE, STALE).await.unwrap();
            db.check_laws().await;
            let twice = "select count(*) from (
                select job_id from attempt where outcome = 'done' group by job_id having count(*) > 1
            ) as twice where job_id not in (select child from job_edge where not needs)";
            assert_eq!(db.number(twice).await, 0, "a job was done twice that nobody pools");
            finish_all(&db).await;
            db.check_laws().await;
            assert_eq!(n_deadlocks(&db).await, 0, "deadlocks");
        });
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn two_jobs_that_fail_at_once_stop_their_sweep_without_a_deadlock() {
    let db = Database::new().await;
    let labels: Vec<String> = (0..24).map(|it| format!("x{it}")).chain(["pool".to_owned()]).collect();
    let words: Vec<&str> = labels.iter().map(String::as_str).collect();
    let edges: Vec<_> = (0..24).map(|it| (it, 24, EdgeKind::After)).collect();
    let mut plan = graph("stop", &words, &edges);
    plan.on_failure = jobctl::sweep::OnFailure::Stop;
    let mut others = graph("others", &words[..12], &[]);
    others.on_failure = jobctl::sweep::OnFailure::Stop;
    let first = db.submit(&plan).await.unwrap().sweep;
    db.submit(&others).await;
    let id = db.worker().await;
    for round in 0..30 {
        let mut claimed = Vec::new();
        while claimed.len() < 6
            && let Some(it) = db.claim(id).await
        {
            claimed.push(it);
        }
        assert!(claimed.len() > 1, "round {round}");
        let mut ends = JoinSet::new();
        for (idx, it) in claimed.into_iter().enumerate() {
            let pool = db.pool.clone();
            let how = [How::Fail, How::Fail, How::Finish, How::Retry, How::Release, How::Fail][idx];
            ends.spawn(async move {
                let ended: anyhow::Result<()> = async {
                    let mut tx = pool.begin().await?;
                    use jobctl::job::outcome::Cause;
                    use jobctl::queue::settle;
                    match how {
                        How::Finish => settle::finish(&mut tx, it.id, it.lease).await?,
                        How::Fail => settle::fail(&mut tx, it.id, it.lease, "no picture").await?,
                        How::Retry => {
                            settle::retry_later(&mut tx, it.id, it.lease, Cause::Machine, "disk").await.map(drop)?;
                        }
                        How::Release => settle::release(&mut tx, it.id, it.lease).await?,
                    }
                    Ok(tx.commit().await?)
                }
                .await;
                ended.unwrap();
            });
        }
        ends.join_all().await;
        db.check_laws().await;
        let sweeps: Vec<i32> =
            sqlx::query_scalar("select id from sweep order by id").fetch_all(&db.pool).await.unwrap();
        for sweep in sweeps {
            let mut tx = db.begin().await;
            locks::alone(&mut tx).await.unwrap();
            control::revive_sweep(&mut tx, sweep).await.unwrap();
            let ended = control::retryable(&mut tx, sweep).await.unwrap();
            control::retry(&mut tx, &ended).await.unwrap();
            tx.commit().await.unwrap();
        }
        db.execute("update job_history set state = 'failed', error = 'again' where state = 'done'").await;
        let mut tx = db.begin().await;
        let ended = control::retryable(&mut tx, first).await.unwrap();
        control::retry(&mut tx, &ended).await.unwrap();
        tx.commit().await.unwrap();
        db.all_due().await;
    }
    assert_eq!(n_deadlocks(&db).await, 0, "deadlocks");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_stops_its_sweep_locks_what_that_reaches_before_anything_else() {
    let db = Database::new().await;
    // What needs a job of the sweep that stops needs an older one too, which is none of its.
    let edges = [(0, 2, EdgeKind::Needs), (1, 2, EdgeKind::Needs)];
    db.submit(&graph("others", &["older", "shared", "both"], &edges)).await;
    let mut stops = graph("stops", &["shared", "bad"], &[]);
    stops.on_failure = jobctl::sweep::OnFailure::Stop;
    db.submit(&stops).await;
    let worker = db.worker().await;
    let bad = db.job("bad").await;
    let mut claimed = Vec::new();
    while let Some(it) = db.claim(worker).await {
        claimed.push(it);
    }
    let failing = claimed.iter().find(|it| it.id == bad).unwrap();
    // Somebody ends the older one: it is locked, then what needs it.
    let (older, both) = (db.job("older").await, db.job("both").await);
    let mut tx = db.begin().await;
    sqlx::query("select from job where id = $1 for update").bind(older.0).execute(&mut *tx).await.unwrap();
    let end_older = async {
        let waits =
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        wait_until("the failure waits for it", LONG, async || db.number(waits).await > 0).await;
        sqlx::query("select from job where id = $1 for update nowait").bind(both.0).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
    };
    let (failed, ()) = tokio::join!(db.settle(failing, How::Fail), end_older);
    failed.unwrap();
    db.check_laws().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_finds_its_job_cancelled_locks_again_all_that_this_reaches() {
    let db = Database::new().await;
    let edges = [(1, 2, EdgeKind::Needs), (2, 0, EdgeKind::Needs)];
    db.submit(&graph("one", &["grandchild", "job", "child"], &edges)).await;
    let worker = db.worker().await;
    let claimed = db.claim(worker).await.unwrap();
    let (grandchild, child) = (db.job("grandchild").await, db.job("child").await);
    assert!(grandchild < child && claimed.id == db.job("job").await);
    let one_waits = async || {
        let waits =
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        wait_until("one waits", LONG, async || db.number(waits).await == 1).await;
    };
    let lock = |id: i64, how: &str| sqlx::AssertSqlSafe(format!("select from job where id = {id} for update {how}"));
    // It is given back while it is being cancelled, and while somebody else holds what needs what needs it.
    let (mut cancelling, mut other) = (db.begin().await, db.begin().await);
    sqlx::query("update job set cancel_requested_at = now() where id = $1")
        .bind(claimed.id.0)
        .execute(&mut *cancelling)
        .await
        .unwrap();
    sqlx::query(lock(grandchild.0, "")).execute(&mut *other).await.unwrap();
    let others = async {
        one_waits().await;
        cancelling.commit().await.unwrap();
        wait_until("it waits for the grandchild", LONG, async || {
            db.number(
                "select count(*) from pg_stat_activity where datname = current_database()
                and wait_event_type = 'Lock' and query not like '%array(select child%'",
            )
            .await
                == 1
        })
        .await;
        sqlx::query(lock(child.0, "nowait")).execute(&mut *other).await.expect("the end let go of the child");
        other.commit().await.unwrap();
    };
    let (released, ()) = tokio::join!(db.settle(&claimed, How::Release), others);
    released.unwrap();
    assert_eq!(db.number("select count(*) from job").await, 0, "all have ended with it");
    db.check_laws().await;
    assert_eq!(n_deadlocks(&db).await, 0, "deadlocks");
}
