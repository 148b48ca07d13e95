//! Help, mistakes and secrets.

use std::fs;
use std::process::Command;

use crate::support::database::Database;
use crate::support::graph::graph;
use crate::support::pictures::{pictures_of, sweep};
use crate::support::process::Printed;
use crate::support::wait_until;

/// What the program prints without a database.
fn plain(arguments: &[&str], status: i32) -> Printed {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jobctl"));
    Printed::of(command.args(arguments).output().unwrap(), status)
}

/// The words under `Commands:` of a help text.
fn verbs(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|it| *it != "Commands:").skip(1).take_while(|it| !it.is_empty());
    let named = lines.filter(|it| it.starts_with("  ") && !it.starts_with("   "));
    named.filter_map(|it| it.split_whitespace().next()).filter(|it| *it != "help").map(str::to_owned).collect()
}

#[test]
fn every_verb_shows_an_example() {
    let verbs = verbs(&plain(&["--help"], 0).out);
    for verb in ["enqueue", "run", "plan", "status", "jobs", "show", "logs", "cancel", "retry", "pause", "resume"]
        .into_iter()
        .chain(["worker", "score", "dataset", "model", "report", "bench", "db"])
    {
        assert!(verbs.iter().any(|it| it == verb), "{verb} is not in {verbs:?}");
    }
    for verb in &verbs {
        let help = plain(&[verb, "--help"], 0).out;
        let example = help.split_once("\nExample").map(|it| it.1);
        let example = example.unwrap_or_else(|| panic!("`jobctl {verb} --help` shows no example:\n{help}"));
        assert!(example.contains(&format!("jobctl {verb}")), "{example}");
    }
}

#[test]
fn an_unknown_verb_or_flag_is_wrong_use() {
    assert!(plain(&["enqeue"], 2).err.contains("enqueue"));
    assert!(plain(&["enqueue", "x.toml", "--dry"], 2).err.contains("--dry-run"));
    assert!(plain(&["jobs", "--state", "finished"], 2).err.contains("waiting, ready, running, done"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_sweep_is_answered_with_the_newest_ones() {
    let db = Database::new().await;
    assert!(db.jobctl(["status", "nope"], 1).err.contains("none has been enqueued yet"));
    for name in ["one", "two", "three"] {
        db.submit(&graph(name, &["a"], &[])).await;
    }
    let said = db.jobctl(["cancel", "nope"], 1).err;
    assert!(said.contains("there is no sweep `nope`; the newest are three-"), "{said}");
    assert!(said.contains("two-") && said.contains("one-"), "{said}");
    let said = db.jobctl(["report", "t"], 1).err;
    assert!(said.contains("`t` may be any of three-"), "{said}");
    assert!(db.jobctl(["show", "4711"], 1).err.contains("there is no job 4711"));
    assert!(db.jobctl(["retry", "1", "4711"], 1).err.contains("there is no job 4711"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_not_repeated() {
    let db = Database::new().await;
    let mut url = url::Url::parse(&db.url).unwrap();
    url.set_password(Some("hunter2-hunter2")).unwrap();
    let not_an_address = format!("{}:x/y", url.as_str().trim_end_matches('/'));
    for address in [url.as_str(), &not_an_address, "postgres://me:hunter2-hunter2@127.0.0.1:99999999/x"] {
        let output = db.command(["status"]).env("DATABASE_URL", address).output().unwrap();
        let said = Printed::of(output, 1);
        assert!(!said.err.contains("hunter2") && !said.out.contains("hunter2"), "{}", said.err);
        assert!(said.err.starts_with("error: "), "{}", said.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_does_not_know_the_database() {
    let db = Database::new().await;
    let folder = db.home.path().join("photos");
    pictures_of(&folder, 1, 3000, 3000);
    db.jobctl(["enqueue", sweep(&folder, "one", "", &["glcm_score", "glcm_texture"]).to_str().unwrap()], 0);
    let worker = db.spawn(["worker", "--slots", "1"]);
    let limit = std::time::Duration::from_secs(30);
    wait_until("a slot lives", limit, async || worker.slots().len() == 1).await;
    let pid = worker.slots()[0].as_raw_nonzero();
    // Between fork and exec it is still the worker's image.
    let is_slot = async || fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|it| it.contains("\0slot\0"));
    wait_until("it is itself", limit, is_slot).await;
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
    let environment = String::from_utf8_lossy(&environment);
    assert!(environment.contains("JOBCTL_HOME") && !environment.contains("DATABASE_URL"));
    assert!(!environment.contains("postgres://"));
}
