//! The roles of those who enqueue and of workers can do all that asking takes, and a worker that slept does no harm.

use rustix::process::Signal;
use sqlx::AssertSqlSafe;

use super::server::{Answer, KEY, Server, TOKENS, Taste};
use super::{LONG, judged};
use crate::support::database::Database;
use crate::support::process::{Printed, Running};
use crate::support::wait_until;

/// The address of the database for a login of this test's own, a member of `role`.
async fn login(db: &Database, role: &str) -> (String, String) {
    let name = format!("it_judge_{}_{role}", std::process::id());
    let statement = format!("create role {name} login password 'pass' in role {role}");
    sqlx::query(AssertSqlSafe(statement)).execute(&db.pool).await.unwrap();
    let mut url = url::Url::parse(&db.url).unwrap();
    url.set_username(&name).unwrap();
    url.set_password(Some("pass")).unwrap();
    (name, url.into())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workers_role_asks_and_an_enqueuers_says_what_may_be_spent() {
    let db = Database::new().await;
    let server = Server::start(Taste::Detail, &[Answer::Status(429, "Retry-After: 0\r\n", "slow down")]);
    db.jobctl(["db", "roles"], 0);
    let (enqueuer, enqueuers) = login(&db, "jobctl_enqueuer").await;
    let (worker, workers) = login(&db, "jobctl_worker").await;
    let enqueue = |keys: &str| {
        let path = judged(&db, "roles", 2, keys);
        let mut command = db.command(["enqueue", path.to_str().unwrap(), "--json"]);
        Printed::of(command.env("DATABASE_URL", &enqueuers).output().unwrap(), 0).json()
    };
    let work = || {
        let mut command = db.asking(&server, &["worker", "--slots", "1", "--until-idle"]);
        command.env("DATABASE_URL", &workers);
        Running::start(command).ends_with(0, LONG)
    };
    // Enough for one.
    enqueue("budget = 0.012\nrequests_per_minute = 6000");
    work();
    assert!(db.number("select count(*) from job_history where error like 'budget spent%'").await > 0);
    assert!(enqueue("budget = 2\nrequests_per_minute = 6000")["revived"].as_u64().unwrap() > 0);
    work();
    db.check_judged(4, 12).await;
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    for name in [enqueuer, worker] {
        sqlx::query(AssertSqlSafe(format!("drop role {name}"))).execute(&db.pool).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_of_a_worker_that_slept_is_kept_and_counts_as_no_second_vote() {
    let db = Database::new().await;
    let server = Server::start(Taste::Detail, &[Answer::Gated]);
    db.enqueue_judged("slept", 1, "both_orders = false");
    let slow = db.asker(&server);
    wait_until("it has asked", LONG, async || server.seen().len() == 1).await;
    slow.signal(Signal::STOP);
    db.give_up().await;
    db.ask_all(&server);
    assert_eq!(server.seen().len(), 2);
    db.check_judged(1, 3).await;
    server.open_gate();
    slow.signal(Signal::CONT);
    wait_until("its answer is kept", LONG, async || {
        db.number("select count(*) from asked where outcome = 'surplus'").await == 1
    })
    .await;
    db.check_judged(1, 3).await;
    let price = (TOKENS.0 as f64 * 2.5 + TOKENS.1 as f64 * 10.0) / 1e6;
    let spent = db.number("select round(spent * 1e9)::bigint from asking").await;
    assert_eq!(spent, (2.0 * price * 1e9).round() as i64, "both were paid for");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_asks_by_itself_and_refuses_to_begin_where_it_could_not() {
    let db = Database::new().await;
    let server = Server::start(Taste::Detail, &[]);
    let path = judged(&db, "run", 1, "aspects = [\"fine_details\"]");
    let text = std::fs::read_to_string(&path).unwrap() + "\n[evaluate]\nmetrics = [\"glcm_score\"]\n";
    std::fs::write(&path, text).unwrap();
    let said = db.jobctl(["run", path.to_str().unwrap()], 2).err;
    assert!(said.contains("2 jobs of this sweep need an agent that asks judges and captioners"), "{said}");
    assert_eq!(db.number("select count(*) from sweep").await, 0);
    let mut command = db.asking(&server, &["run", path.to_str().unwrap(), "--json"]);
    let ran = Printed::of(command.env("JOBCTL_OPENAI_KEY", KEY).output().unwrap(), 0);
    assert_eq!(ran.json()["jobs"]["done"], 2 + 2);
    assert_eq!(server.seen().len(), 2);
    db.check_judged(2, 2).await;
}
