//! Firings in the database: each once, whoever looks, and what becomes of missed and failed ones.

use std::sync::Arc;
use std::time::Duration;

use jobctl::queue::LeaseLost;
use jobctl::queue::schedule::firing::{come_due, fail, finish, leave_to_others, renew, take};
use jobctl::queue::schedule::{self, Firing, Missed};
use tokio::sync::Barrier;
use uuid::Uuid;

use crate::support::database::Database;

const HOLD: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn many_workers_at_once_make_and_take_each_firing_once() {
    let db = Arc::new(Database::new().await);
    for n in 0..5 {
        db.schedule(&format!("s{n}"), "* * * * *", Missed::All).await;
    }
    db.execute("update schedule set due_at = date_trunc('minute', now()) - interval '9 minutes'").await;
    let barrier = Arc::new(Barrier::new(8));
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (db, barrier) = (db.clone(), barrier.clone());
        workers.spawn(async move {
            let holder = Uuid::now_v7();
            let mut taken = Vec::new();
            barrier.wait().await;
            for _ in 0..4 {
                come_due(&db.pool).await.unwrap();
                while let Some(it) = take(&db.pool, holder, "host", HOLD).await.unwrap() {
                    let mut tx = db.begin().await;
                    finish(&mut tx, it.held, &serde_json::json!({})).await.unwrap();
                    tx.commit().await.unwrap();
                    taken.push((it.name, it.due_at));
                }
            }
            taken
        });
    }
    let mut all: Vec<_> = workers.join_all().await.into_iter().flatten().collect();
    let n = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), n, "a firing was taken twice");
    // A minute may begin while this runs.
    assert!((50..=55).contains(&n), "{n}");
    assert_eq!(db.number("select count(*) from firing").await, i64::try_from(n).unwrap());
    assert_eq!(db.number("select count(*) from firing where state <> 'done'").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_pause_has_missed_is_made_up_for_as_the_policy_says() {
    for (missed, expected) in
        [(Missed::Skip, vec!["missed"]), (Missed::Once, vec!["due"]), (Missed::All, vec!["due"; 5])]
    {
        let db = Database::new().await;
        // Half a day from now, so that no firing is on time.
        let hour = db
            .number("select extract(hour from now() at time zone 'Europe/Berlin' + interval '12 hours')::bigint")
            .await;
        let id = db.schedule("nightly", &format!("0 {hour} * * *"), missed).await;
        schedule::set_firing(&db.pool, id, Firing::Paused).await.unwrap();
        // As if it had been paused for five firings.
        db.execute("update schedule set due_at = (due_at at time zone 'Europe/Berlin' - interval '5 days') at time zone 'Europe/Berlin'").await;
        assert_eq!(come_due(&db.pool).await.unwrap(), 0, "it is paused");
        assert!(db.firings().await.is_empty());
        schedule::set_firing(&db.pool, id, Firing::On).await.unwrap();
        come_due(&db.pool).await.unwrap();
        come_due(&db.pool).await.unwrap();
        assert_eq!(db.firings().await, expected, "{missed:?}");
        let n_before = db.number("select sum(n_missed) from firing").await;
        assert_eq!(n_before, if missed == Missed::All { 0 } else { 4 }, "{missed:?}");
        assert_eq!(db.number("select count(*) from schedule where due_at > now()").await, 1, "{missed:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_firing_on_time_is_none_that_was_missed() {
    let db = Database::new().await;
    db.schedule("often", "* * * * *", Missed::Skip).await;
    db.execute("update schedule set due_at = date_trunc('minute', now())").await;
    assert_eq!(come_due(&db.pool).await.unwrap(), 1);
    assert_eq!(db.firings().await, ["due"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_databases_clock_makes_a_schedule_due() {
    let db = Database::new().await;
    db.schedule("nightly", "0 3 * * *", Missed::All).await;
    assert_eq!(come_due(&db.pool).await.unwrap(), 0);
    assert_eq!(
        db.number("select count(*) from schedule where due_at > now() and due_at <= now() + interval '25 hours'").await,
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_firing_whose_worker_falls_silent_is_anothers_and_the_first_can_end_it_no_more() {
    let db = Database::new().await;
    let id = db.schedule("nightly", "0 3 * * *", Missed::Once).await;
    schedule::fire(&db.pool, id).await.unwrap();
    let first = take(&db.pool, Uuid::now_v7(), "one", HOLD).await.unwrap().unwrap();
    renew(&db.pool, first.held, HOLD).await.unwrap();
    assert!(take(&db.pool, Uuid::now_v7(), "two", HOLD).await.unwrap().is_none(), "it is held");
    db.execute("update firing set held_until = now() - interval '1 second'").await;
    let second = take(&db.pool, Uuid::now_v7(), "two", HOLD).await.unwrap().unwrap();
    let mut tx = db.begin().await;
    assert!(finish(&mut tx, first.held, &1).await.unwrap_err().is::<LeaseLost>());
    tx.rollback().await.unwrap();
    assert!(renew(&db.pool, first.held, HOLD).await.unwrap_err().is::<LeaseLost>());
    assert!(fail(&db.pool, first.held, "x").await.unwrap_err().is::<LeaseLost>());
    let mut tx = db.begin().await;
    finish(&mut tx, second.held, &serde_json::json!({ "sweep": "s" })).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(db.firings().await, ["done"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_firing_keeps_its_error_and_is_tried_again_later_a_few_times() {
    let db = Database::new().await;
    let id = db.schedule("nightly", "0 3 * * *", Missed::Once).await;
    schedule::fire(&db.pool, id).await.unwrap();
    for n in 1..=5 {
        let taken = take(&db.pool, Uuid::now_v7(), "host", HOLD).await.unwrap().unwrap();
        assert_eq!(fail(&db.pool, taken.held, &format!("no disk {n}")).await.unwrap(), n < 5);
        if n < 5 {
            assert_eq!(db.number("select count(*) from firing where run_at > now() + interval '10 seconds'").await, 1);
            assert!(take(&db.pool, Uuid::now_v7(), "host", HOLD).await.unwrap().is_none(), "it must wait");
        }
        db.execute("update firing set run_at = now()").await;
    }
    assert_eq!(db.firings().await, ["failed"]);
    assert_eq!(db.text("select error from firing").await, "no disk 5");
    assert!(take(&db.pool, Uuid::now_v7(), "host", HOLD).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_the_folder_leaves_the_firing_to_others() {
    let db = Database::new().await;
    let id = db.schedule("nightly", "0 3 * * *", Missed::Once).await;
    schedule::fire(&db.pool, id).await.unwrap();
    let (without, with) = (Uuid::now_v7(), Uuid::now_v7());
    let taken = take(&db.pool, without, "bare", HOLD).await.unwrap().unwrap();
    leave_to_others(&db.pool, taken.held, "bare has no folder /nowhere").await.unwrap();
    assert!(take(&db.pool, without, "bare", HOLD).await.unwrap().is_none());
    assert_eq!(db.number("select n_attempts::bigint from firing").await, 0);
    assert!(take(&db.pool, with, "full", HOLD).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_schedule_fires_no_more_and_its_name_is_free() {
    let db = Database::new().await;
    let id = db.schedule("nightly", "0 3 * * *", Missed::Once).await;
    schedule::fire(&db.pool, id).await.unwrap();
    schedule::remove(&db.pool, id).await.unwrap();
    assert!(take(&db.pool, Uuid::now_v7(), "host", HOLD).await.unwrap().is_none());
    assert_eq!(db.firings().await, ["missed"]);
    db.schedule("nightly", "0 4 * * *", Missed::Once).await;
    assert_eq!(schedule::history(&db.pool, Some("nightly"), 10).await.unwrap().len(), 1);
}
