//! kill -9 of the worker at every step of a request: what was answered is not asked again, and no verdict is there twice.

use rustix::process::Signal;
use sqlx::Connection;

use super::LONG;
use super::server::{Answer, Server, Taste};
use crate::support::database::Database;
use crate::support::wait_until;

/// One pair, one order: one question, three verdicts.
const ONE: &str = "both_orders = false";

/// A transaction that keeps others from writing to a table until it is dropped.
struct Shut(sqlx::PgConnection);

impl Shut {
    async fn table(db: &Database, statement: &'static str) -> Self {
        let mut connection = sqlx::PgConnection::connect(&db.url).await.unwrap();
        sqlx::query("begin").execute(&mut connection).await.unwrap();
        sqlx::query(statement).execute(&mut connection).await.unwrap();
        Self(connection)
    }

    async fn open(mut self) {
        sqlx::query("rollback").execute(&mut self.0).await.unwrap();
    }
}

/// How many statements wait for a lock.
async fn n_waiting(db: &Database) -> i64 {
    db.number("select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'")
        .await
}

async fn rescued(db: &Database, server: &Server) {
    db.give_up().await;
    db.ask_all(server);
    assert_eq!(db.number("select count(*) from attempt where outcome = 'lost'").await, 1);
    assert_eq!(db.number("select count(*) from attempt where outcome = 'done'").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_it_asks_it_asks_once() {
    let db = Database::new().await;
    let server = Server::start(Taste::Detail, &[]);
    db.enqueue_judged("before", 1, ONE);
    let shut = Shut::table(&db, "lock table asked in exclusive mode").await;
    let mut worker = db.asker(&server);
    wait_until("it is about to ask", LONG, async || n_waiting(&db).await > 0).await;
    worker.signal(Signal::KILL);
    worker.wait(LONG);
    shut.open().await;
    assert!(server.seen().is_empty(), "nothing goes out before it is written");
    rescued(&db, &server).await;
    assert_eq!(server.seen().len(), 1);
    db.check_judged(1, 3).await;
    assert_eq!(db.number("select count(*) from asked").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_waits_it_asks_again_and_says_so() {
    let db = Database::new().await;
    let server = Server::start(Taste::Detail, &[Answer::Gated]);
    db.enqueue_judged("while", 1, ONE);
    let mut worker = db.asker(&server);
    wait_until("it has asked", LONG, async || server.seen().len() == 1).await;
    assert_eq!(db.number("select count(*) from asked where outcome = 'open'").await, 1);
    worker.signal(Signal::KILL);
    worker.wait(LONG);
    server.open_gate();
    rescued(&db, &server).await;
    assert_eq!(server.seen().len(), 2);
    db.check_judged(1, 3).await;
    assert_eq!(db.number("select count(*) from asked where outcome = 'lost' and nth = 0").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_the_answer_is_stored_it_asks_again_and_says_so() {
    let db = Database::new().await;
    let server = Server::start(Taste::Detail, &[Answer::Gated]);
    db.enqueue_judged("unstored", 1, ONE);
    let mut worker = db.asker(&server);
    wait_until("it has asked", LONG, async || server.seen().len() == 1).await;
    let shut = Shut::table(&db, "lock table asked in exclusive mode").await;
    server.open_gate();
    wait_until("it is about to store the answer", LONG, async || n_waiting(&db).await > 0).await;
    worker.signal(Signal::KILL);
    worker.wait(LONG);
    shut.open().await;
    rescued(&db, &server).await;
    assert_eq!(server.seen().len(), 2);
    db.check_judged(1, 3).await;
    assert_eq!(db.number("select count(*) from asked where outcome = 'lost'").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_the_answer_is_stored_it_does_not_ask_again() {
    let db = Database::new().await;
    let server = Server::start(Taste::Detail, &[]);
    db.enqueue_judged("stored", 1, ONE);
    let shut = Shut::table(&db, "lock table verdict in exclusive mode").await;
    let mut worker = db.asker(&server);
    wait_until("the answer is stored", LONG, async || {
        db.number("select count(*) from asked where outcome = 'answered'").await == 1 && n_waiting(&db).await > 0
    })
    .await;
    worker.signal(Signal::KILL);
    worker.wait(LONG);
    shut.open().await;
    assert_eq!(db.number("select count(*) from verdict").await, 0, "a result and its job's end are one transaction");
    rescued(&db, &server).await;
    assert_eq!(server.seen().len(), 1);
    db.check_judged(1, 3).await;
    assert_eq!(db.number("select count(*) from asked").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_it_waits_for_the_answer_that_it_has_asked_for() {
    let db = Database::new().await;
    let server = Server::start(Taste::Detail, &[Answer::Late(std::time::Duration::from_millis(1500))]);
    db.enqueue_judged("drained", 1, ONE);
    let mut command = db.asking(&server, &["worker", "--slots", "1"]);
    command.env("JOBCTL_GRACE_MS", "20000");
    let mut worker = crate::support::process::Running::start(command);
    wait_until("it has asked", LONG, async || server.seen().len() == 1).await;
    worker.signal(Signal::USR1);
    worker.ends_with(0, LONG);
    // Given back, uncharged, its answer stored.
    assert_eq!(db.number("select count(*) from asked where outcome = 'answered'").await, 1);
    db.ask_all(&server);
    assert_eq!(server.seen().len(), 1);
    db.check_judged(1, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_kills_leaves_each_question_one_answer() {
    let db = Database::new().await;
    let late = |ms| Answer::Late(std::time::Duration::from_millis(ms));
    let script: Vec<Answer> = (0..200).map(|it| late(20 + 37 * it % 160)).collect();
    let server = Server::start(Taste::Detail, &script);
    db.enqueue_judged("storm", 8, "");
    db.execute("update job set max_attempts = 1000").await;
    for round in 0..6_u64 {
        let mut worker = db.asker(&server);
        tokio::time::sleep(std::time::Duration::from_millis(700 + 170 * round)).await;
        worker.signal(Signal::KILL);
        worker.wait(LONG);
        db.give_up().await;
    }
    db.ask_all(&server);
    db.check_judged(16, 48).await;
    let n_seen = server.seen().len() as i64;
    let n_written = db.number("select count(*) from asked").await;
    assert!(n_seen <= n_written, "{n_seen} requests went out, {n_written} were written");
    assert_eq!(n_written - 16, db.number("select count(*) from asked where outcome = 'lost'").await);
    let twice = "select count(*) from (select from asked where outcome = 'answered' group by key, nth having count(*) > 1) as twice";
    assert_eq!(db.number(twice).await, 0);
}
