//! Why a slot died: what its exit status, its last words and the kernel's counters say.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

use crate::job::outcome::Cause;

/// Why an attempt's process is gone or of no use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Death {
    /// The kind of it.
    pub cause: Cause,
    /// In words.
    pub error: String,
}

impl Death {
    /// A slot that broke the pipe.
    pub(super) fn pipe(error: impl Into<String>) -> Self {
        Self { cause: Cause::Pipe, error: error.into() }
    }

    /// What a status means that nobody here has brought about; `kernel_killed` says whether the kernel has killed a
    /// process for want of memory meanwhile, `last_words` are the last lines that the slot printed.
    pub(super) fn of(status: ExitStatus, kernel_killed: bool, last_words: &[String]) -> Self {
        let said = |what: &str| last_words.iter().any(|it| it.contains(what));
        let died = |cause, error: String| Self { cause, error };
        match status.signal() {
            Some(9) if kernel_killed => died(
                Cause::Memory,
                "memory ran out: the kernel killed its slot (SIGKILL, and the count of such kills rose)".to_owned(),
            ),
            // What Rust and C++ say before they abort.
            Some(6) if said("memory allocation of") || said("std::bad_alloc") => {
                died(Cause::Memory, "memory ran out: an allocation in its slot failed (SIGABRT)".to_owned())
            }
            Some(signal) => {
                let dumped = if status.core_dumped() { ", core dumped" } else { "" };
                let by_whom = if signal == 9 { "; nobody here sent it" } else { "" };
                died(Cause::Signal, format!("its slot died of signal {signal}{}{dumped}{by_whom}", name(signal)))
            }
            None => died(Cause::Exit, format!("its slot exited with status {}", status.code().unwrap_or(-1))),
        }
    }
}

fn name(signal: i32) -> String {
    let name = match signal {
        2 => "SIGINT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        _ => return String::new(),
    };
    format!(" ({name})")
}

/// How many processes the kernel has killed for want of memory: in this process's control group, or on the whole
/// machine where no group counts them. None where the kernel does not say.
pub(super) fn n_kernel_kills() -> Option<u64> {
    let cgroups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    of_group(&cgroups, Path::new("/sys/fs/cgroup"))
        .or_else(|| count(&fs::read_to_string("/proc/vmstat").ok()?, "oom_kill"))
}

/// The count of the control group that `cgroups` (as `/proc/self/cgroup` has it) names, below `root`.
fn of_group(cgroups: &str, root: &Path) -> Option<u64> {
    cgroups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?.trim_start_matches('/'));
        let file = match controllers {
            "" => root.join(path).join("memory.events"),
            it if it.split(',').any(|it| it == "memory") => root.join("memory").join(path).join("memory.oom_control"),
            _ => return None,
        };
        count(&fs::read_to_string(file).ok()?, "oom_kill")
    })
}

fn count(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|it| it.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::{Death, of_group};
    use crate::job::outcome::Cause;

    #[test]
    fn the_status_the_counters_and_the_last_words_tell_deaths_apart() {
        let of = |raw, killed, words: &str| Death::of(ExitStatus::from_raw(raw), killed, &[words.to_owned()]).cause;
        assert_eq!(of(9, true, ""), Cause::Memory);
        assert_eq!(of(9, false, ""), Cause::Signal);
        assert_eq!(of(11, true, ""), Cause::Signal);
        assert_eq!(of(6, false, "memory allocation of 8 bytes failed"), Cause::Memory);
        assert_eq!(of(6, false, "assertion failed"), Cause::Signal);
        assert_eq!(of(3 << 8, true, "memory allocation of 8 bytes failed"), Cause::Exit);
        let error = Death::of(ExitStatus::from_raw(11), false, &[]).error;
        assert!(error.contains("signal 11 (SIGSEGV)"), "{error}");
    }

    #[test]
    fn the_kernels_count_is_that_of_the_own_group() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("team/worker")).unwrap();
        fs::write(root.path().join("team/worker/memory.events"), "low 0\noom 7\noom_kill 3\noom_group_kill 9\n")
            .unwrap();
        fs::create_dir_all(root.path().join("memory/old")).unwrap();
        fs::write(root.path().join("memory/old/memory.oom_control"), "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n")
            .unwrap();
        assert_eq!(of_group("0::/team/worker\n", root.path()), Some(3));
        assert_eq!(of_group("5:cpu,cpuacct:/old\n4:memory:/old\n0::/nowhere\n", root.path()), Some(5));
        assert_eq!(of_group("0::/nowhere\n", root.path()), None);
    }
}
