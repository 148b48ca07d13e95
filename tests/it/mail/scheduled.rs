//! Reports by schedule: rendered once, mailed once, whatever dies.

use std::fs;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::nights::program::{report, small};
use crate::support::database::Database;
use crate::support::process::Running;
use crate::support::smtp::Smtp;
use crate::support::wait_until;

/// Far more than anything here takes.
const LONG: Duration = Duration::from_secs(240);
const MAIL: &str =
    "[mail]\nto = [\"team@example.org\"]\nfrom = \"jobctl@example.org\"\nsubject = \"{title}: {verdict}\"";

fn add(db: &Database, path: &str) {
    // Of its own it comes due on one morning in four years: what fires it is the test.
    db.jobctl(["schedule", "add", "morning", "--cron", "0 8 29 2 *", "--report", path], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_workers_render_keep_and_mail_each_firing_once() {
    let db = Database::new().await;
    let smtp = Smtp::start("tls");
    small(&db);
    let path = report(&db, MAIL);
    add(&db, &path);
    // The definition is kept as it was: it may change or go.
    fs::remove_file(&path).unwrap();
    let _workers = [0; 3].map(|_| Running::start(smtp.patient(&db, ["worker", "--slots", "1"])));
    db.execute("update schedule set due_at = now()").await;
    wait_until("it is mailed", LONG, async || db.number("select count(*) from mail where state = 'sent'").await == 1)
        .await;
    db.jobctl(["schedule", "fire", "morning"], 0);
    wait_until("again", LONG, async || db.number("select count(*) from mail where state = 'sent'").await == 2).await;
    assert_eq!(db.number("select count(*) from report_run").await, 2);
    let lines = db.jobctl(["schedule", "history", "morning", "--json"], 0).json_lines();
    let verdicts: Vec<&str> = lines.iter().map(|it| it["result"]["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["nothing changed beyond noise", "first night"]);
    assert!(db.jobctl(["schedule", "list"], 0).out.contains("nothing changed"));
    let taken = smtp.taken();
    assert_eq!(taken.len(), 2);
    assert!(taken[0].contains("Subject: Every night: first night"), "{}", &taken[0][..1000]);
    assert!(taken[0].contains("multipart/related") && taken[0].contains("Content-ID: <chart1."));
    assert!(taken[0].contains("filename=\"nightly-"));
    // The moment is that at which it came due.
    assert_eq!(db.number("select count(*) from report_run where at = due_at").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_while_it_renders_leaves_the_firing_to_another() {
    let db = Database::new().await;
    small(&db);
    let path = report(&db, MAIL);
    add(&db, &path);
    let folder = db.home.path().join("mails");
    // However slow the machine, neither is taken for dead.
    let start = || {
        let mut command: Command = db.command(["worker", "--slots", "1"]);
        command.env("JOBCTL_MAIL_DIR", &folder).env("JOBCTL_STALE_MS", "60000");
        Running::start(command)
    };
    // Nobody can keep a night while we hold the table: the first worker is killed right before.
    let mut tx = db.pool.begin().await.unwrap();
    sqlx::query("lock table report_run in exclusive mode").execute(&mut *tx).await.unwrap();
    let mut first = start();
    db.jobctl(["schedule", "fire", "morning"], 0);
    let waits = "select count(*) from pg_locks where relation = 'report_run'::regclass and not granted";
    wait_until("it is about to keep the night", LONG, async || db.number(waits).await == 1).await;
    first.signal(Signal::KILL);
    first.wait(LONG);
    tx.rollback().await.unwrap();
    // Its minute is over.
    db.execute("update firing set held_until = now() where state = 'running'").await;
    let _second = start();
    wait_until("another mails it", LONG, async || {
        db.number("select count(*) from mail where state = 'sent'").await == 1
    })
    .await;
    assert_eq!(db.number("select count(*) from report_run").await, 1);
    assert_eq!(db.number("select n_attempts::bigint from firing").await, 2);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn good_nights_are_passed_over_where_only_regressions_are_asked_for() {
    let db = Database::new().await;
    small(&db);
    let path = report(&db, &format!("{MAIL}\nonly_on_regression = true"));
    let said = db.jobctl(["report", &path, "--mail"], 0).out;
    assert!(said.contains("no mail: the definition asks for one on regressions alone"), "{said}");
    db.execute("insert into sweep (slug, name, plan_key, definition, on_failure, priority, program, metrics) \
        select 'small-x', 'small', decode(repeat('ab', 32), 'hex'), '', on_failure, priority, program, metrics from sweep").await;
    let said = db.jobctl(["report", &path, "--mail", "--json"], 0).json();
    // The newest sweep of that name has nothing in it: all that was there is gone.
    assert_eq!(said["good"], false, "{said}");
    assert!(said["mail"].is_string(), "{said}");
    assert_eq!(db.number("select count(*) from mail").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_cannot_be_mailed_is_refused_before_it_is_scheduled() {
    let db = Database::new().await;
    let path = report(&db, "[mail]\nto = \"me@example.org\"");
    let said = db.jobctl(["schedule", "add", "x", "--cron", "0 8 * * *", "--report", &path], 1).err;
    assert!(said.contains("JOBCTL_MAIL_FROM"), "{said}");
    assert_eq!(db.number("select count(*) from schedule").await, 0);
}
