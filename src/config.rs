//! Settings from the environment, read once and passed down.

pub mod judge;
mod mail;
mod store;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use secrecy::{ExposeSecret, SecretString};

pub use judge::JudgeSettings;
pub use mail::{MailSettings, Security, Server, Way};
pub use store::{StorePlace, StoreSettings};

/// Where things are and how patient the workers are.
#[derive(Clone, Debug)]
pub struct Config {
    /// All state of this folder's jobctl: `JOBCTL_HOME`, else `./.jobctl`.
    pub home: PathBuf,
    /// The team's Postgres: `DATABASE_URL`; unset means a private one under `home`.
    pub database_url: Option<Secret>,
    /// Where artifacts are kept.
    pub store: StoreSettings,
    /// Which machine judges are asked; none asks nobody.
    pub judge: Option<JudgeSettings>,
    /// How mails leave.
    pub mail: MailSettings,
    /// How workers keep time.
    pub times: Times,
    /// Whether leases are left unchecked, which only a test of debug builds may ask for: `JOBCTL_TEST_NO_FENCES`.
    pub no_fences: bool,
}

/// How workers keep time. Tests make all of it small.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// A worker says that it lives once in this time: `JOBCTL_BEAT_MS`, 10 s.
    pub beat: Duration,
    /// A worker silent for this long has lost its jobs: `JOBCTL_STALE_MS`, 45 s.
    pub stale: Duration,
    /// What a slot has between SIGTERM and SIGKILL: `JOBCTL_GRACE_MS`, 30 s.
    pub grace: Duration,
    /// An idle slot looks for work at least once in this time: `JOBCTL_POLL_MS`, 2 s.
    pub poll: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            beat: Duration::from_secs(10),
            stale: Duration::from_secs(45),
            grace: Duration::from_secs(30),
            poll: Duration::from_secs(2),
        }
    }
}

/// A text that is never shown, and is wiped from memory when it is dropped.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(SecretString::from(text.into()))
    }

    /// The text, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        self.0.expose_secret()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// What the environment says about logging.
#[derive(Clone, Debug, Default)]
pub struct LogWishes {
    /// What is logged, and the variable that says so: `JOBCTL_LOG`, else `RUST_LOG`.
    pub filter: Option<(&'static str, String)>,
    /// What a line looks like: `JOBCTL_LOG_FORMAT`.
    pub format: Option<String>,
}

impl LogWishes {
    /// Reads the environment.
    pub fn from_env() -> Self {
        let filter = ["JOBCTL_LOG", "RUST_LOG"].into_iter().find_map(|name| Some((name, variable(name)?)));
        Self { filter, format: variable("JOBCTL_LOG_FORMAT") }
    }
}

impl Config {
    /// Reads the environment.
    ///
    /// # Errors
    /// A time that is no whole number of milliseconds, or 0; a store that is none.
    pub fn from_env() -> anyhow::Result<Self> {
        let times = Times::default();
        let no_fences = variable("JOBCTL_TEST_NO_FENCES").is_some();
        anyhow::ensure!(
            cfg!(debug_assertions) || !no_fences,
            "JOBCTL_TEST_NO_FENCES is for tests of debug builds: this build always checks leases"
        );
        let home = variable("JOBCTL_HOME").map_or_else(|| PathBuf::from(".jobctl"), PathBuf::from);
        Ok(Self {
            no_fences,
            store: StoreSettings::from_env(&home, variable, aws_variables())?,
            judge: JudgeSettings::from_env(variable)?,
            mail: MailSettings::from_env(variable)?,
            home,
            database_url: variable("DATABASE_URL").map(Secret::new),
            times: Times {
                beat: milliseconds("JOBCTL_BEAT_MS", times.beat)?,
                stale: milliseconds("JOBCTL_STALE_MS", times.stale)?,
                grace: milliseconds("JOBCTL_GRACE_MS", times.grace)?,
                poll: milliseconds("JOBCTL_POLL_MS", times.poll)?,
            },
        })
    }

    /// The folder of rendered reports.
    pub fn reports(&self) -> PathBuf {
        self.home.join("reports")
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|it| !it.is_empty())
}

fn aws_variables() -> Vec<(String, Secret)> {
    let all =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    all.filter(|it| it.0.starts_with("AWS_") && !it.1.is_empty())
        .map(|(name, value)| (name, Secret::new(value)))
        .collect()
}

fn milliseconds(name: &str, default: Duration) -> anyhow::Result<Duration> {
    let Some(text) = variable(name) else { return Ok(default) };
    let n: u64 = text.parse().with_context(|| format!("{name} is `{text}`, not a whole number of milliseconds"))?;
    anyhow::ensure!(n > 0, "{name} must be at least 1");
    Ok(Duration::from_millis(n))
}
