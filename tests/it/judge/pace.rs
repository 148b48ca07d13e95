//! How fast machines are asked, by several workers together.

use std::time::{Duration, Instant};

use jobctl::queue::pace::{Pace, close, closed_for, correct, reserve};

use super::LONG;
use super::server::{Server, Taste};
use crate::support::database::Database;
use crate::support::process::Running;

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_keep_to_one_pace() {
    let db = Database::new().await;
    let server = Server::start(Taste::Detail, &[]);
    // One request in 250 ms, the first of them when both workers have had time to start.
    db.enqueue_judged("paced", 6, "requests_per_minute = 240");
    let (url, pace) = (server.url(), Pace { requests_per_minute: Some(240.0), tokens_per_minute: None });
    reserve(&db.pool, &url, "gpt-4o", pace, 1).await.unwrap();
    db.execute("update ask_pace set requests_at = now() + interval '4 s'").await;
    db.execute("create table first_place as select requests_at as at from ask_pace").await;
    let ask = || Running::start(db.asking(&server, &["worker", "--slots", "1", "--until-idle"]));
    let mut workers = [ask(), ask()];
    workers.iter_mut().for_each(|it| drop(it.ends_with(0, LONG)));
    db.check_judged(12, 36).await;
    assert_eq!(db.number("select count(*) from ask_pace").await, 1, "workers know the endpoint by the same name");
    // A request may be late, and then come close to the next; none comes before its place in time.
    let early = "select count(*)
        from (select asked_at, row_number() over (order by asked_at) - 1 as nth from asked) as asked, first_place
        where asked_at < first_place.at + nth * interval '250 ms'";
    assert_eq!(db.number(early).await, 0);
    assert_eq!(server.seen().len(), 12);
    let last = "select (extract(epoch from max(asked_at) - first_place.at) * 1000)::bigint from asked, first_place group by first_place.at";
    assert!(db.number(last).await >= 11 * 250);
    let both = "select count(distinct worker_id) from attempt";
    assert_eq!(db.number(both).await, 2, "both have asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn places_in_time_are_given_out_one_by_one() {
    let db = Database::new().await;
    let pace = Pace { requests_per_minute: Some(60.0), tokens_per_minute: Some(6000.0) };
    let place = async |tokens| Span::of(async || reserve(&db.pool, "here", "gpt", pace, tokens).await.unwrap()).await;
    let first = place(10).await;
    assert!(first.wait.is_zero());
    // A second for the request; 1000 tokens take ten.
    place(1000).await.is_after(&first, 1);
    place(10).await.is_after(&first, 11);
    // It took 500 tokens less than that.
    place(1000).await.is_after(&first, 12);
    correct(&db.pool, "here", "gpt", pace, -500).await.unwrap();
    place(10).await.is_after(&first, 17);
    // Other models and endpoints have their own time, and a pace of none is no pace.
    assert!(reserve(&db.pool, "here", "other", pace, 10).await.unwrap().is_zero());
    for _ in 0..3 {
        assert!(reserve(&db.pool, "there", "gpt", Pace::default(), 10_000).await.unwrap().is_zero());
    }
    // Who asks to be left alone is, and a shorter wish does not shorten a longer one.
    let wish = async |seconds| {
        close(&db.pool, "there", "gpt", Duration::from_secs(seconds)).await.unwrap();
        Duration::ZERO
    };
    let closed = Span::of(async || wish(300).await).await;
    wish(5).await;
    Span::of(async || closed_for(&db.pool, "there", "gpt").await.unwrap()).await.is_after(&closed, 300);
    Span::of(async || reserve(&db.pool, "there", "gpt", Pace::default(), 1).await.unwrap())
        .await
        .is_after(&closed, 300);
    assert!(closed_for(&db.pool, "nowhere", "gpt").await.unwrap().is_zero());
}

/// A wait that the database has told, and between which moments it did: however long that took, the place in time is known to
/// lie between two others.
struct Span {
    wait: Duration,
    asked: Instant,
    told: Instant,
}

impl Span {
    async fn of(ask: impl AsyncFnOnce() -> Duration) -> Self {
        let asked = Instant::now();
        let wait = ask().await;
        Self { wait, asked, told: Instant::now() }
    }

    /// Its place is so many seconds after the other's.
    #[track_caller]
    fn is_after(&self, first: &Self, seconds: u64) {
        // Clocks of two processes, and whole microseconds.
        let (expected, rounding) = (Duration::from_secs(seconds), Duration::from_millis(20));
        let earliest = self.asked + self.wait;
        let latest = self.told + self.wait;
        assert!(earliest <= first.told + first.wait + expected + rounding, "later than {seconds} s: {:?}", self.wait);
        assert!(latest + rounding >= first.asked + first.wait + expected, "earlier than {seconds} s: {:?}", self.wait);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_reserve_at_once_get_two_places() {
    let db = Database::new().await;
    let pace = Pace { requests_per_minute: Some(60.0), tokens_per_minute: None };
    let places = (0..10).map(|_| {
        let pool = db.pool.clone();
        tokio::spawn(async move { Span::of(async || reserve(&pool, "here", "gpt", pace, 1).await.unwrap()).await })
    });
    let mut found = Vec::new();
    for it in places.collect::<Vec<_>>() {
        found.push(it.await.unwrap());
    }
    found.sort_by_key(|it| it.asked + it.wait);
    for pair in found.windows(2) {
        let apart = (pair[1].told + pair[1].wait) - (pair[0].asked + pair[0].wait);
        assert!(apart >= Duration::from_millis(980), "two places within {apart:?}");
    }
    // Ten places are ten seconds, in all.
    let taken = "select (extract(epoch from requests_at - now()) * 1000)::bigint from ask_pace";
    let since = found.iter().map(|it| it.asked).min().unwrap();
    let left = db.number(taken).await;
    assert!(left + since.elapsed().as_millis() as i64 >= 9_980, "{left}");
}
