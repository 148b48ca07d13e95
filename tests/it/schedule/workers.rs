//! The program: schedules made by hand, fired by real workers.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::support::database::Database;
use crate::support::pictures::{pictures, sweep};
use crate::support::process::Running;
use crate::support::wait_until;

const LONG: Duration = Duration::from_secs(60);

fn small(db: &Database) -> PathBuf {
    let folder = db.home.path().join("photos");
    pictures(&folder, 2);
    sweep(&folder, "small", "", &["glcm_score"])
}

fn add(db: &Database, more: &[&str]) {
    let path = small(db);
    let mut words = vec!["schedule", "add", "nightly", "--cron", "0 3 * * *", "--tz", "Europe/Berlin"];
    words.extend(more);
    words.push(path.to_str().unwrap());
    db.jobctl(words, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_workers_enqueue_a_due_sweep_once_and_say_when_nothing_is_new() {
    let db = Database::new().await;
    add(&db, &[]);
    // The file is kept as it was: it may change or go.
    fs::remove_file(db.home.path().join("small.toml")).unwrap();
    let _workers = [0; 3].map(|_| db.spawn(["worker", "--slots", "1"]));
    db.execute("update schedule set due_at = now()").await;
    let n_done = async || db.number("select count(*) from firing where state = 'done'").await;
    wait_until("it has fired", LONG, async || n_done().await == 1).await;
    wait_until("its jobs end", LONG, async || db.number("select count(*) from job_history").await == 2).await;
    assert_eq!(db.number("select count(*) from sweep").await, 1);
    db.jobctl(["schedule", "fire", "nightly"], 0);
    wait_until("it has fired again", LONG, async || n_done().await == 2).await;
    assert_eq!(db.number("select count(*) from job_key").await, 2);
    let lines = db.jobctl(["schedule", "history", "nightly", "--json"], 0).json_lines();
    assert_eq!(lines.len(), 2);
    assert_eq!((&lines[0]["by_hand"], &lines[1]["by_hand"]), (&true.into(), &false.into()));
    assert_eq!(lines[1]["result"]["new"]["evaluate"], 2);
    assert_eq!(lines[0]["result"]["new"], serde_json::json!({}));
    assert!(db.jobctl(["schedule", "list"], 0).out.contains("nothing new"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_whose_pictures_are_gone_is_kept_with_its_error() {
    let db = Database::new().await;
    add(&db, &[]);
    fs::remove_dir_all(db.home.path().join("photos")).unwrap();
    let _worker = db.spawn(["worker", "--slots", "1"]);
    db.jobctl(["schedule", "fire", "nightly"], 0);
    let failed = "select count(*) from firing where n_attempts = 1 and state = 'due' and error like '%photos%' and run_at > now()";
    wait_until("it has failed", LONG, async || db.number(failed).await == 1).await;
    assert_eq!(db.number("select count(*) from sweep").await, 0);
    assert!(db.jobctl(["schedule", "list"], 0).out.contains("photos"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_no_worker_has_is_said() {
    let db = Database::new().await;
    add(&db, &[]);
    db.execute("update schedule set action = action || '{\"base\": \"/not/here\"}'").await;
    let _worker = db.spawn(["worker", "--slots", "1"]);
    db.jobctl(["schedule", "fire", "nightly"], 0);
    let left =
        "select count(*) from firing where state = 'due' and n_attempts = 0 and error like '% has no folder /not/here'";
    wait_until("it is left to others", LONG, async || db.number(left).await == 1).await;
}

/// A library that makes a process believe that it is a year later.
fn a_year_ahead(db: &Database) -> PathBuf {
    let (source, library) = (db.home.path().join("ahead.c"), db.home.path().join("ahead.so"));
    let text = "#define _GNU_SOURCE\n#include <dlfcn.h>\n#include <time.h>\n\
        int clock_gettime(clockid_t id, struct timespec *at) {\n\
        static int (*real)(clockid_t, struct timespec *);\n\
        if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, \"clock_gettime\");\n\
        int got = real(id, at);\n\
        if (id == CLOCK_REALTIME) at->tv_sec += 365L * 86400;\n\
        return got; }\n";
    fs::write(&source, text).unwrap();
    let made = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).arg("-ldl").status();
    assert!(made.unwrap().success());
    library
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_clock_is_a_year_ahead_fires_nothing_early() {
    let db = Database::new().await;
    add(&db, &["--missed", "all"]);
    let ahead = a_year_ahead(&db);
    let mut command = db.command(["schedule", "next", "nightly", "-n", "1", "--json"]);
    let said = command.env("LD_PRELOAD", &ahead).output().unwrap();
    let said = crate::support::process::Printed::of(said, 0).json();
    let next: jiff::Timestamp = said["next"][0].as_str().unwrap().parse().unwrap();
    assert!(next.as_second() - jiff::Timestamp::now().as_second() < 90_000, "{next}");
    let mut command = db.command(["worker", "--slots", "1"]);
    command.env("LD_PRELOAD", &ahead);
    let mut worker = Running::start(command);
    wait_until("it lives", LONG, async || db.number("select count(*) from worker").await == 1).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(db.number("select count(*) from firing").await, 0);
    // It does fire what is due by the database's clock.
    db.execute("update schedule set due_at = now()").await;
    wait_until("it fires", LONG, async || db.number("select count(*) from firing where state = 'done'").await == 1)
        .await;
    worker.signal(rustix::process::Signal::TERM);
    let said = worker.ends_with(0, LONG);
    let year: i32 = jiff::Timestamp::now().strftime("%Y").to_string().parse().unwrap();
    assert!(said.contains(&format!("{}-", year + 1)), "its clock was not ahead:\n{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_answered_before_anything_is_made() {
    let db = Database::new().await;
    let path = small(&db);
    let path = path.to_str().unwrap();
    let said = db.jobctl(["schedule", "add", "x", "--cron", "0 25 * * *", path], 2).err;
    assert!(said.contains("`0 25 * * *` is no cron line"), "{said}");
    let said = db.jobctl(["schedule", "add", "x", "--cron", "0 3 * * *", "--tz", "Europe/Berlni", path], 2).err;
    assert!(said.contains("is `Europe/Berlin` meant?"), "{said}");
    let said = db.jobctl(["schedule", "add", "a b", "--cron", "0 3 * * *", path], 2).err;
    assert!(said.contains("no name for a schedule"), "{said}");
    fs::write(db.home.path().join("bad.toml"), "name = \"bad\"\n[[image]]\n").unwrap();
    let bad = db.home.path().join("bad.toml");
    assert!(db.jobctl(["schedule", "add", "x", "--cron", "0 3 * * *", bad.to_str().unwrap()], 2).err.contains("image"));
    assert_eq!(db.number("select count(*) from schedule").await, 0);
    db.jobctl(["schedule", "add", "x", "--cron", "0 3 * * *", path], 0);
    assert!(db.jobctl(["schedule", "add", "x", "--cron", "0 4 * * *", path], 1).err.contains("already"));
    assert!(db.jobctl(["schedule", "pause", "y"], 1).err.contains("there are x"));
    db.jobctl(["schedule", "pause", "x"], 0);
    assert!(db.jobctl(["schedule", "list"], 0).out.contains("paused"));
    assert_eq!(db.jobctl(["schedule", "list", "--json"], 0).json()[0]["paused"], true);
    db.jobctl(["schedule", "remove", "x"], 0);
    assert!(db.jobctl(["schedule", "list"], 0).out.contains("there is no schedule"));
}
