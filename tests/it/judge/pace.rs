//! How fast machines are asked, by several workers together.

use std::time::Duration;

use jobctl::queue::pace::{Pace, close, closed_for, correct, reserve};

use super::LONG;
use super::server::{Server, Taste};
use crate::support::database::Database;
use crate::support::process::Running;

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_keep_to_one_pace() {
    let db = Database::new().await;
    let server = Server::start(Taste::Detail, &[]);
    // One request in 250 ms.
    db.enqueue_judged("paced", 6, "requests_per_minute = 240");
    let ask = || Running::start(db.asking(&server, &["worker", "--slots", "1", "--until-idle"]));
    let mut workers = [ask(), ask()];
    workers.iter_mut().for_each(|it| drop(it.ends_with(0, LONG)));
    db.check_judged(12, 36).await;
    let mut at: Vec<_> = server.seen().iter().map(|it| it.at).collect();
    at.sort();
    // A request may be late, and then come close to the next: over several the pace shows.
    for window in at.windows(6) {
        let took = window[5] - window[0];
        assert!(took >= Duration::from_millis(5 * 250 - 400), "five more requests within {took:?}");
    }
    assert!(at[11] - at[0] >= Duration::from_millis(11 * 250 - 400));
    let both = "select count(distinct worker_id) from attempt";
    assert_eq!(db.number(both).await, 2, "both have asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn places_in_time_are_given_out_one_by_one() {
    let db = Database::new().await;
    let pace = Pace { requests_per_minute: Some(60.0), tokens_per_minute: Some(6000.0) };
    let place = async |tokens| reserve(&db.pool, "here", "gpt", pace, tokens).await.unwrap().as_secs_f64();
    let near = |it: f64, expected: f64| assert!((it - expected).abs() < 0.5, "{it} is not {expected}");
    near(place(10).await, 0.0);
    // A second for the request; 1000 tokens take ten.
    near(place(1000).await, 1.0);
    near(place(10).await, 11.0);
    // It took 500 tokens less than that.
    near(place(1000).await, 12.0);
    correct(&db.pool, "here", "gpt", pace, -500).await.unwrap();
    near(place(10).await, 17.0);
    // Other models and endpoints have their own time, and a pace of none is no pace.
    near(reserve(&db.pool, "here", "other", pace, 10).await.unwrap().as_secs_f64(), 0.0);
    for _ in 0..3 {
        near(reserve(&db.pool, "there", "gpt", Pace::default(), 10_000).await.unwrap().as_secs_f64(), 0.0);
    }
    // Who asks to be left alone is, and a shorter wish does not shorten a longer one.
    close(&db.pool, "there", "gpt", Duration::from_secs(30)).await.unwrap();
    close(&db.pool, "there", "gpt", Duration::from_secs(5)).await.unwrap();
    near(closed_for(&db.pool, "there", "gpt").await.unwrap().as_secs_f64(), 30.0);
    near(reserve(&db.pool, "there", "gpt", Pace::default(), 1).await.unwrap().as_secs_f64(), 30.0);
    near(closed_for(&db.pool, "nowhere", "gpt").await.unwrap().as_secs_f64(), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_reserve_at_once_get_two_places() {
    let db = Database::new().await;
    let pace = Pace { requests_per_minute: Some(60.0), tokens_per_minute: None };
    let places = (0..10).map(|_| {
        let pool = db.pool.clone();
        tokio::spawn(async move { reserve(&pool, "here", "gpt", pace, 1).await.unwrap().as_secs_f64() })
    });
    let mut found = Vec::new();
    for it in places.collect::<Vec<_>>() {
        found.push(it.await.unwrap());
    }
    found.sort_by(f64::total_cmp);
    for pair in found.windows(2) {
        assert!(pair[1] - pair[0] > 0.7, "{found:?}");
    }
}
