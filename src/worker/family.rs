//! The processes that a slot has started, wherever they have gone: found and ended with it.

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, kill_process_group, wait};

/// The variable that every process of a slot has inherited; its value is the slot's alone.
pub(super) const MARK: &str = "JOBCTL_SLOT";

/// Kills a slot, its process group, and what it has started even if that has left the group; `mark` is the value of
/// [`MARK`] in its environment. The slot may be dead already.
pub(super) fn end(slot: Pid, mark: &str) {
    // Before the slot dies: a slot adopts what its children leave behind, and with its death the trace is lost.
    let mut family = descendants(slot);
    let _ = kill_process_group(slot, Signal::KILL);
    // Whoever is killed starts nothing any more, so this comes to an end.
    for _ in 0..10 {
        family.extend(marked(mark).into_iter().filter(|it| *it != slot));
        if family.is_empty() {
            break;
        }
        for it in family.drain(..) {
            let _ = kill_process(it, Signal::KILL);
        }
    }
}

/// Kills what a slot's task has started and left behind; called by the slot itself, between tasks.
pub(super) fn end_own() {
    for it in descendants(rustix::process::getpid()) {
        let _ = kill_process(it, Signal::KILL);
    }
    // The slot is their parent by now, and nobody else takes note of their end.
    for _ in 0..100 {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) => {}
            Ok(None) => std::thread::sleep(Duration::from_millis(1)),
            Err(_) => break,
        }
    }
}

/// The processes that a process has started, and those that these have, as far as they live.
pub(super) fn descendants(of: Pid) -> Vec<Pid> {
    let mut found = vec![of];
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        at += 1;
        // Any thread may have started them.
        let threads = fs::read_dir(format!("/proc/{}/task", parent.as_raw_nonzero())).into_iter().flatten().flatten();
        for thread in threads {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            let pids = children.split_whitespace().filter_map(|it| Pid::from_raw(it.parse().ok()?));
            let new: Vec<Pid> = pids.filter(|it| !found.contains(it)).collect();
            found.extend(new);
        }
    }
    found.remove(0);
    found
}

/// The living processes with this mark in their environment.
fn marked(mark: &str) -> Vec<Pid> {
    let entry = format!("{MARK}={mark}").into_bytes();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|it| Pid::from_raw(it.file_name().to_str()?.parse().ok()?));
    // The environment of a zombie reads as empty.
    let has_mark = |it: &Pid| {
        let environ = fs::read(format!("/proc/{}/environ", it.as_raw_nonzero())).unwrap_or_default();
        environ.split(|it| *it == 0).any(|it| it == entry)
    };
    pids.filter(has_mark).collect()
}
