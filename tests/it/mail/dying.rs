//! kill -9 at every step of sending: nothing is mailed twice, nothing is lost.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{state, write};
use crate::support::database::Database;
use crate::support::process::Running;
use crate::support::smtp::Smtp;
use crate::support::wait_until;

const LONG: Duration = Duration::from_secs(60);

/// Kills a sender when the server has come to `step`, and lets others try until the mail's state is an end.
async fn killed_at(db: &Database, smtp: &Smtp, step: &str) -> String {
    write(db, "me@example.org");
    db.execute("update mail set run_at = now()").await;
    smtp.order(&format!("{step} hang"));
    let before = smtp.n(step);
    let mut sender = Running::start(smtp.command(db, ["mail", "send"]));
    wait_until(step, LONG, async || smtp.n(step) > before).await;
    sender.signal(Signal::KILL);
    sender.wait(LONG);
    smtp.order("");
    settle(db, smtp).await
}

/// Lets senders try until the mail's state is an end.
async fn settle(db: &Database, smtp: &Smtp) -> String {
    wait_until("it ends", LONG, async || {
        smtp.command(db, ["mail", "send"]).output().unwrap();
        ["sent", "failed", "doubtful"].contains(&state(db).await.as_str())
    })
    .await;
    state(db).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_killed_before_the_message_leaves_it_to_another() {
    let smtp = Smtp::start("plain");
    for (n, step) in ["ehlo", "mail", "rcpt", "data"].into_iter().enumerate() {
        let db = Database::new().await;
        assert_eq!(killed_at(&db, &smtp, step).await, "sent", "{step}");
        assert_eq!(smtp.taken().len(), n + 1, "{step}");
        assert_eq!(db.number("select n_attempts::bigint from mail").await, 3, "{step}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_killed_while_the_server_may_have_it_leaves_it_in_doubt() {
    let smtp = Smtp::start("plain");
    // `body`: the server has all of it and has not taken it. `reply`: it has taken it and not said so.
    for (step, n_taken) in [("body", 0), ("reply", 1)] {
        let db = Database::new().await;
        let before = smtp.taken().len();
        assert_eq!(killed_at(&db, &smtp, step).await, "doubtful", "{step}");
        assert_eq!(smtp.taken().len() - before, n_taken, "{step}");
        let mail = smtp.jobctl(&db, ["mail", "list", "--json"], 0).json();
        assert!(mail["error"].as_str().unwrap().contains("fell silent while the server may have had"), "{mail}");
        // A person says so: then it goes again, and whoever has it already sees that it is the same.
        let id = mail["id"].as_str().unwrap();
        smtp.jobctl(&db, ["mail", "retry", id], 0);
        assert_eq!(settle(&db, &smtp).await, "sent");
        let taken = smtp.taken();
        assert_eq!(taken.len() - before, n_taken + 1);
        assert!(taken[before..].iter().all(|it| *it == taken[before] && it.contains(id)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_killed_between_the_answer_and_the_commit_leaves_it_in_doubt() {
    let smtp = Smtp::start("plain");
    let db = Database::new().await;
    write(&db, "me@example.org");
    db.execute("update mail set run_at = now()").await;
    smtp.order("reply wait once");
    let mut command = smtp.command(&db, ["mail", "send"]);
    // Its own beat would wait for our lock as well.
    command.env("JOBCTL_BEAT_MS", "3600000");
    let mut sender = Running::start(command);
    wait_until("it is taken", LONG, async || smtp.n("reply") == 1).await;
    // What it writes after the server's answer waits for us.
    let mut tx = db.pool.begin().await.unwrap();
    sqlx::query("select from mail for update").execute(&mut *tx).await.unwrap();
    std::fs::write(smtp.folder.path().join("go"), "").unwrap();
    let waits = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
        and query like '%update mail%'";
    wait_until("it writes down that it was sent", LONG, async || db.number(waits).await == 1).await;
    sender.signal(Signal::KILL);
    sender.wait(LONG);
    // Postgres would go on with what the dead have asked for, which is the truth; so it forgets as well.
    let ended = "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = current_database()
        and wait_event_type = 'Lock' and query like '%update mail%'";
    assert_eq!(db.number(ended).await, 1);
    wait_until("it is forgotten", LONG, async || db.number(waits).await == 0).await;
    tx.rollback().await.unwrap();
    assert_eq!(settle(&db, &smtp).await, "doubtful");
    assert_eq!(smtp.taken().len(), 1);
}

/// Freezes a sender while the server waits at `step`, so that it looks dead to another; then both go on.
async fn frozen_at(db: &Database, smtp: &Smtp, step: &str, meanwhile: &str) {
    write(db, "me@example.org");
    db.execute("update mail set run_at = now()").await;
    let _ = std::fs::remove_file(smtp.folder.path().join("go"));
    smtp.order(&format!("{step} wait once"));
    let before = smtp.n(step);
    let mut sender = Running::start(smtp.command(db, ["mail", "send"]));
    wait_until(step, LONG, async || smtp.n(step) > before).await;
    sender.signal(Signal::STOP);
    wait_until("another looks at it", LONG, async || {
        smtp.command(db, ["mail", "send"]).output().unwrap();
        state(db).await == meanwhile
    })
    .await;
    std::fs::write(smtp.folder.path().join("go"), "").unwrap();
    sender.signal(Signal::CONT);
    sender.wait(LONG);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_was_only_slow_hands_nothing_over_twice_and_tells_the_truth() {
    let smtp = Smtp::start("plain");
    let db = Database::new().await;
    frozen_at(&db, &smtp, "rcpt", "sent").await;
    assert_eq!((state(&db).await.as_str(), smtp.taken().len()), ("sent", 1));
    let db = Database::new().await;
    frozen_at(&db, &smtp, "reply", "doubtful").await;
    assert_eq!((state(&db).await.as_str(), smtp.taken().len()), ("sent", 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_gets_each_mail_exactly_once_whenever_the_sender_dies() {
    const N: u32 = 24;
    let db = Database::new().await;
    let folder = db.home.path().join("mails");
    let start = || {
        let mut command = db.command(["mail", "send"]);
        command.env("JOBCTL_MAIL_DIR", &folder);
        Running::start(command)
    };
    let unsent = "select count(*) from mail where state <> 'sent'";
    write(&db, "first@example.org");
    db.execute("update mail set run_at = now()").await;
    let began = Instant::now();
    start().wait(LONG);
    let whole = began.elapsed();
    assert_eq!(db.number(unsent).await, 0);
    // From before it has begun to about when it is done.
    let mut killed = 0;
    for n in 0..N {
        write(&db, &format!("me{n}@example.org"));
        db.execute("update mail set run_at = now() where state = 'waiting'").await;
        let mut sender = start();
        tokio::time::sleep(whole * n / N).await;
        if sender.is_running() {
            sender.signal(Signal::KILL);
            killed += 1;
        }
        sender.wait(LONG);
    }
    assert!(killed > 1, "{killed} were killed");
    wait_until("all are sent", LONG, async || {
        start().wait(LONG);
        db.number(unsent).await == 0
    })
    .await;
    let files: Vec<String> =
        std::fs::read_dir(&folder).unwrap().map(|it| it.unwrap().file_name().to_string_lossy().into_owned()).collect();
    assert_eq!(files.iter().filter(|it| it.ends_with(".eml")).count(), N as usize + 1, "{files:?}");
}
