//! Endpoints on bad days: late, wrong, truncated, refusing, hostile. Nothing is asked more often than it must be.

use std::time::Duration;

use super::LONG;
use super::server::{Answer, SNAPSHOT, Server, Taste};
use crate::support::database::Database;
use crate::support::process::Running;

/// One pair, one order, one aspect: one question.
const ONE: &str = "both_orders = false\naspects = [\"fine_details\"]";

/// Asks one question of a server with this script. Returns what was seen of it, in order.
async fn one(db: &Database, script: &[Answer]) -> Vec<super::server::Seen> {
    let server = Server::start(Taste::Detail, script);
    db.enqueue_judged("one", 1, ONE);
    db.ask_all(&server);
    server.seen()
}

async fn outcomes(db: &Database) -> Vec<(String, i16, String)> {
    sqlx::query_as("select outcome, nth, coalesce(error, '') from asked order by id").fetch_all(&db.pool).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_wants_to_be_left_alone_is() {
    let db = Database::new().await;
    let busy = Answer::Status(429, "Retry-After: 2\r\n", "slow down");
    let broken = Answer::Status(500, "Retry-After: 0\r\n", "oops");
    let seen = one(&db, &[busy, broken]).await;
    assert_eq!(seen.len(), 3);
    let pause = seen[1].at - seen[0].at;
    assert!((Duration::from_secs(2)..LONG).contains(&pause), "{pause:?}");
    db.check_judged(1, 1).await;
    let words: Vec<String> = outcomes(&db).await.into_iter().map(|it| it.0).collect();
    assert_eq!(words, ["refused", "refused", "answered"]);
    assert!(outcomes(&db).await[0].2.contains("429: slow down"));
    assert_eq!(db.number("select count(*) from attempt").await, 1, "it is no failed attempt");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_understood_is_asked_once_more_and_no_more() {
    let db = Database::new().await;
    let nonsense = Answer::Says("Both have their charm, I cannot say.".to_owned(), "stop");
    let cut = Answer::Says("1. Fine Details: the first ima".to_owned(), "length");
    for (script, choice, n_asked) in [
        (vec![nonsense.clone()], "valid", 2),
        (vec![Answer::Refuses], "valid", 2),
        (vec![cut.clone()], "valid", 2),
        (vec![Answer::Raw(b"<html>maintenance</html>".to_vec())], "valid", 2),
        (vec![nonsense, cut], "invalid", 2),
        (vec![Answer::Refuses, Answer::Refuses, Answer::Refuses], "invalid", 2),
    ] {
        let seen = one(&db, &script).await;
        assert_eq!(seen.len(), n_asked, "{script:?}");
        let said = db.text("select choice from verdict").await;
        assert_eq!(said == "invalid", choice == "invalid", "{script:?}: {said}");
        assert_eq!(db.number("select count(*) from asked where outcome = 'answered' and nth = 1").await, 1);
        db.check_judged(2, 1).await;
        // Each case begins with nothing known.
        db.execute("truncate verdict, asked, job_key, job_history, sweep_job, cell, source, asking_job cascade").await;
        db.execute("delete from asking").await;
        db.execute("truncate attempt, attempt_log cascade").await;
        db.execute("delete from sweep").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_is_asked_for_again_and_counted() {
    let db = Database::new().await;
    let server = Server::start(Taste::Detail, &[Answer::BreaksOff, Answer::Well]);
    db.enqueue_judged("lost", 1, ONE);
    db.ask_all(&server);
    db.check_judged(1, 1).await;
    let words: Vec<String> = outcomes(&db).await.into_iter().map(|it| it.0).collect();
    assert_eq!(words, ["lost", "answered"]);
    let status = db.jobctl(["status", "--json"], 0).json();
    assert_eq!(status["asking"][0]["lost"], 1);
    // What may have been paid for stays reserved.
    assert!(status["asking"][0]["spent"].as_f64() > status["asking"][0]["cost"].as_f64());

    // An answer that takes longer than it may is as good as lost.
    let db = Database::new().await;
    let server = Server::start(Taste::Detail, &[Answer::Late(Duration::from_secs(12)), Answer::Well]);
    db.enqueue_judged("late", 1, ONE);
    let mut command = db.asking(&server, &["worker", "--slots", "1", "--until-idle"]);
    command.env("JOBCTL_OPENAI_TIMEOUT_MS", "5000");
    Running::start(command).ends_with(0, LONG);
    db.check_judged(1, 1).await;
    assert!(outcomes(&db).await[0].2.contains("took too long"), "{:?}", outcomes(&db).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_refused_fails_at_once_and_a_wrong_key_is_the_machines_fault() {
    let db = Database::new().await;
    let seen = one(&db, &[Answer::Status(400, "", "image too large")]).await;
    assert_eq!(seen.len(), 1);
    assert!(db.text("select error from failure").await.contains("the endpoint answers 400: image too large"));
    assert_eq!(db.text("select cause from attempt").await, "task");

    let db = Database::new().await;
    let server = Server::start(Taste::Detail, &vec![Answer::Status(401, "", "Incorrect API key"); 5]);
    db.enqueue_judged("denied", 1, ONE);
    db.execute("update job set max_attempts = 1").await;
    db.ask_all(&server);
    assert_eq!(server.seen().len(), 1);
    assert_eq!(db.text("select cause from attempt").await, "machine");
    assert!(db.text("select error from failure").await.contains("401: Incorrect API key"));
    assert_eq!(db.number("select (spent * 1e9)::bigint from asking").await, 0, "refused requests cost nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_answers_stay_text() {
    let db = Database::new().await;
    let text = "\u{1b}[2J\u{1b}]0;owned\u{7}<script>alert(1)</script>\u{202e} Fine Details: the first image is better. \
        The reason is <img src=x onerror=alert(1)>\u{1b}[31m\u{0}";
    let seen = one(&db, &[Answer::Says(text.to_owned(), "stop")]).await;
    assert_eq!(seen.len(), 1);
    let content = db.text("select content from asked").await;
    assert!(content.contains("<script>alert(1)</script>") && content.contains('\u{fffd}'), "{content:?}");
    assert!(db.text("select reason from verdict").await.starts_with("img src=x onerror=alert(1)>\u{1b}[31m"));
    let job = db.number("select id from job_history").await.to_string();
    for verb in [&["show", &job][..], &["logs", &job], &["status"], &["jobs"]] {
        let out = db.jobctl(verb, 0).out;
        assert!(!out.contains('\u{1b}') && !out.contains('\u{202e}'), "{verb:?}: {out:?}");
    }

    // Ten megabytes are read, kept in part, and asked about once more.
    let db = Database::new().await;
    let long = format!(
        "{{\"model\": \"{SNAPSHOT}\", \"choices\": [{{\"message\": {{\"content\": \"{}\"}}}}]}}",
        "x".repeat(10 << 20)
    );
    let seen = one(&db, &[Answer::Raw(long.into_bytes())]).await;
    assert_eq!(seen.len(), 2);
    assert_eq!(db.number("select max(length(raw))::bigint from asked").await, 1 << 20);
    assert_eq!(db.number("select max(length(content))::bigint from asked").await, 64 << 10);
    db.check_judged(2, 1).await;
}
