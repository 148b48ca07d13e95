//! The live view: as text, as JSON, and on a real terminal, which it gives back.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::database::Database;
use crate::support::graph::{How, graph};
use crate::support::wait_until;

const LONG: Duration = Duration::from_secs(30);
const LEAVES: &str = "\u{1b}[?1049l";
const SHOWS_CURSOR: &str = "\u{1b}[?25h";

#[tokio::test(flavor = "multi_thread")]
async fn one_picture_counts_what_is() {
    let db = Database::new().await;
    db.submit(&graph("busy", &["a", "b", "c", "d", "e"], &[])).await;
    db.submit(&graph("over", &["z"], &[])).await;
    let worker = db.worker().await;
    for how in [How::Finish, How::Fail] {
        let job = db.claim(worker).await.unwrap();
        db.settle(&job, how).await.unwrap();
    }
    let running = db.claim(worker).await.unwrap();
    db.execute("update job set progress = '{\"done\": 3, \"of\": 28}' where state = 'running'").await;
    let said = db.jobctl(["top", "--json"], 0).json();
    assert_eq!(said["jobs"], serde_json::json!({"waiting": 0, "ready": 3, "later": 0, "held": 0, "running": 1}));
    assert_eq!(said["running"][0]["job"], running.id.0);
    assert_eq!((&said["running"][0]["done"], &said["running"][0]["of"]), (&3.into(), &28.into()));
    let busy = said["sweeps"]
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["sweep"].as_str().unwrap().starts_with("busy-"))
        .unwrap();
    assert_eq!((&busy["n_jobs"], &busy["n_failed"], &busy["n_last_minute"]), (&5.into(), &1.into(), &2.into()));
    assert_eq!(busy["n_left"], 3);
    assert_eq!(said["ended"].as_array().unwrap().iter().filter_map(serde_json::Value::as_i64).sum::<i64>(), 2);
    assert_eq!(said["n_failed_lately"], 1);
    let text = db.jobctl(["top", "--once", "--width", "120"], 0).out;
    assert!(text.contains("ready 3") && text.contains("failed lately 1") && text.contains("3/28"), "{text}");
    assert!(text.contains("40 %"), "{text}");
    for width in ["20", "40", "500"] {
        let narrow = db.jobctl(["top", "--once", "--width", width], 0).out;
        assert!(narrow.lines().all(|it| it.chars().count() <= width.parse().unwrap()), "{narrow}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_terminal_it_says_what_to_do() {
    let db = Database::new().await;
    assert!(db.jobctl(["top"], 2).err.contains("jobctl top --once"));
}

/// Whether the system makes terminals: a bare chroot without /dev/pts does not, and nothing can be shown there.
fn has_terminals() -> bool {
    let has = std::path::Path::new("/dev/pts/ptmx").exists();
    if !has {
        eprintln!("skipped: no /dev/pts is mounted, so no terminal can be made");
    }
    has
}

/// Runs `words` on a terminal of its own, types `keys` once it has drawn, and returns all that the terminal got.
async fn on_a_terminal(db: &Database, words: &str, keys: &str) -> String {
    let typescript = db.home.path().join("typescript");
    let _ = fs::remove_file(&typescript);
    let jobctl = db.command(["top"]);
    let mut script = Command::new("script");
    script.args(["--quiet", "--flush", "--return", "--command"]);
    script.arg(format!("stty cols 60 rows 12; {}; echo after", words.replace("JOBCTL", env!("CARGO_BIN_EXE_jobctl"))));
    script.arg(&typescript).stdin(Stdio::piped()).stdout(Stdio::null());
    for (name, value) in jobctl.get_envs() {
        script.env(name, value.unwrap_or_default());
    }
    let mut child = script.spawn().expect("`script` is part of Debian's bsdutils");
    let seen = || fs::read(&typescript).map(|it| String::from_utf8_lossy(&it).into_owned()).unwrap_or_default();
    wait_until("it draws", LONG, async || seen().contains("WORKER")).await;
    let mut input = child.stdin.take().unwrap();
    input.write_all(keys.as_bytes()).unwrap();
    input.flush().unwrap();
    wait_until("it ends", LONG, async || child.try_wait().unwrap().is_some()).await;
    drop(input);
    seen()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_gives_the_terminal_back_when_it_is_told_to_end() {
    if !has_terminals() {
        return;
    }
    let db = Database::new().await;
    db.submit(&graph("busy", &["a", "b", "c", "d", "e"], &[])).await;
    // Keys: down, hold, go on, an unknown one, end.
    let seen = on_a_terminal(&db, "JOBCTL top --every 0.2", "jppxq").await;
    let end = seen.rfind(LEAVES).unwrap_or_else(|| panic!("{seen:?}"));
    assert!(seen[end - 40..].contains(SHOWS_CURSOR), "{seen:?}");
    assert!(seen[end..].contains("after"), "{seen:?}");
    assert!(seen.contains("held: p goes on"), "{seen:?}");
    // Ctrl-C is a key there.
    let seen = on_a_terminal(&db, "JOBCTL top", "\u{3}").await;
    assert!(seen.rfind(LEAVES).is_some_and(|it| seen[it..].contains("after")), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_gives_the_terminal_back_when_it_is_killed_politely() {
    if !has_terminals() {
        return;
    }
    let db = Database::new().await;
    let seen = on_a_terminal(&db, "timeout --foreground --signal=TERM 2 JOBCTL top", "").await;
    let end = seen.rfind(LEAVES).unwrap_or_else(|| panic!("{seen:?}"));
    assert!(seen[..end].contains(SHOWS_CURSOR) || seen[end..].contains(SHOWS_CURSOR), "{seen:?}");
    assert!(seen[end..].contains("after"), "{seen:?}");
}
