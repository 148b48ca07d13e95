//! Every way in which a rehearsal goes wrong: what is said of it, how often it is tried, and what is left.

use std::time::{Duration, Instant};

use rustix::process::Pid;

use super::LONG;
use super::rehearse::rehearsal;
use crate::support::database::Database;
use crate::support::process::{Running, lives};
use crate::support::wait_until;

/// How a rehearsal ends that goes wrong in all of its attempts.
struct Ends {
    fault: &'static str,
    cause: &'static str,
    n_attempts: i64,
    words: &'static str,
}

#[tokio::test(flavor = "multi_thread")]
async fn each_death_is_told_by_its_name_and_tried_as_often_as_it_helps() {
    let ends = |fault, cause, n_attempts, words| Ends { fault, cause, n_attempts, words };
    let table = [
        ends("kill", "signal", 3, "signal 9 (SIGKILL)"),
        ends("abort", "signal", 3, "signal 6 (SIGABRT)"),
        ends("exit", "exit", 3, "status 3"),
        ends("oom", "memory", 2, "memory ran out twice"),
        ends("gpu_oom", "memory", 2, "memory ran out twice"),
        ends("fail", "task", 1, "told to fail"),
        ends("retry", "machine", 3, "the machine's fault (attempt 3 of 3)"),
        ends("panic", "task", 1, "panicked: it was told to panic"),
        ends("hang", "deadline", 3, "longer than 3 s"),
        ends("flood", "deadline", 3, "longer than 3 s"),
    ];
    let db = Database::new().await;
    let path = db.home.path().join("deaths.toml");
    let mut text = "name = \"deaths\"\n\n[limits]\nrehearse = \"3s\"\n".to_owned();
    for (seed, it) in table.iter().enumerate() {
        let fault = it.fault;
        text.push_str(&format!(
            "\n[[rehearse]]\nname = \"{fault}\"\nseconds = 0\nseed = {seed}\nfault = \"{fault}\"\n"
        ));
    }
    std::fs::write(&path, text).unwrap();
    db.enqueue(&path);
    let mut command = db.command(["worker", "--slots", "2"]);
    command.env("RUST_BACKTRACE", "0");
    let mut worker = Running::start(command);
    // Without the waits between attempts, which are tested elsewhere.
    let start = Instant::now();
    while db.number("select count(*) from job").await > 0 {
        assert!(start.elapsed() < LONG, "still at it after {LONG:?}");
        db.all_due().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(worker.is_running(), "the agent outlives them all");
    let rows: Vec<(String, String, String, i64)> = sqlx::query_as(
        "select failure.source, failure.error, failure.state, failure.n_attempts::bigint from failure order by job",
    )
    .fetch_all(&db.pool)
    .await
    .unwrap();
    assert_eq!(rows.len(), table.len());
    for (it, (source, error, state, n_attempts)) in table.iter().zip(&rows) {
        assert_eq!((it.fault, "failed", it.n_attempts), (source.as_str(), state.as_str(), *n_attempts), "{error}");
        assert!(error.contains(it.words), "{source}: {error}");
        let causes: Vec<String> = sqlx::query_scalar(
            "select distinct attempt.cause from attempt join failure on failure.job = attempt.job_id
            where failure.source = $1",
        )
        .bind(source)
        .fetch_all(&db.pool)
        .await
        .unwrap();
        assert_eq!(causes, [it.cause], "{source}");
    }
    let error = |fault: &str| &rows.iter().find(|it| it.0 == fault).unwrap().1;
    // Its last words, where nobody else says what happened.
    assert!(
        error("oom").contains("the end of its log") && error("oom").contains("memory allocation of"),
        "{}",
        error("oom")
    );
    assert!(error("flood").lines().count() > 15, "{}", error("flood"));
    assert!(!error("retry").contains("its log"), "{}", error("retry"));
    // Prints without end, and fills nothing.
    let most = "select max(n) from (select count(*) as n from attempt_log group by lease) as logs";
    assert!((1_000..=10_300).contains(&db.number(most).await));
    let marks = "select count(*) from attempt_log where line like '[jobctl: % lines are left out here]'";
    assert_eq!(db.number(marks).await, 3);
    // A person sees the history of its attempts.
    let job = db.number("select job from failure where source = 'kill'").await.to_string();
    let shown = db.jobctl(["show", &job], 0).out;
    assert_eq!(shown.matches("signal 9").count(), 4, "{shown}");
    db.check_laws().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_task_leaves_behind_is_ended_with_it() {
    let db = Database::new().await;
    db.enqueue(&rehearsal(&db, "daemon", "seconds = 0\nfault = \"daemon\""));
    let mut worker = db.spawn(["worker", "--slots", "1"]);
    wait_until("it is done", LONG, async || {
        db.number("select count(*) from job_history where state = 'done'").await == 1
    })
    .await;
    let line = db.text("select line from attempt_log where line like 'left process %'").await;
    let left = Pid::from_raw(line.rsplit(' ').next().unwrap().parse().unwrap()).unwrap();
    wait_until("the process is ended", Duration::from_secs(5), async || !lives(left)).await;
    assert!(worker.is_running());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_was_too_short_is_raised_by_enqueueing_again() {
    let db = Database::new().await;
    let keys = "seconds = 2\n\n[limits]\nrehearse = \"1s\"";
    let path = rehearsal(&db, "short", keys);
    db.enqueue(&path);
    db.execute("update job set max_attempts = 1").await;
    db.spawn(["worker", "--slots", "1", "--until-idle"]).ends_with(0, LONG);
    assert!(db.text("select error from failure").await.contains("longer than 1 s"));
    rehearsal(&db, "short", &keys.replace("1s", "1min"));
    db.enqueue(&path);
    db.jobctl(["retry", "short"], 0);
    db.spawn(["worker", "--slots", "1", "--until-idle"]).ends_with(0, LONG);
    assert_eq!(db.text("select state from job_history").await, "done");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_in_which_inputs_are_gathered_counts_to_the_limit() {
    let db = Database::new().await;
    let keys = "seconds = 60\nsteps = 60\ncheckpoint_every = 60\n\n[limits]\nrehearse = \"3s\"";
    db.enqueue(&rehearsal(&db, "late", keys));
    db.execute("update job set max_attempts = 1").await;
    // What was saved before cannot be looked up for a while.
    let mut lock = db.pool.begin().await.unwrap();
    sqlx::query("lock table checkpoint in access exclusive mode").execute(&mut *lock).await.unwrap();
    let mut command = db.command(["worker", "--slots", "1", "--until-idle", "--no-schedules"]);
    // So that nobody rescues the job before its agent ends it.
    command.env("JOBCTL_GRACE_MS", "60000");
    let mut worker = Running::start(command);
    wait_until("it is claimed", LONG, async || db.n_running().await == 1).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    lock.rollback().await.unwrap();
    worker.ends_with(0, LONG);
    let took = db.number("select extract(epoch from ended_at - started_at)::bigint from attempt").await;
    assert!((3..=4).contains(&took), "{took} s");
    assert_eq!(db.text("select cause from attempt").await, "deadline");
}
