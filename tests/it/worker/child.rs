//! Processes that are no good slots: they talk nonsense, stop talking, never stop, or leave others behind.

use std::time::{Duration, Instant};

use jobctl::job::outcome::Cause;
use jobctl::worker::child::{Child, Said};
use jobctl::worker::death::Death;
use jobctl::worker::pipe::Request;
use rustix::process::Pid;
use tokio::process::Command;
use tokio::time::timeout;

use crate::support::process::lives;
use crate::support::wait_until;

fn slot(script: &str) -> Child {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    Child::spawn(command).unwrap()
}

/// What is wrong with a slot that says nothing good, and what it printed until then.
async fn death(child: &mut Child) -> (Death, Vec<String>) {
    let mut printed: Vec<String> = Vec::new();
    loop {
        let before = printed.clone();
        match timeout(Duration::from_secs(30), child.hear(|| before.clone())).await.expect("it is noticed soon") {
            Ok(Said::Line(line)) => printed.push(line),
            Ok(Said::Reply(reply)) => panic!("that was no reply: {reply:?}"),
            Err(death) => return (death, printed),
        }
    }
}

#[tokio::test]
async fn nonsense_on_the_pipe_is_the_slots_death() {
    for script in ["echo garbage; sleep 60", r#"echo '{"done"'; sleep 60"#, r"printf 'a\0b\n'; sleep 60"] {
        let mut child = slot(script);
        let (death, _) = death(&mut child).await;
        assert_eq!(death.cause, Cause::Pipe, "{death:?}");
        assert!(death.error.contains("which is no reply"), "{death:?}");
        child.end().await;
    }
}

#[tokio::test]
async fn a_slot_that_closes_its_pipe_is_not_waited_for() {
    let mut child = slot("echo before >&2; exec 1>&-; sleep 60");
    let (death, _) = death(&mut child).await;
    assert_eq!((death.cause, death.error.contains("closed its pipe")), (Cause::Pipe, true), "{death:?}");
    child.end().await;
}

#[tokio::test]
async fn how_a_process_ends_is_told_apart() {
    for (script, cause, words) in [
        ("exit 7", Cause::Exit, "status 7"),
        ("kill -9 $$", Cause::Signal, "signal 9 (SIGKILL)"),
        ("kill -11 $$", Cause::Signal, "signal 11 (SIGSEGV)"),
        ("echo 'memory allocation of 64 bytes failed' >&2; kill -6 $$", Cause::Memory, "allocation"),
    ] {
        let mut child = slot(script);
        let (death, _) = death(&mut child).await;
        assert!(death.cause == cause && death.error.contains(words), "{script}: {death:?}");
        child.end().await;
    }
}

#[tokio::test]
async fn lines_without_end_fill_no_memory() {
    let mut child = slot("head -c 5000000 /dev/zero | tr '\\0' x >&2; echo >&2; echo short >&2; exit 1");
    let (death, mut printed) = death(&mut child).await;
    assert_eq!(death.cause, Cause::Exit);
    printed.extend(child.end().await);
    assert_eq!(printed.len(), 2);
    assert!(printed[0].len() < 10_000 && printed[0].ends_with("[jobctl: the line is longer]"), "{}", printed[0].len());
    assert_eq!(printed[1], "short");
    // On the pipe for replies it is an error.
    let mut child = slot("head -c 20000000 /dev/zero | tr '\\0' x; sleep 60");
    let (death, _) = self::death(&mut child).await;
    assert!(death.error.contains("at once"), "{death:?}");
    child.end().await;
}

#[tokio::test]
async fn a_process_left_behind_hides_no_death_and_does_not_outlive_it() {
    // It holds the pipes open, in a session of its own.
    let mut child = slot("setsid sleep 300 & echo $! >&2; sleep 0.3; exit 3");
    let start = Instant::now();
    let (death, printed) = death(&mut child).await;
    assert_eq!(death.cause, Cause::Exit, "{death:?}");
    assert!(start.elapsed() < Duration::from_secs(5));
    let left = Pid::from_raw(printed[0].parse().unwrap()).unwrap();
    assert!(lives(left), "the test leaves nothing behind");
    child.end().await;
    wait_until("it is ended too", Duration::from_secs(5), async || !lives(left)).await;
}

#[tokio::test]
async fn ending_a_slot_ends_its_children_and_grandchildren() {
    let mut child = slot(
        "sh -c 'trap \"\" TERM; sleep 300 & echo $! >&2; wait' & setsid sh -c 'sleep 300 & echo $! >&2; wait' & wait",
    );
    let mut pids = Vec::new();
    while pids.len() < 2 {
        if let Ok(Said::Line(line)) = timeout(Duration::from_secs(10), child.hear(Vec::new)).await.unwrap() {
            pids.push(Pid::from_raw(line.parse().unwrap()).unwrap());
        }
    }
    let start = Instant::now();
    child.end().await;
    wait_until("all are ended", Duration::from_secs(5), async || !pids.iter().any(|it| lives(*it))).await;
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_slot_that_reads_nothing_holds_nobody_up_and_one_that_cannot_is_dead() {
    // Far more than a pipe holds.
    let long = Request::Noted { error: Some("x".repeat(4 << 20)) };
    let mut child = slot("kill -STOP $$");
    child.send(&long);
    assert!(timeout(Duration::from_millis(300), child.hear(Vec::new)).await.is_err(), "it says nothing");
    let start = Instant::now();
    child.end().await;
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());

    let mut child = slot("exec 0<&-; echo closed >&2; sleep 60");
    assert!(matches!(child.hear(Vec::new).await, Ok(Said::Line(_))));
    child.send(&long);
    let (death, _) = death(&mut child).await;
    assert_eq!((death.cause, death.error.contains("closed its pipe")), (Cause::Pipe, true), "{death:?}");
    child.end().await;
}
