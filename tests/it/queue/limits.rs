//! Limits of sweeps and kinds: exact, whoever claims and however attempts end.

use std::time::{Duration, Instant};

use jobctl::job::needs::Offer;
use jobctl::queue::claim::{Claimed, claim};
use jobctl::queue::limit::{self, Of};
use jobctl::queue::rescue::rescue;
use jobctl::queue::{control, locks, settle};

use crate::support::database::Database;
use crate::support::graph::{How, graph};
use crate::support::wait_until;

async fn set(db: &Database, of: Of<'_>, max_running: Option<i32>) {
    let mut tx = db.begin().await;
    limit::set(&mut tx, of, max_running).await.unwrap();
    tx.commit().await.unwrap();
    db.check_laws().await;
}

fn labels(prefix: &str, n: usize) -> Vec<String> {
    (0..n).map(|it| format!("{prefix} {it}")).collect()
}

fn plan(name: &str, n: usize, max_running: Option<u32>) -> jobctl::plan::Plan {
    let labels = labels(name, n);
    let mut plan = graph(name, &labels.iter().map(String::as_str).collect::<Vec<_>>(), &[]);
    plan.max_running = max_running;
    plan
}

async fn claim_all(db: &Database, worker: uuid::Uuid) -> Vec<Claimed> {
    let mut claimed = Vec::new();
    while let Some(job) = db.claim(worker).await {
        claimed.push(job);
    }
    claimed
}

/// Eight claimers take and finish jobs until nothing is left; returns the most that ran at a time, as each of them saw it
/// right after a claim of its own, by a query of `n_running`.
async fn most_at_once(db: &Database, n_jobs: i64, n_running: &'static str) -> i64 {
    let mut claimers = tokio::task::JoinSet::new();
    for idx in 0..8 {
        let (worker, pool) = (db.worker().await, db.pool.clone());
        claimers.spawn(async move {
            let mut most = 0;
            loop {
                let Some(job) = claim(&pool, worker, "cpu:0", &Offer::default(), None).await.unwrap() else {
                    let left: i64 = sqlx::query_scalar("select count(*) from job").fetch_one(&pool).await.unwrap();
                    if left == 0 {
                        return most;
                    }
                    tokio::time::sleep(Duration::from_millis(3)).await;
                    continue;
                };
                most = most.max(sqlx::query_scalar(n_running).fetch_one(&pool).await.unwrap());
                let mut tx = pool.begin().await.unwrap();
                if (job.id.0 + idx) % 7 == 0 {
                    settle::release(&mut tx, job.id, job.lease).await.unwrap();
                } else {
                    settle::finish(&mut tx, job.id, job.lease).await.unwrap();
                }
                tx.commit().await.unwrap();
            }
        });
    }
    let most = claimers.join_all().await.into_iter().max().unwrap();
    db.check_laws().await;
    assert_eq!(db.number("select count(*) from job_history where state = 'done'").await, n_jobs);
    most
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweeps_limit_holds_under_eight_claimers() {
    let db = Database::new().await;
    db.submit(&plan("limited", 150, Some(3))).await;
    let most = most_at_once(&db, 150, "select count(*) from job where state = 'running'").await;
    assert_eq!(most, 3, "three may run, and with eight claimers three do");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kinds_limit_and_a_sweeps_hold_together() {
    let db = Database::new().await;
    db.submit(&plan("limited", 60, Some(2))).await;
    db.submit(&plan("free", 60, None)).await;
    set(&db, Of::Kind("evaluate"), Some(4)).await;
    // More than is allowed would show as a larger number: 100 for each sweep's job beyond 2.
    let most = most_at_once(
        &db,
        120,
        "select count(*) + 100 * greatest(0, count(*) filter (where sweep.name = 'limited') - 2)
        from job join sweep_job on sweep_job.job_id = job.id join sweep on sweep.id = sweep_job.sweep_id
        where job.state = 'running'",
    )
    .await;
    assert_eq!(most, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limited_sweep_keeps_no_slot_from_the_others() {
    let db = Database::new().await;
    let worker = db.worker().await;
    let mut limited = plan("limited", 20, Some(1));
    limited.priority = 5;
    db.submit(&limited).await;
    db.submit(&plan("free", 3, None)).await;
    assert_eq!(claim_all(&db, worker).await.len(), 4, "one of the limited sweep, and all of the other");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_end_of_an_attempt_frees_its_place() {
    let db = Database::new().await;
    let worker = db.worker().await;
    let sweep = db.submit(&plan("limited", 8, Some(1))).await.unwrap().sweep;
    for how in [How::Finish, How::Fail, How::Retry, How::Release] {
        let job = db.claim(worker).await.unwrap();
        assert!(db.claim(worker).await.is_none());
        db.settle(&job, how).await.unwrap();
        db.check_laws().await;
    }
    // Given up with its worker.
    db.claim(worker).await.unwrap();
    db.execute("update worker set beat_at = now() - interval '1 hour'").await;
    assert_eq!(rescue(&db.pool, Duration::from_secs(45), Duration::from_secs(30)).await.unwrap(), 1);
    db.check_laws().await;
    // Cancelled.
    let worker = db.worker().await;
    let job = db.claim(worker).await.unwrap();
    let mut tx = db.begin().await;
    control::cancel_sweep(&mut tx, sweep).await.unwrap();
    settle::release(&mut tx, job.id, job.lease).await.unwrap();
    tx.commit().await.unwrap();
    db.check_laws().await;
    assert_eq!(db.number("select count(*) from permit where lease is null").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_comes_later_counts_what_runs() {
    let db = Database::new().await;
    let worker = db.worker().await;
    let sweep = db.submit(&plan("late", 10, None)).await.unwrap().sweep;
    let mut running = Vec::new();
    for _ in 0..3 {
        running.push(db.claim(worker).await.unwrap());
    }
    set(&db, Of::Sweep(sweep), Some(2)).await;
    for left in [3, 2] {
        assert!(db.claim(worker).await.is_none(), "{left} run");
        db.settle(&running.pop().unwrap(), How::Finish).await.unwrap();
    }
    assert!(db.claim(worker).await.is_some());
    assert!(db.claim(worker).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_lowered_raised_and_lifted_while_jobs_run() {
    let db = Database::new().await;
    let worker = db.worker().await;
    let sweep = db.submit(&plan("changes", 30, Some(5))).await.unwrap().sweep;
    let mut running = claim_all(&db, worker).await;
    assert_eq!(running.len(), 5);
    // What had the higher places ends first: the others keep theirs.
    set(&db, Of::Sweep(sweep), Some(2)).await;
    for n_left in [4, 3, 2] {
        db.settle(&running.pop().unwrap(), How::Finish).await.unwrap();
        assert!(db.claim(worker).await.is_none(), "{n_left} run");
    }
    db.settle(&running.pop().unwrap(), How::Finish).await.unwrap();
    running.extend(claim_all(&db, worker).await);
    assert_eq!(running.len(), 2);
    set(&db, Of::Sweep(sweep), Some(4)).await;
    running.extend(claim_all(&db, worker).await);
    assert_eq!(running.len(), 4);
    set(&db, Of::Sweep(sweep), None).await;
    for _ in 0..3 {
        running.push(db.claim(worker).await.unwrap());
    }
    set(&db, Of::Sweep(sweep), Some(8)).await;
    running.extend(claim_all(&db, worker).await);
    assert_eq!(running.len(), 8);
    for job in &running {
        db.settle(job, How::Finish).await.unwrap();
    }
    db.check_laws().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_changes_under_eight_claimers_is_never_exceeded() {
    let db = Database::new().await;
    const N_RUNNING: &str = "select count(*) from job where state = 'running'";
    let sweep = db.submit(&plan("shaken", 400, Some(6))).await.unwrap().sweep;
    let pool = db.pool.clone();
    let shaking = tokio::spawn(async move {
        let mut n_looks = 0;
        for max_running in [Some(1), Some(5), None, Some(2), Some(6), Some(1), None, Some(3)] {
            let mut tx = pool.begin().await.unwrap();
            limit::set(&mut tx, Of::Sweep(sweep), max_running).await.unwrap();
            tx.commit().await.unwrap();
            // What ran before goes on; once that is few enough, it stays so.
            let (begun, mut is_kept) = (Instant::now(), false);
            while begun.elapsed() < Duration::from_millis(60) {
                let n: i64 = sqlx::query_scalar(N_RUNNING).fetch_one(&pool).await.unwrap();
                let Some(most) = max_running.map(i64::from) else { continue };
                assert!(n <= most || !is_kept, "{n} run, and {most} may");
                is_kept |= n <= most;
                n_looks += usize::from(is_kept && n > 0);
            }
        }
        n_looks
    });
    most_at_once(&db, 400, N_RUNNING).await;
    assert!(shaking.await.unwrap() > 20, "it was looked at while jobs ran");
    assert_eq!(db.number("select count(*) from permit where number <= 3").await, 3);
    db.check_laws().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_behind_a_gate_waits_for_nobody() {
    let db = Database::new().await;
    let worker = db.worker().await;
    db.submit(&plan("limited", 3, Some(2))).await;
    // Somebody is in the middle of taking the first job and the first place, and does not come to an end.
    let mut stuck = db.begin().await;
    sqlx::query("select from job order by id limit 1 for update").execute(&mut *stuck).await.unwrap();
    sqlx::query("select from permit order by number limit 1 for update").execute(&mut *stuck).await.unwrap();
    let claimed = tokio::time::timeout(Duration::from_secs(5), db.claim(worker)).await.expect("it does not wait");
    assert_eq!(claimed.unwrap().id, db.job("limited 1").await);
    assert!(tokio::time::timeout(Duration::from_secs(5), db.claim(worker)).await.expect("it does not wait").is_none());
    stuck.rollback().await.unwrap();
    assert!(db.claim(worker).await.is_some());
    db.check_laws().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lanes_of_ended_sweeps_are_closed_and_opened_again() {
    let db = Database::new().await;
    let worker = db.worker().await;
    let plans: Vec<_> = (0..70).map(|it| plan(&format!("s{it}"), 1, Some(1))).collect();
    for plan in &plans {
        db.submit(plan).await;
    }
    while let Some(job) = db.claim(worker).await {
        db.settle(&job, How::Fail).await.unwrap();
    }
    assert_eq!(db.number("select count(*) from lane where closed_at is null").await, 72);
    db.submit(&plan("next", 1, Some(1))).await;
    assert_eq!(
        db.number("select count(*) from lane where closed_at is null").await,
        3,
        "two without gates, and its own"
    );
    db.work_on(worker, "next 0", How::Finish).await;
    let mut tx = db.begin().await;
    let sweep = sqlx::query_scalar("select id from sweep where name = 's7'").fetch_one(&mut *tx).await.unwrap();
    let jobs = control::retryable(&mut tx, sweep).await.unwrap();
    control::retry(&mut tx, &jobs).await.unwrap();
    tx.commit().await.unwrap();
    db.work_on(worker, "s7 0", How::Finish).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lanes_of_ended_sweeps_are_used_again() {
    let db = Database::new().await;
    let worker = db.worker().await;
    for idx in 0..150 {
        let name = format!("s{idx}");
        // With a limit in the file, and with one that comes later.
        let limit_later = idx % 3 == 0;
        let sweep = db.submit(&plan(&name, 2, (!limit_later).then_some(1))).await.unwrap().sweep;
        if limit_later {
            set(&db, Of::Sweep(sweep), Some(1)).await;
        }
        let job = db.claim(worker).await.unwrap();
        assert!(db.claim(worker).await.is_none(), "two of {name} run");
        db.settle(&job, How::Finish).await.unwrap();
        db.work_on(worker, &format!("{name} 1"), How::Finish).await;
    }
    let n_lanes = db.number("select count(*) from lane").await;
    assert!(n_lanes <= 70, "{n_lanes} lanes after 150 sweeps with a limit");
    let n_wrong = db
        .number("select count(*) from job_history left join lane on lane.id = job_history.lane where lane.id is null or n_gpus <> 0")
        .await;
    assert_eq!(n_wrong, 0, "a job that has ended has lost what it needs");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_unlimited_sweep_wants_too_is_not_limited() {
    let db = Database::new().await;
    let worker = db.worker().await;
    let mut limited = graph("limited", &["a", "b", "c"], &[]);
    limited.max_running = Some(1);
    db.submit(&limited).await;
    db.submit(&graph("free", &["b", "c"], &[])).await;
    assert_eq!(claim_all(&db, worker).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn enqueueing_again_takes_over_the_files_new_limit_and_priority() {
    let db = Database::new().await;
    let worker = db.worker().await;
    let mut plan = plan("edited", 5, Some(1));
    db.submit(&plan).await;
    (plan.max_running, plan.priority) = (Some(3), 9);
    assert!(db.submit(&plan).await.is_none());
    assert_eq!(claim_all(&db, worker).await.len(), 3);
    assert_eq!(db.number("select count(*) from job where priority = 9").await, 5);
    plan.max_running = None;
    db.submit(&plan).await;
    assert_eq!(claim_all(&db, worker).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_retried_goes_behind_limits_that_came_meanwhile() {
    let db = Database::new().await;
    let worker = db.worker().await;
    let sweep = db.submit(&plan("late", 4, None)).await.unwrap().sweep;
    let retry = async || {
        let mut tx = db.begin().await;
        let ended = control::retryable(&mut tx, sweep).await.unwrap();
        assert_eq!(control::retry(&mut tx, &ended).await.unwrap(), 4);
        tx.commit().await.unwrap();
        let claimed = claim_all(&db, worker).await;
        db.check_laws().await;
        let n = claimed.len();
        for job in claimed {
            db.settle(&job, How::Fail).await.unwrap();
        }
        while let Some(job) = db.claim(worker).await {
            db.settle(&job, How::Fail).await.unwrap();
        }
        n
    };
    for job in claim_all(&db, worker).await {
        db.settle(&job, How::Fail).await.unwrap();
    }
    set(&db, Of::Sweep(sweep), Some(1)).await;
    assert_eq!(retry().await, 1, "the sweep's limit");
    set(&db, Of::Kind("evaluate"), Some(2)).await;
    set(&db, Of::Sweep(sweep), None).await;
    assert_eq!(retry().await, 2, "the kind's limit");
    set(&db, Of::Kind("evaluate"), None).await;
    assert_eq!(retry().await, 4, "no limit any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_and_an_enqueue_with_one_wait_for_each_other_in_turn() {
    let db = Database::new().await;
    let sweep = db.submit(&plan("one", 2, Some(1))).await.unwrap().sweep;
    let mut enqueuing = locks::begin_alone(&db.pool).await.unwrap();
    let pool = db.pool.clone();
    let limiting = tokio::spawn(async move {
        let mut tx = pool.begin().await.unwrap();
        limit::set(&mut tx, Of::Sweep(sweep), Some(2)).await.unwrap();
        tx.commit().await.unwrap();
    });
    wait_until("the limit waits", Duration::from_secs(30), async || {
        db.number("select count(*) from pg_locks where locktype = 'advisory' and not granted").await > 0
    })
    .await;
    limit::set(&mut enqueuing, Of::Sweep(sweep), Some(3)).await.unwrap();
    enqueuing.commit().await.unwrap();
    limiting.await.unwrap();
    assert_eq!(db.number("select max_running::bigint from gate").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_change_the_graph_and_falls_silent_loses_that() {
    let db = Database::new().await;
    let mut silent = locks::begin_alone(&db.pool).await.unwrap();
    let bound: String =
        sqlx::query_scalar("show idle_in_transaction_session_timeout").fetch_one(&mut *silent).await.unwrap();
    assert_eq!(bound, "1min");
    sqlx::query("set local idle_in_transaction_session_timeout = '300ms'").execute(&mut *silent).await.unwrap();
    let next = tokio::time::timeout(Duration::from_secs(20), db.submit(&plan("next", 1, None))).await;
    assert!(next.expect("it does not wait for ever").is_some());
    assert!(silent.commit().await.is_err());
}
