//! Priority, turns of the sweeps, and how far what is loaded may go before others.

use jobctl::job::Hash;
use jobctl::job::needs::Offer;
use jobctl::plan::{Edge, EdgeKind, Plan};
use jobctl::queue::claim::claim;
use jobctl::queue::{control, order};
use uuid::Uuid;

use crate::support::database::Database;
use crate::support::graph::{How, graph};

fn plan(name: &str, n: usize) -> Plan {
    let labels: Vec<String> = (0..n).map(|it| format!("{name} {it}")).collect();
    graph(name, &labels.iter().map(String::as_str).collect::<Vec<_>>(), &[])
}

/// Takes and finishes so many jobs; returns the names of their sweeps.
async fn work(db: &Database, worker: Uuid, n: usize) -> Vec<String> {
    let mut names = Vec::new();
    for _ in 0..n {
        let job = db.claim(worker).await.expect("a job is ready");
        let name = "select sweep.name from sweep_job join sweep on sweep.id = sweep_id where job_id = $1";
        names.push(sqlx::query_scalar(name).bind(job.id.0).fetch_one(&db.pool).await.unwrap());
        db.settle(&job, How::Finish).await.unwrap();
    }
    names
}

fn n_of(names: &[String], name: &str) -> usize {
    names.iter().filter(|it| *it == name).count()
}

/// A slot that has the model of this label loaded takes a job.
async fn claim_loaded(db: &Database, worker: Uuid, label: &[u8]) -> jobctl::queue::claim::Claimed {
    let loaded = Some(Hash::of(label).first_8_bytes());
    claim(&db.pool, worker, "cpu:0", &Offer::default(), loaded).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_sweep_does_not_wait_for_a_large_one() {
    let db = Database::new().await;
    let worker = db.worker().await;
    db.submit(&plan("large", 2000)).await;
    assert_eq!(n_of(&work(&db, worker, 50).await, "large"), 50);
    db.submit(&plan("small", 10)).await;
    // It begins a few places behind the head, and then the two take turns.
    let names = work(&db, worker, 30).await;
    assert_eq!(n_of(&names, "small"), 10, "{names:?}");
    assert!(n_of(&names[..8], "large") >= 4, "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sweeps_of_one_priority_get_equal_shares() {
    let db = Database::new().await;
    let worker = db.worker().await;
    for (name, n) in [("a", 300), ("b", 60), ("c", 120)] {
        db.submit(&plan(name, n)).await;
    }
    let names = work(&db, worker, 90).await;
    for name in ["a", "b", "c"] {
        assert!((25..=35).contains(&n_of(&names, name)), "{name} had {} of 90", n_of(&names, name));
    }
    // One that comes in the middle neither overtakes the others nor waits for all that came before it.
    db.submit(&plan("d", 200)).await;
    work(&db, worker, 20).await;
    let names = work(&db, worker, 80).await;
    for name in ["a", "b", "c", "d"] {
        assert!((14..=26).contains(&n_of(&names, name)), "{name} had {} of 80", n_of(&names, name));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stages_keep_their_order_within_a_sweep() {
    let db = Database::new().await;
    let worker = db.worker().await;
    let mut chain = plan("chain", 6);
    chain.edges =
        [(0, 3), (1, 4), (2, 5)].map(|(parent, child)| Edge { parent, child, kind: EdgeKind::Needs }).to_vec();
    db.submit(&chain).await;
    for idx in 0..6 {
        db.work_on(worker, &format!("chain {idx}"), How::Finish).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_sweep_has_not_waited_for_what_others_got() {
    let db = Database::new().await;
    let worker = db.worker().await;
    let paused = db.submit(&plan("paused", 200)).await.unwrap().sweep;
    let mut tx = db.begin().await;
    control::set_paused(&mut tx, paused, true).await.unwrap();
    tx.commit().await.unwrap();
    db.submit(&plan("busy", 400)).await;
    work(&db, worker, 100).await;
    let mut tx = db.begin().await;
    control::set_paused(&mut tx, paused, false).await.unwrap();
    tx.commit().await.unwrap();
    let names = work(&db, worker, 60).await;
    assert!((20..=40).contains(&n_of(&names, "busy")), "{} of 60", n_of(&names, "busy"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retried_sweep_takes_its_turn() {
    let db = Database::new().await;
    let worker = db.worker().await;
    let failed = plan("failed", 40);
    let sweep = db.submit(&failed).await.unwrap().sweep;
    while let Some(job) = db.claim(worker).await {
        db.settle(&job, How::Fail).await.unwrap();
    }
    db.submit(&plan("busy", 400)).await;
    work(&db, worker, 100).await;
    let mut tx = db.begin().await;
    let jobs = control::retryable(&mut tx, sweep).await.unwrap();
    assert_eq!(control::retry(&mut tx, &jobs).await.unwrap(), 40);
    tx.commit().await.unwrap();
    let names = work(&db, worker, 40).await;
    assert!((10..=30).contains(&n_of(&names, "busy")), "{} of 40", n_of(&names, "busy"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweeps_priority_can_be_changed() {
    let db = Database::new().await;
    let worker = db.worker().await;
    let first = db.submit(&graph("first", &["a", "b", "both"], &[])).await.unwrap().sweep;
    let second = db.submit(&graph("second", &["c", "both"], &[])).await.unwrap().sweep;
    let set = async |sweep, priority| {
        let mut tx = db.begin().await;
        order::set_priority(&mut tx, sweep, priority).await.unwrap();
        tx.commit().await.unwrap();
    };
    set(second, 3).await;
    db.work_on(worker, "both", How::Retry).await;
    db.execute("update job set run_at = now() + interval '1 hour' where n_attempts > 0").await;
    set(second, -3).await;
    // What both want has the higher of their priorities.
    assert_eq!(db.number("select priority::bigint from job where n_attempts = 1").await, 0);
    for label in ["a", "b"] {
        db.work_on(worker, label, How::Finish).await;
    }
    set(first, 1).await;
    set(second, 2).await;
    db.all_due().await;
    assert_eq!(db.number("select count(*) from job where priority = 2").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_loaded_passes_nobody_over_for_longer_than_two_minutes() {
    let db = Database::new().await;
    let worker = db.worker().await;
    // One job of another model before a stream of those that the slot has loaded.
    let mut plan = plan("stream", 60);
    for job in &mut plan.jobs[1..] {
        job.affinity = Some(Hash::of(b"loaded"));
    }
    db.submit(&plan).await;
    let other = db.job("stream 0").await;
    for _ in 0..20 {
        let job = claim_loaded(&db, worker, b"loaded").await;
        assert_ne!(job.id, other);
        db.settle(&job, How::Finish).await.unwrap();
    }
    assert_eq!(db.number("select count(*) from job where passed_at is not null").await, 1);
    db.execute("update job set passed_at = now() - interval '119 seconds' where passed_at is not null").await;
    let job = claim_loaded(&db, worker, b"loaded").await;
    assert_ne!(job.id, other);
    db.settle(&job, How::Finish).await.unwrap();
    db.execute("update job set passed_at = now() - interval '121 seconds' where passed_at is not null").await;
    assert_eq!(claim_loaded(&db, worker, b"loaded").await.id, other);
    assert_eq!(db.number("select count(*) from job where passed_at is not null").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_loaded_is_looked_for_in_a_window_of_turns() {
    let db = Database::new().await;
    let worker = db.worker().await;
    let mut plan = plan("far", 300);
    for job in &mut plan.jobs {
        job.affinity = None;
    }
    plan.jobs[255].affinity = Some(Hash::of(b"near"));
    plan.jobs[299].affinity = Some(Hash::of(b"far"));
    db.submit(&plan).await;
    assert_eq!(claim_loaded(&db, worker, b"far").await.id, db.job("far 0").await);
    assert_eq!(claim_loaded(&db, worker, b"near").await.id, db.job("far 255").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_of_one_model_do_not_fall_over_each_other() {
    let db = Database::new().await;
    let mut plan = plan("models", 40);
    for (idx, job) in plan.jobs.iter_mut().enumerate() {
        job.affinity = Some(Hash::of(if idx % 2 == 0 { b"even" } else { b"odd!" }));
    }
    db.submit(&plan).await;
    // Eight claims at once, all of slots that have the same model: none has to load the other.
    let mut claimers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (worker, pool) = (db.worker().await, db.pool.clone());
        let loaded = Some(Hash::of(b"odd!").first_8_bytes());
        claimers.spawn(async move { claim(&pool, worker, "cpu:0", &Offer::default(), loaded).await.unwrap().unwrap() });
    }
    let claimed = claimers.join_all().await;
    assert!(claimed.iter().all(|it| it.affinity == Some(Hash::of(b"odd!").first_8_bytes())));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_tried_goes_first_when_it_is_due_and_a_higher_priority_before_it() {
    let db = Database::new().await;
    let worker = db.worker().await;
    db.submit(&graph("flaky", &["a", "b", "c"], &[])).await;
    db.work_on(worker, "a", How::Retry).await;
    db.execute("update job set run_at = now() + interval '1 hour' where n_attempts > 0").await;
    db.work_on(worker, "b", How::Finish).await;
    db.all_due().await;
    let mut urgent = graph("urgent", &["d"], &[]);
    urgent.priority = 1;
    db.submit(&urgent).await;
    for label in ["d", "a", "c"] {
        db.work_on(worker, label, How::Finish).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_and_priorities_are_changed_on_the_command_line() {
    let db = Database::new().await;
    let worker = db.worker().await;
    db.submit(&plan("first", 4)).await;
    db.submit(&plan("second", 4)).await;
    db.jobctl(["priority", "second", "-2"], 0);
    assert_eq!(db.number("select count(*) from job where priority = -2").await, 4);
    db.jobctl(["limit", "first", "1"], 0);
    db.jobctl(["limit", "--kind", "evaluate", "2"], 0);
    assert_eq!(work(&db, worker, 1).await, ["first"]);
    for name in ["first 1", "second 0"] {
        assert_eq!(db.claim(worker).await.unwrap().id, db.job(name).await);
    }
    assert!(db.claim(worker).await.is_none());
    let limits = db.jobctl(["limit", "--json"], 0).json();
    assert_eq!(
        (&limits[0]["kind"], &limits[0]["n_running"], &limits[0]["max_running"]),
        (&"evaluate".into(), &2.into(), &2.into())
    );
    assert_eq!((&limits[1]["n_running"], &limits[1]["max_running"]), (&1.into(), &1.into()));
    assert!(db.jobctl(["limit"], 0).out.contains("kind evaluate"));
    db.jobctl(["limit", "--kind", "evaluate", "none"], 0);
    assert_eq!(db.claim(worker).await.unwrap().id, db.job("second 1").await);
    assert!(db.jobctl(["limit", "--kind", "evaulate", "2"], 2).err.contains("kinds are"));
    assert!(db.jobctl(["limit", "first", "0"], 2).err.contains("pause"));
    assert!(db.jobctl(["limit", "first"], 2).err.contains("limit SWEEP N"));
}
