//! The real program on a test's database, with small times; what it starts is dead when the test ends.

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use super::database::Database;

impl Database {
    /// The program on this database.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_jobctl"));
        command
            .args(arguments)
            .env("DATABASE_URL", &self.url)
            .env("JOBCTL_HOME", self.home.path())
            .env("JOBCTL_BEAT_MS", "200")
            .env("JOBCTL_STALE_MS", "1200")
            .env("JOBCTL_GRACE_MS", "500")
            .env("JOBCTL_POLL_MS", "100")
            .stdin(Stdio::null());
        command
    }

    /// Runs the program to its end, which must have `status`. Returns what it printed.
    pub fn jobctl<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>, status: i32) -> Printed {
        Printed::of(self.command(arguments).output().unwrap(), status)
    }

    /// Starts the program.
    pub fn spawn<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Running {
        Running::start(self.command(arguments))
    }
}

/// What a program printed.
#[derive(Debug)]
pub struct Printed {
    /// On standard output.
    pub out: String,
    /// On standard error.
    pub err: String,
}

impl Printed {
    /// Of a program that must have ended with `status`.
    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "an output is read once")]
    pub fn of(output: Output, status: i32) -> Self {
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "stdout:\n{out}\nstderr:\n{err}");
        Self { out, err }
    }

    /// Its last line, as JSON.
    pub fn json(&self) -> serde_json::Value {
        let line = self.out.lines().last().unwrap_or_else(|| panic!("nothing was printed; stderr: {}", self.err));
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// Each of its lines, as JSON.
    pub fn json_lines(&self) -> Vec<serde_json::Value> {
        self.out.lines().map(|it| serde_json::from_str(it).unwrap_or_else(|error| panic!("{error}: {it}"))).collect()
    }
}

/// A program that runs. It and its slots are killed when this is dropped.
pub struct Running {
    child: Child,
    err: Option<std::thread::JoinHandle<String>>,
}

impl Running {
    /// Starts `command`; what it prints is kept.
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut pipe = child.stderr.take().unwrap();
        let err = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = pipe.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        });
        Self { child, err: Some(err) }
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Its slots' processes.
    pub fn slots(&self) -> Vec<Pid> {
        children(self.pid())
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When that does not come within `limit`.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < limit, "jobctl still runs after {limit:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What it has printed on standard error, once it has ended.
    pub fn said(&mut self) -> String {
        self.err.take().map(|it| it.join().unwrap()).unwrap_or_default()
    }

    /// Waits for its end, which must have `status`. Returns what it printed on standard error.
    #[track_caller]
    pub fn ends_with(&mut self, status: i32, limit: Duration) -> String {
        let ended = self.wait(limit);
        let err = self.err.take().unwrap().join().unwrap();
        assert_eq!(ended.code(), Some(status), "signal {:?}; stderr:\n{err}", ended.signal());
        err
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|it| it.is_none()) {
            let slots = self.slots();
            let _ = self.child.kill();
            let _ = self.child.wait();
            for slot in slots {
                let _ = kill_process(slot, Signal::KILL);
            }
        }
    }
}

/// The processes that `parent` has started and that live.
pub fn children(parent: Pid) -> Vec<Pid> {
    let pid = parent.as_raw_nonzero();
    // Any thread may have started them.
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let files = threads.flatten().filter_map(|it| fs::read_to_string(it.path().join("children")).ok());
    let pids: Vec<i32> = files.flat_map(|it| it.split_whitespace().flat_map(str::parse).collect::<Vec<_>>()).collect();
    pids.into_iter().filter_map(Pid::from_raw).collect()
}

/// Whether the process exists and is no zombie.
pub fn lives(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    let state = stat.rsplit(") ").next().and_then(|it| it.chars().next());
    test_kill_process(pid).is_ok() && state != Some('Z')
}
