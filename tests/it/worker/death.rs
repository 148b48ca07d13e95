//! Workers, slots and Postgres die in the middle, and nothing is lost or doubled.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use jobctl::config::Secret;
use jobctl::database::{connect, private::Postgres};
use rustix::process::{Pid, Signal, kill_process};

use super::{LONG, quick, slow};
use crate::support::database::Database;
use crate::support::pictures::{pictures_of, sweep};
use crate::support::process::{Printed, Running, lives};
use crate::support::wait_until;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_loses_nothing() {
    let db = Database::new().await;
    db.enqueue(&quick(&db, 120));
    let mut victim = db.spawn(["worker", "--slots", "2"]);
    wait_until("20 jobs done", LONG, async || db.n_ended().await >= 20).await;
    let slots = victim.slots();
    victim.signal(Signal::KILL);
    victim.wait(LONG);
    wait_until("the slots end with their agent", LONG, async || !slots.iter().any(|it| lives(*it))).await;
    assert!(db.number("select count(*) from job").await > 0, "the worker was done before it was killed");
    let n_orphans = db.n_running().await;

    db.spawn(["worker", "--slots", "2", "--until-idle"]).ends_with(0, LONG);
    db.check_complete(120, 2).await;
    assert_eq!(db.number("select count(*) from attempt where outcome = 'lost'").await, n_orphans);
    assert_eq!(db.number("select count(*) from attempt").await, db.n_ended().await + n_orphans);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_slot_costs_one_attempt() {
    let db = Database::new().await;
    db.enqueue(&slow(&db, 3));
    let mut worker = db.spawn(["worker", "--slots", "1", "--until-idle"]);
    wait_until("a job runs", LONG, async || db.n_running().await == 1).await;
    let slots = worker.slots();
    assert_eq!(slots.len(), 1);
    kill_process(slots[0], Signal::KILL).unwrap();
    worker.ends_with(0, LONG);
    assert_eq!(db.number("select count(*) from job_history where state <> 'done'").await, 0);
    assert_eq!(db.number("select count(*) from attempt where outcome <> 'done'").await, 1);
    assert_eq!(db.text("select outcome from attempt where outcome <> 'done'").await, "retried");
    let error = db.text("select error from attempt where outcome <> 'done'").await;
    assert!(error.contains("signal") || error.contains("kill"), "{error}");
    db.check_laws().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_sleeps_too_long_changes_nothing_when_it_wakes() {
    let db = Database::new().await;
    db.enqueue(&slow(&db, 1));
    let mut sleeper = db.spawn(["worker", "--slots", "1"]);
    wait_until("a job runs", LONG, async || db.n_running().await == 1).await;
    sleeper.signal(Signal::STOP);
    db.spawn(["worker", "--slots", "1", "--until-idle"]).ends_with(0, LONG);
    assert_eq!(db.number("select count(*) from attempt where outcome = 'lost'").await, 1);
    let results = "select string_agg(t::text, '; ' order by t::text) from (
        select id::text, state, n_attempts::text from job_history
        union all select job_id::text, outcome, number::text from attempt
        union all select image_id::text, metric || variant, value::text || scored_at from score
        union all select picture::text, pixels::text, made_at::text from image
    ) as t";
    let before = db.text(results).await;

    sleeper.signal(Signal::CONT);
    wait_until("the worker registers anew", LONG, async || db.number("select count(*) from worker").await == 3).await;
    sleeper.signal(Signal::TERM);
    let said = sleeper.ends_with(0, LONG);
    assert!(said.contains("given up for dead") || said.contains("lease is lost"), "{said}");
    assert_eq!(db.text(results).await, before);
    assert_eq!(db.number("select max(n_attempts)::bigint from job_history").await, 2);
    db.check_laws().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_survives_that_postgres_crashes_and_comes_back() {
    let home = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .unwrap();
    let server = Postgres::new(home.path());
    let url = server.start().unwrap();
    let photos = home.path().join("photos");
    pictures_of(&photos, 150, 320, 240);
    let path = sweep(&photos, "crash", "", &["glcm_score", "compression_ratio"]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_jobctl"));
    command.arg("run").arg(&path).env("JOBCTL_HOME", home.path()).env_remove("DATABASE_URL").stdin(Stdio::null());
    for (name, value) in [("BEAT", "200"), ("STALE", "4000"), ("GRACE", "500"), ("POLL", "100")] {
        command.env(format!("JOBCTL_{name}_MS"), value);
    }
    let mut run = Running::start(command);
    let n_done = async || {
        let Ok(pool) = connect(&Secret::new(url.reveal()), 1).await else { return -1 };
        let n = sqlx::query_scalar("select count(*) from job_history where state = 'done'").fetch_one(&pool).await;
        pool.close().await;
        n.unwrap_or(-1_i64)
    };
    wait_until("20 jobs done", LONG, async || n_done().await >= 20).await;
    restart(&home.path().join("postgres/data"));
    assert!(n_done().await < 151, "the run was over before the crash");
    run.ends_with(0, LONG);
    assert_eq!(n_done().await, 151);
    let pool = connect(&url, 1).await.unwrap();
    let twice: i64 = sqlx::query_scalar("select count(*) - count(distinct (image_id, metric, variant)) from score")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(twice, 0);
    pool.close().await;
    assert!(server.stop().unwrap());
}

/// Crashes the server of this folder and starts it at the same address.
fn restart(data: &std::path::Path) {
    let program = fs::read_to_string(data.join("postmaster.opts")).unwrap();
    let program = program.split_whitespace().next().unwrap();
    let owner = data.metadata().unwrap();
    let mut command = Command::new(std::path::Path::new(program).with_file_name("pg_ctl"));
    if rustix::process::getuid().is_root() {
        command.uid(owner.uid()).gid(owner.gid());
    }
    command.args(["restart", "--mode=immediate", "--wait", "--silent", "-D"]).arg(data);
    command.arg("-l").arg(data.with_file_name("log")).current_dir("/").stdin(Stdio::null());
    // The server must not hold pipes of this test.
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert!(status.success(), "pg_ctl restart: {status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_killed_goes_on_where_it_was() {
    let db = Database::new().await;
    let path = quick(&db, 100);
    let mut run = db.spawn(["run", path.to_str().unwrap()]);
    wait_until("20 jobs done", LONG, async || db.n_ended().await >= 20).await;
    run.signal(Signal::KILL);
    run.wait(LONG);
    let n_before = db.n_ended().await;
    let again = Printed::of(db.command(["run", path.to_str().unwrap(), "--json"]).output().unwrap(), 0);
    assert_eq!(again.json_lines()[0]["new"], serde_json::json!({}));
    db.check_complete(100, 2).await;
    assert!(n_before < 101, "the run was over before it was killed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_that_is_longer_than_the_patience_costs_no_attempt() {
    let home = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .unwrap();
    let server = Postgres::new(home.path());
    let url = server.start().unwrap();
    let path = home.path().join("outage.toml");
    fs::write(&path, "name = \"outage\"\n\n[[rehearse]]\nname = \"outage\"\nn = 2\nseconds = 6\n").unwrap();
    let jobctl = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_jobctl"));
        command.args(arguments).env("JOBCTL_HOME", home.path()).env_remove("DATABASE_URL").stdin(Stdio::null());
        for (name, value) in [("BEAT", "200"), ("STALE", "2000"), ("GRACE", "500"), ("POLL", "100")] {
            command.env(format!("JOBCTL_{name}_MS"), value);
        }
        command
    };
    Printed::of(jobctl(&["enqueue", path.to_str().unwrap()]).output().unwrap(), 0);
    let mut workers = [0, 1].map(|_| Running::start(jobctl(&["worker", "--slots", "1"])));
    let pool = connect(&url, 1).await.unwrap();
    let number = async |query: &'static str| -> i64 { sqlx::query_scalar(query).fetch_one(&pool).await.unwrap() };
    wait_until("both run", LONG, async || number("select count(*) from job where state = 'running'").await == 2).await;
    let pids = processes(&home.path().join("postgres/data"));
    pids.iter().for_each(|it| kill_process(*it, Signal::STOP).unwrap());
    tokio::time::sleep(Duration::from_millis(4000)).await;
    pids.iter().for_each(|it| kill_process(*it, Signal::CONT).unwrap());
    wait_until("both are done", LONG, async || {
        number("select count(*) from job_history where state = 'done'").await == 2
    })
    .await;
    assert_eq!(number("select count(*) from attempt").await, 2, "an attempt was charged for the outage");
    for it in &mut workers {
        it.signal(Signal::TERM);
        it.ends_with(0, LONG);
    }
    pool.close().await;
    assert!(server.stop().unwrap());
}

/// The processes of the server of this folder.
fn processes(data: &std::path::Path) -> Vec<Pid> {
    let file = fs::read_to_string(data.join("postmaster.pid")).unwrap();
    let first = Pid::from_raw(file.lines().next().unwrap().trim().parse().unwrap()).unwrap();
    [first].into_iter().chain(crate::support::process::children(first)).collect()
}
