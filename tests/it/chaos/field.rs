//! Where it happens: a Postgres, a store on a small disk, and workers as real processes, each behind a network of its own.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use jobctl::config::Secret;
use jobctl::database::{connect, migrate, private::Postgres};
use rustix::process::Signal;
use sqlx::PgPool;
use tempfile::TempDir;

use super::proxy::Proxy;
use crate::support::process::Running;

/// Megabytes of the store's disk.
const DISK_MB: u32 = 1024;
/// Makes a process believe in another time of day.
fn fake_time() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").unwrap().flatten();
    let mut found = folders.map(|it| it.path().join("faketime/libfaketime.so.1")).filter(|it| it.exists());
    found.next().expect("no libfaketime: `deploy/setup.sh test` installs it")
}

/// How workers keep time, in milliseconds.
pub const BEAT_MS: u64 = 300;
pub const STALE_MS: u64 = 2_500;
pub const GRACE_MS: u64 = 800;

/// All that is on the field. It is cleared when it is dropped.
pub struct Field {
    /// The test's own connections, past all proxies.
    pub pool: PgPool,
    pub url: Secret,
    pub workers: Vec<Worker>,
    /// `$JOBCTL_HOME` of all workers.
    pub home: PathBuf,
    server: Postgres,
    address: SocketAddr,
    fences: Fences,
    n_slots: usize,
    disk: Disk,
    folder: TempDir,
}

/// Whether workers check that a lease is theirs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fences {
    Up,
    /// The test's switch is thrown: the suite must notice.
    Down,
}

/// A place for a worker: one process after another, behind the same proxy.
pub struct Worker {
    pub proxy: Proxy,
    pub process: Running,
    /// Seconds that its clock is wrong by.
    pub clock_off_s: i64,
    /// Whether it is meant to end, so that its end is no fault of its own.
    pub may_end: bool,
}

impl Field {
    /// A server, a disk, and `n_workers` workers of `n_slots` slots.
    pub async fn new(n_workers: usize, n_slots: usize, fences: Fences) -> Self {
        let folder = tempfile::Builder::new()
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .unwrap();
        let server = Postgres::new(&folder.path().join("server"));
        let url = server.start().unwrap();
        let pool = connect(&url, 6).await.unwrap();
        migrate(&pool).await.unwrap();
        let home = folder.path().join("home");
        fs::create_dir(&home).unwrap();
        let disk = Disk::mount(&home);
        let port = url::Url::parse(url.reveal()).unwrap().port().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut field = Self { pool, url, workers: Vec::new(), home, server, address, fences, n_slots, disk, folder };
        for _ in 0..n_workers {
            let proxy = Proxy::start(address);
            let process = field.start(&proxy, 0);
            field.workers.push(Worker { proxy, process, clock_off_s: 0, may_end: false });
        }
        field
    }

    /// The program, past all proxies.
    pub fn jobctl(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_jobctl"));
        command.args(arguments).env("DATABASE_URL", self.url.reveal()).env("JOBCTL_HOME", &self.home);
        command
    }

    fn command(&self, proxy: &Proxy, clock_off_s: i64) -> Command {
        let mut url = url::Url::parse(self.url.reveal()).unwrap();
        url.set_port(Some(proxy.port)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_jobctl"));
        command
            .args(["worker", "--device", "cpu", "--slots", &self.n_slots.to_string()])
            .env("DATABASE_URL", String::from(url))
            .env("JOBCTL_HOME", &self.home)
            .env("JOBCTL_BEAT_MS", BEAT_MS.to_string())
            .env("JOBCTL_STALE_MS", STALE_MS.to_string())
            .env("JOBCTL_GRACE_MS", GRACE_MS.to_string())
            .env("JOBCTL_POLL_MS", "200")
            .stdin(Stdio::null());
        if clock_off_s != 0 {
            // Clocks that only measure spans stay as they are: on a real machine a wrong date does not change those.
            command
                .env("LD_PRELOAD", fake_time())
                .env("FAKETIME", format!("{clock_off_s:+}"))
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        if self.fences == Fences::Down {
            command.env("JOBCTL_TEST_NO_FENCES", "1");
        }
        command
    }

    fn start(&self, proxy: &Proxy, clock_off_s: i64) -> Running {
        Running::start(self.command(proxy, clock_off_s))
    }

    /// Starts worker `idx` again, which must have ended, with a clock that is wrong by so much.
    pub fn revive(&mut self, idx: usize, clock_off_s: i64) {
        let process = self.start(&self.workers[idx].proxy, clock_off_s);
        let worker = &mut self.workers[idx];
        (worker.process, worker.clock_off_s, worker.may_end) = (process, clock_off_s, false);
    }

    /// Kills worker `idx` and waits for its end.
    pub fn kill(&mut self, idx: usize) {
        let worker = &mut self.workers[idx];
        worker.may_end = true;
        if worker.process.is_running() {
            worker.process.signal(Signal::KILL);
        }
        worker.process.wait(Duration::from_secs(20));
    }

    /// Starts again what has ended, as systemd would. What ended without being meant to and after it had worked is told.
    pub fn supervise(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        for idx in 0..self.workers.len() {
            let worker = &mut self.workers[idx];
            if worker.process.is_running() {
                continue;
            }
            if !worker.may_end {
                let said = worker.process.said();
                // It may not start without Postgres, but once it works it must stay.
                if said.contains("the worker is ready") {
                    let end: Vec<&str> = said.lines().rev().take(10).collect();
                    let end: Vec<&str> = end.into_iter().rev().collect();
                    told.push(format!("worker {idx} ended by itself: {}", end.join("\n")));
                }
            }
            let clock_off_s = worker.clock_off_s;
            self.revive(idx, clock_off_s);
        }
        told
    }

    /// Restarts Postgres: `fast` as an administrator does, `immediate` as a crash.
    pub fn restart_server(&self, mode: &str) {
        let data = self.data();
        let program = fs::read_to_string(data.join("postmaster.opts")).unwrap();
        let program = program.split_whitespace().next().unwrap();
        let owner = data.metadata().unwrap();
        let mut command = Command::new(Path::new(program).with_file_name("pg_ctl"));
        if rustix::process::getuid().is_root() {
            command.uid(owner.uid()).gid(owner.gid());
        }
        command.args(["restart", "--wait", "--silent", "--mode", mode, "-D"]).arg(&data);
        command.arg("-l").arg(data.with_file_name("log")).current_dir("/").stdin(Stdio::null());
        // The server must not hold pipes of this test.
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert!(status.success(), "pg_ctl restart: {status}");
        assert!(std::net::TcpStream::connect(self.address).is_ok(), "Postgres came back somewhere else");
    }

    fn data(&self) -> PathBuf {
        let below = self.folder.path().join("server/postgres/data");
        if below.exists() {
            return below;
        }
        // Where the server's user cannot enter the folder, the private Postgres lies under /var/lib.
        let home = fs::canonicalize(self.folder.path().join("server")).unwrap();
        let name = jobctl::job::Hash::of(home.as_os_str().as_encoded_bytes()).short();
        Path::new("/var/lib/jobctl").join(name).join("data")
    }

    /// Leaves no byte free on the workers' disk.
    pub fn fill_disk(&self) {
        self.disk.fill();
    }

    /// Makes room again.
    pub fn clear_disk(&self) {
        self.disk.clear();
    }

    /// The ledger; it is on a disk that stays well.
    pub fn ledger(&self) -> PathBuf {
        self.folder.path().join("ledger")
    }

    /// The folder of artifacts.
    pub fn artifacts(&self) -> PathBuf {
        self.home.join("artifacts")
    }
}

impl Drop for Field {
    fn drop(&mut self) {
        self.workers.clear();
        let _ = self.server.stop();
    }
}

/// The workers' disk: a small one of its own, so that filling it hurts nobody else.
struct Disk {
    at: PathBuf,
    /// Without root there is no disk of our own: then the folder is made unwritable instead of full.
    mounted: bool,
}

impl Disk {
    fn mount(at: &Path) -> Self {
        let mounted = rustix::process::getuid().is_root() && {
            let size = format!("size={DISK_MB}m,mode=755");
            let status = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).status().unwrap();
            assert!(status.success(), "cannot mount a small disk: {status}");
            true
        };
        Self { at: at.to_owned(), mounted }
    }

    fn fill(&self) {
        if !self.mounted {
            return set_mode(&self.at.join("artifacts"), 0o500);
        }
        let mut file = fs::File::create(self.at.join("ballast")).unwrap();
        let block = vec![1; 1 << 20];
        let mut size = block.len();
        // To the last byte.
        while size > 0 {
            while file.write_all(&block[..size]).is_ok() {}
            size /= 2;
        }
    }

    fn clear(&self) {
        if self.mounted {
            fs::remove_file(self.at.join("ballast")).unwrap();
        } else {
            set_mode(&self.at.join("artifacts"), 0o755);
        }
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::create_dir_all(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            // Lazily: a process that dies slowly may still be in it.
            let _ = Command::new("umount").arg("--lazy").arg(&self.at).status();
        }
    }
}
