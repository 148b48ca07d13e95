//! A real mail server, aiosmtpd, with TLS and passwords, that refuses, waits and hangs up where a test says so.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::certificates::Authority;
use super::database::Database;
use super::root;

/// Its version on the package index.
const PACKAGES: [&str; 3] = ["aiosmtpd==1.4.6", "atpublic==9.0.0", "attrs==26.1.0"];
/// The password that it knows, as an address has it. No test may find it anywhere.
const PASSWORD: &str = "s%C3%A9same%2F%C3%B6ffne%20dich";
/// The same, in the clear.
pub const SECRET: &str = "sésame/öffne dich";

/// A server, dead when it is dropped.
pub struct Smtp {
    /// Its folder.
    pub folder: TempDir,
    process: Child,
    port: u16,
    mode: &'static str,
}

impl Smtp {
    /// Starts one: `plain`, `starttls` or `tls`.
    pub fn start(mode: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Authority::new().write_server(folder.path());
        let log = File::create(folder.path().join("errors")).unwrap();
        let mut process = Command::new(python())
            .arg(root().join("tests/it/support/smtp.py"))
            .arg(folder.path())
            .arg(mode)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let start = Instant::now();
        let port = loop {
            if let Ok(port) = fs::read_to_string(folder.path().join("port")) {
                break port.parse().unwrap();
            }
            let errors = || fs::read_to_string(folder.path().join("errors")).unwrap();
            assert!(process.try_wait().unwrap().is_none(), "{}", errors());
            assert!(start.elapsed() < Duration::from_secs(30), "the mail server does not start: {}", errors());
            std::thread::sleep(Duration::from_millis(20));
        };
        Self { folder, process, port, mode }
    }

    /// Its address, with the right password.
    pub fn url(&self) -> String {
        match self.mode {
            "tls" => format!("smtps://reporter:{PASSWORD}@localhost:{}", self.port),
            "starttls" => format!("smtp://reporter:{PASSWORD}@localhost:{}", self.port),
            _ => format!("smtp://localhost:{}?tls=none", self.port),
        }
    }

    /// Its address with another password.
    pub fn wrong_url(&self) -> String {
        self.url().replace(PASSWORD, "open")
    }

    /// The program on this server.
    pub fn command<'a>(&self, db: &Database, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = db.command(arguments);
        command
            .env("JOBCTL_SMTP_URL", self.url())
            .env("JOBCTL_SMTP_CA", self.folder.path().join("ca.pem"))
            .env("JOBCTL_MAIL_FROM", "jobctl <jobctl@example.org>")
            .env("JOBCTL_MAIL_RETRY_MS", "100");
        command
    }

    /// The program on this server; however slow the machine, neither it nor the mail in its hand is taken for dead.
    pub fn patient<'a>(&self, db: &Database, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = self.command(db, arguments);
        command.env("JOBCTL_STALE_MS", "60000");
        command
    }

    /// Tells it what to do at some steps, in place of what it was told before.
    pub fn order(&self, orders: &str) {
        let draft = self.folder.path().join("orders.new");
        fs::write(&draft, orders).unwrap();
        fs::rename(draft, self.folder.path().join("orders")).unwrap();
    }

    /// What has happened.
    pub fn events(&self) -> Vec<Value> {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        // A line that is still being written has no end yet.
        let whole = log.rfind('\n').map_or("", |end| &log[..end]);
        whole.lines().map(|it| serde_json::from_str(it).unwrap()).collect()
    }

    /// How often it has come to a step.
    pub fn n(&self, step: &str) -> usize {
        self.events().iter().filter(|it| it["step"] == step).count()
    }

    /// The messages that it has taken.
    pub fn taken(&self) -> Vec<String> {
        let n = self.n("taken");
        (0..n).map(|it| fs::read_to_string(self.folder.path().join(format!("taken/{it}.eml"))).unwrap()).collect()
    }
}

impl Drop for Smtp {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A Python with the server, made once whichever test asks first.
///
/// # Panics
/// When it cannot be had: a test that needs it must fail, never skip.
pub fn python() -> PathBuf {
    let home = root().join(".jobctl");
    fs::create_dir_all(&home).unwrap();
    let lock = File::create(home.join("aiosmtpd.lock")).unwrap();
    lock.lock().unwrap();
    let folder = home.join("aiosmtpd");
    let python = folder.join("bin/python");
    if !folder.join("made").exists() {
        let run = |command: &mut Command| {
            let output = command.output().unwrap();
            assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        };
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder));
        run(Command::new(folder.join("bin/pip")).args(["install", "--quiet", "--no-deps"]).args(PACKAGES));
        fs::write(folder.join("made"), "").unwrap();
    }
    python
}
