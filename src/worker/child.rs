//! The agent's side of a slot: starts the process, talks to it, ends it.

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use rustix::process::Pid;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStdin, Command};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::death::{Death, n_kernel_kills};
use super::family;
use super::pipe::{END_OF_LOG, Reply, Request};

/// The longest line that a slot may reply, in bytes.
const LONGEST_REPLY: usize = 16 << 20;
/// The longest line of a log, in bytes; of a longer one the beginning is kept.
const LONGEST_LINE: usize = 8 << 10;

/// What a slot says.
#[derive(Debug)]
pub enum Said {
    /// It printed a line.
    Line(String),
    /// It replied. After one that ends the work the rest of its log follows.
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
    process: tokio::process::Child,
    pid: Pid,
    /// What tells its family from others'.
    mark: String,
    /// Written by a task of its own: a process that is stopped reads nothing.
    requests: mpsc::UnboundedSender<Vec<u8>>,
    replies: mpsc::Receiver<Line>,
    printed: mpsc::Receiver<Line>,
    /// Whether the mark that ends the current task's log has come.
    log_ended: bool,
    n_kernel_kills: Option<u64>,
    /// What it printed last, before anybody heard.
    last_words: Vec<String>,
}

/// A line, and whether it was longer than it may be.
type Line = (Vec<u8>, bool);

impl Child {
    /// Starts `program slot` on `device`, which may use so many threads. Of the environment it inherits what [`INHERITED`]
    /// lists.
    ///
    /// # Errors
    /// The process cannot be started.
    pub fn start(program: &Path, device: &str, n_threads: usize) -> anyhow::Result<Self> {
        let mut command = Command::new(program);
        let n_threads = n_threads.to_string();
        command.args(["slot", "--device", device, "--threads", &n_threads]).env_clear();
        // candle has threads of its own, as many as the machine has cores unless it is told otherwise, and those spin.
        command.env("RAYON_NUM_THREADS", &n_threads).env("CANDLE_NUM_THREADS", &n_threads).envs(environment());
        Self::spawn(command)
    }

    /// Starts `command` as a slot.
    ///
    /// # Errors
    /// The process cannot be started.
    pub fn spawn(mut command: Command) -> anyhow::Result<Self> {
        let mark = Uuid::now_v7().to_string();
        command
            .env(family::MARK, &mark)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A process group of its own: a Ctrl-C in the terminal is the agent's to interpret.
            .process_group(0)
            .kill_on_drop(true);
        let mut process = command.spawn().context("start a slot")?;
        let pid = process.id().and_then(|it| Pid::from_raw(i32::try_from(it).ok()?)).context("a slot has a number")?;
        let requests = written(process.stdin.take().context("a slot has a standard input")?);
        let replies = lines(process.stdout.take().context("a slot has a standard output")?, LONGEST_REPLY);
        let printed = lines(process.stderr.take().context("a slot has a standard error")?, LONGEST_LINE);
        Ok(Self {
            process,
            pid,
            mark,
            requests,
            replies,
            printed,
            log_ended: false,
            n_kernel_kills: None,
            last_words: Vec::new(),
        })
    }

    /// Hands it work, a wish or an answer. Returns at once: whether it takes that, or is dead, shows in what it says.
    pub fn send(&mut self, request: &Request) {
        if matches!(request, Request::Do(_)) {
            self.log_ended = false;
            self.n_kernel_kills = n_kernel_kills();
        }
        let mut line = serde_json::to_vec(request).expect("plain data has a JSON form");
        line.push(b'\n');
        let _ = self.requests.send(line);
    }

    /// Waits until it says something. Safe to drop and call again. `latest` are the lines that it printed before.
    ///
    /// # Errors
    /// It died, and how; or says what nobody understands.
    pub async fn hear(&mut self, latest: impl Fn() -> Vec<String>) -> Result<Said, Death> {
        loop {
            let line = tokio::select! {
                biased;
                line = self.replies.recv() => line,
                Some(line) = self.printed.recv(), if !self.log_ended => {
                    self.log_ended = is_end(&line);
                    if self.log_ended {
                        continue;
                    }
                    return Ok(Said::Line(text(line)));
                }
                // A process that it has left behind may hold the pipes open.
                _ = self.process.wait() => timeout(Duration::from_millis(100), self.replies.recv()).await.ok().flatten(),
                () = self.requests.closed() => timeout(Duration::from_millis(100), self.replies.recv()).await.ok().flatten(),
            };
            return match line {
                Some((line, false)) => serde_json::from_slice(&line).map(Said::Reply).map_err(|error| {
                    let said = String::from_utf8_lossy(&line[..line.len().min(80)]).into_owned();
                    Death::pipe(format!("its slot replied `{said}`, which is no reply: {error}"))
                }),
                Some((_, true)) => {
                    Err(Death::pipe(format!("its slot replied more than {LONGEST_REPLY} bytes at once")))
                }
                None => Err(self.cause_of_death(&latest()).await),
            };
        }
    }

    /// Why it says nothing more.
    async fn cause_of_death(&mut self, latest: &[String]) -> Death {
        let Ok(status) = timeout(Duration::from_secs(1), self.process.wait()).await else {
            return Death::pipe("its slot lives but has closed its pipe");
        };
        // The counters are behind by a moment now and then.
        sleep(Duration::from_millis(20)).await;
        let kernel_killed = self.n_kernel_kills.zip(n_kernel_kills()).is_some_and(|(before, after)| after > before);
        match status {
            Ok(status) => {
                while let Ok(line) = self.printed.try_recv() {
                    self.last_words.push(text(line));
                }
                let words: Vec<String> = latest.iter().chain(&self.last_words).cloned().collect();
                Death::of(status, kernel_killed, &words)
            }
            Err(error) => Death::pipe(format!("its slot is gone: {error}")),
        }
    }

    /// The lines up to the mark that ends a task's log: what it printed before it replied.
    pub async fn rest_of_log(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while !self.log_ended
            && let Ok(Some(line)) = timeout(Duration::from_secs(1), self.printed.recv()).await
        {
            self.log_ended = is_end(&line);
            if !self.log_ended {
                lines.push(text(line));
            }
        }
        lines
    }

    /// Ends it and all that it has started, at once. Returns what it has printed and nobody has heard yet.
    pub async fn end(mut self) -> Vec<String> {
        drop(self.requests);
        let (pid, mark) = (self.pid, self.mark);
        if let Err(error) = tokio::task::spawn_blocking(move || family::end(pid, &mark)).await {
            tracing::warn!(error = %error, "cannot look for what a slot has started");
        }
        let _ = self.process.start_kill();
        let _ = self.process.wait().await;
        let mut lines = self.last_words;
        while let Ok(Some(line)) = timeout(Duration::from_millis(50), self.printed.recv()).await {
            // One that nobody could kill may print without end.
            if lines.len() >= 10_000 {
                break;
            }
            if !is_end(&line) {
                lines.push(text(line));
            }
        }
        lines
    }
}

fn is_end(line: &Line) -> bool {
    line.0 == END_OF_LOG.as_bytes()
}

/// A line of a log as text that Postgres takes.
fn text((line, is_cut): Line) -> String {
    let text = String::from_utf8_lossy(&line).replace('\0', "\u{fffd}");
    if is_cut { format!("{text} [jobctl: the line is longer]") } else { text }
}

/// Writes what is sent to a pipe, until the sender is dropped or nobody reads any more.
fn written(mut pipe: ChildStdin) -> mpsc::UnboundedSender<Vec<u8>> {
    let (sender, mut receiver) = mpsc::unbounded_channel::<Vec<u8>>();
    tokio::spawn(async move {
        while let Some(line) = receiver.recv().await {
            if pipe.write_all(&line).await.is_err() || pipe.flush().await.is_err() {
                return;
            }
        }
    });
    sender
}

/// The lines of a pipe, each cut after `longest` bytes, so that a line without end fills no memory.
fn lines(mut pipe: impl AsyncRead + Unpin + Send + 'static, longest: usize) -> mpsc::Receiver<Line> {
    let (sender, receiver) = mpsc::channel(1000);
    tokio::spawn(async move {
        let mut chunk = vec![0; 64 << 10];
        // Whether the line was too long, is sent, and its rest is of no interest.
        let (mut line, mut is_sent) = (Vec::new(), false);
        loop {
            let n = match pipe.read(&mut chunk).await {
                Ok(n) if n > 0 => n,
                _ => break,
            };
            let mut parts = chunk[..n].split(|it| *it == b'\n').peekable();
            while let Some(part) = parts.next() {
                let is_cut = !is_sent && line.len() + part.len() > longest;
                if !is_sent {
                    line.extend_from_slice(&part[..part.len().min(longest - line.len())]);
                }
                // The last part goes on in the next chunk.
                let is_whole = parts.peek().is_some();
                if (is_cut || (is_whole && !is_sent)) && sender.send((std::mem::take(&mut line), is_cut)).await.is_err()
                {
                    return;
                }
                is_sent = (is_sent || is_cut) && !is_whole;
            }
        }
        if !line.is_empty() {
            let _ = sender.send((line, false)).await;
        }
    });
    receiver
}
