//! The agent's side of a slot: starts the process, talks to it, ends it.

use std::ffi::OsString;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use process_wrap::tokio::{ChildWrapper, CommandWrap, ProcessGroup};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::pipe::{END_OF_LOG, Reply, Request};

/// What a slot says.
#[derive(Debug)]
pub enum Said {
    /// It printed a line.
    Line(String),
    /// It has done so many of so many steps.
    Progress(usize, usize),
    /// It answered the request; the rest of its log follows.
    Reply(Reply),
}

/// What a slot inherits of its agent's environment: all else may be a secret, such as the database's address, the keys of
/// the store, or what another program was given. Names that end in `*` are beginnings.
const INHERITED: [&str; 32] = [
    "PATH",
    "HOME",
    "USER",
    "TMPDIR",
    "TZ",
    "LANG",
    "LANGUAGE",
    "LC_*",
    "RUST_BACKTRACE",
    "JOBCTL_HOME",
    "JOBCTL_LOG",
    "JOBCTL_TEST_*",
    "RAYON_NUM_THREADS",
    "OMP_*",
    "MKL_*",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "FAKETIME*",
    "CUDA_*",
    "CUDNN_*",
    "CUBLAS_*",
    "NCCL_*",
    "NVIDIA_*",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "HF_ENDPOINT",
    "XDG_CACHE_HOME",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "MALLOC_*",
    "LLVM_PROFILE_FILE",
];

/// The part of this process's environment that a slot inherits.
fn environment() -> impl Iterator<Item = (OsString, OsString)> {
    // A proxy's address may hold a password; one that does is the agent's alone.
    let proxies = ["http_proxy", "https_proxy", "all_proxy", "no_proxy"];
    std::env::vars_os().filter(move |(name, value)| {
        let is_proxy = || proxies.iter().any(|it| name.eq_ignore_ascii_case(it));
        name.to_str().is_some_and(is_inherited) || is_proxy() && !value.to_string_lossy().contains('@')
    })
}

fn is_inherited(name: &str) -> bool {
    INHERITED.iter().any(|it| match it.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == *it,
    })
}

/// A slot's process.
pub struct Child {
    process: Box<dyn ChildWrapper>,
    requests: ChildStdin,
    replies: Lines<BufReader<ChildStdout>>,
    printed: mpsc::Receiver<String>,
    /// Whether the mark that ends the current task's log has come.
    log_ended: bool,
}

impl Child {
    /// Starts a slot on `device` that may use so many threads. Of the environment it inherits what [`INHERITED`] lists.
    ///
    /// # Errors
    /// The process cannot be started.
    pub fn start(device: &str, n_threads: usize) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("find this program's own file")?;
        let mut command = Command::new(program);
        command
            .args(["slot", "--device", device, "--threads", &n_threads.to_string()])
            .env_clear()
            .envs(environment())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        // A process group of its own: a Ctrl-C in the terminal is the agent's to interpret.
        let mut process = CommandWrap::from(command).wrap(ProcessGroup::leader()).spawn().context("start a slot")?;
        let requests = process.stdin().take().context("a slot has a standard input")?;
        let replies = process.stdout().take().context("a slot has a standard output")?;
        let stderr = process.stderr().take().context("a slot has a standard error")?;
        let (sender, printed) = mpsc::channel(1000);
        tokio::spawn(async move {
            let mut lines = BufReader::new(stderr).split(b'\n');
            while let Ok(Some(line)) = lines.next_segment().await {
                let line = String::from_utf8_lossy(&line).replace('\0', "\u{fffd}");
                if sender.send(line).await.is_err() {
                    break;
                }
            }
        });
        Ok(Self { process, requests, replies: BufReader::new(replies).lines(), printed, log_ended: false })
    }

    /// Hands it a task.
    ///
    /// # Errors
    /// It is dead.
    pub async fn send(&mut self, request: &Request) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        if self.requests.write_all(&line).await.is_ok() && self.requests.flush().await.is_ok() {
            return Ok(());
        }
        Err(self.cause_of_death().await)
    }

    async fn cause_of_death(&mut self) -> anyhow::Error {
        match self.process.wait().await {
            Ok(status) => anyhow::anyhow!("its slot died: {status}"),
            Err(error) => anyhow::Error::new(error).context("its slot died"),
        }
    }

    /// Waits until it says something. Safe to drop and call again.
    ///
    /// # Errors
    /// It died, and how.
    pub async fn hear(&mut self) -> anyhow::Result<Said> {
        loop {
            tokio::select! {
                biased;
                reply = self.replies.next_line() => break match reply {
                    Ok(Some(line)) => Ok(match serde_json::from_str(&line).context("understand the slot's reply")? {
                        Reply::Progress { done, of } => Said::Progress(done, of),
                        reply => Said::Reply(reply),
                    }),
                    Ok(None) | Err(_) => Err(self.cause_of_death().await),
                },
                Some(line) = self.printed.recv() => {
                    self.log_ended = line == END_OF_LOG;
                    if !self.log_ended {
                        break Ok(Said::Line(line));
                    }
                }
            }
        }
    }

    /// The lines up to the mark that ends a task's log: what it printed before it replied.
    pub async fn rest_of_log(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while !self.log_ended
            && let Ok(Some(line)) = timeout(Duration::from_secs(1), self.printed.recv()).await
        {
            self.log_ended = line == END_OF_LOG;
            if !self.log_ended {
                lines.push(line);
            }
        }
        self.log_ended = false;
        lines
    }

    /// What it has printed and nobody has heard yet; of a dying process, what comes in the next moments.
    pub async fn last_words(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Ok(Some(line)) = timeout(Duration::from_millis(50), self.printed.recv()).await {
            lines.push(line);
        }
        lines
    }

    /// Ends it: SIGTERM, and after `grace` SIGKILL, to its whole process group.
    pub async fn end(mut self, grace: Duration) {
        drop(self.requests);
        let _ = self.process.signal(rustix::process::Signal::TERM.as_raw());
        if timeout(grace, self.process.wait()).await.is_err() {
            let _ = self.process.start_kill();
            let _ = self.process.wait().await;
        }
    }
}
