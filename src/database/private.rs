//! A private Postgres under `$JOBCTL_HOME`, made of the machine's own binaries and shared by all jobctl processes there.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::{OpenOptionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};

use crate::config::Secret;
use crate::job::Hash;

/// What the server is told beside its defaults.
const SETTINGS: &str = "
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 100
shared_buffers = 512MB
wal_buffers = 64MB
max_wal_size = 4GB
jit = off
";

/// The private server of one `$JOBCTL_HOME`.
pub struct Postgres {
    home: PathBuf,
}

impl Postgres {
    /// The server that belongs to `home`, whether it exists or not.
    pub fn new(home: &Path) -> Self {
        Self { home: home.to_owned() }
    }

    /// Makes the server if there is none, starts it if it does not run, and returns its address.
    /// Processes that do this at the same time wait for each other.
    ///
    /// # Errors
    /// No Postgres binaries on this machine, or whatever `initdb` and `pg_ctl` say.
    pub fn start(&self) -> anyhow::Result<Secret> {
        fs::create_dir_all(&self.home).with_context(|| format!("make {}", self.home.display()))?;
        let lock = File::create(self.home.join("postgres.lock")).context("lock the private Postgres")?;
        lock.lock().context("lock the private Postgres")?;
        let bin = binaries()?;
        let user = ServerUser::choose()?;
        let place = self.place(&user)?;
        if !place.join("data/PG_VERSION").exists() {
            initialise(&bin, &user, &place)?;
        }
        if !is_running(&bin, &user, &place)? {
            start(&bin, &user, &place)?;
        }
        let password = fs::read_to_string(place.join("password")).context("read the private Postgres's password")?;
        let port = running_port(&place)?;
        Ok(Secret::new(format!("postgres://jobctl:{}@127.0.0.1:{port}/postgres", password.trim())))
    }

    /// Stops the server; false if it did not run.
    ///
    /// # Errors
    /// Whatever `pg_ctl` says.
    pub fn stop(&self) -> anyhow::Result<bool> {
        if !self.home.exists() {
            return Ok(false);
        }
        let bin = binaries()?;
        let user = ServerUser::choose()?;
        let place = self.place(&user)?;
        if !place.join("data/PG_VERSION").exists() || !is_running(&bin, &user, &place)? {
            return Ok(false);
        }
        run(user.command(&bin.join("pg_ctl")).args(["stop", "--mode=fast", "-D"]).arg(place.join("data")))?;
        Ok(true)
    }

    /// Where the server's files are: under `home`, or, where the server's user cannot go there, under /var/lib.
    fn place(&self, user: &ServerUser) -> anyhow::Result<PathBuf> {
        let home = fs::canonicalize(&self.home).with_context(|| format!("find {}", self.home.display()))?;
        let reachable = user.command(Path::new("test")).arg("-x").arg(&home).status().context("run `test`")?.success();
        let place = if reachable {
            home.join("postgres")
        } else {
            let name = Hash::of(home.as_os_str().as_encoded_bytes()).short();
            Path::new("/var/lib/jobctl").join(name)
        };
        fs::create_dir_all(&place).with_context(|| format!("make {}", place.display()))?;
        if let Some((uid, gid)) = user.ids {
            chown(&place, Some(uid), Some(gid))
                .with_context(|| format!("give {} to the server's user", place.display()))?;
        }
        Ok(place)
    }
}

/// Who runs the server: ourselves, or, since Postgres refuses root, the user `postgres`.
struct ServerUser {
    ids: Option<(u32, u32)>,
}

impl ServerUser {
    fn choose() -> anyhow::Result<Self> {
        if !rustix::process::getuid().is_root() {
            return Ok(Self { ids: None });
        }
        let passwd = fs::read_to_string("/etc/passwd").context("read /etc/passwd")?;
        let ids = passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some("postgres")).then_some(())?;
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            Some((uid, gid))
        });
        ensure!(
            ids.is_some(),
            "Postgres refuses to run as root, and there is no user `postgres` to run it; \
             `apt-get install postgresql` makes one, or set DATABASE_URL"
        );
        Ok(Self { ids })
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if let Some((uid, gid)) = self.ids {
            command.uid(uid).gid(gid);
        }
        // The server outlives us: it must not hold our standard streams or sit in a folder that may go.
        command.current_dir("/").stdin(Stdio::null());
        command
    }
}

/// The folder of `initdb` and `pg_ctl`: on PATH, or where Debian puts them, the newest first.
fn binaries() -> anyhow::Result<PathBuf> {
    if let Ok(output) = Command::new("pg_config").arg("--bindir").stderr(Stdio::null()).output() {
        let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        if folder.join("initdb").exists() && folder.join("pg_ctl").exists() {
            return Ok(folder);
        }
    }
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, bin)| bin.join("initdb").exists() && bin.join("pg_ctl").exists())
        .collect();
    versions.sort();
    match versions.pop() {
        Some((version, bin)) => {
            ensure!(version >= 15, "Postgres {version} is too old: jobctl needs 15 or newer");
            Ok(bin)
        }
        None => bail!("no Postgres on this machine: `apt-get install postgresql`, or set DATABASE_URL to the team's"),
    }
}

fn initialise(bin: &Path, user: &ServerUser, place: &Path) -> anyhow::Result<()> {
    let password_file = place.join("password");
    let mut random = [0_u8; 24];
    std::io::Read::read_exact(&mut File::open("/dev/urandom").context("open /dev/urandom")?, &mut random)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&password_file)
        .with_context(|| format!("write {}", password_file.display()))?;
    writeln!(file, "{}", Hash::of(&random)).context("write the private Postgres's password")?;
    if let Some((uid, gid)) = user.ids {
        chown(&password_file, Some(uid), Some(gid)).context("give the password to the server's user")?;
    }
    // A run that died half-way leaves a folder that initdb refuses: make it beside, then move it.
    let draft = place.join("data.new");
    if draft.exists() {
        fs::remove_dir_all(&draft).with_context(|| format!("clear {}", draft.display()))?;
    }
    run(user
        .command(&bin.join("initdb"))
        .args(["--username=jobctl", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-instructions"])
        .arg(format!("--pwfile={}", password_file.display()))
        .arg("-D")
        .arg(&draft))?;
    let mut settings =
        OpenOptions::new().append(true).open(draft.join("postgresql.conf")).context("set Postgres up")?;
    settings.write_all(SETTINGS.as_bytes()).context("set Postgres up")?;
    fs::rename(&draft, place.join("data")).context("put the private Postgres in its place")
}

fn is_running(bin: &Path, user: &ServerUser, place: &Path) -> anyhow::Result<bool> {
    let status = user
        .command(&bin.join("pg_ctl"))
        .args(["status", "-D"])
        .arg(place.join("data"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .context("run pg_ctl")?;
    Ok(status.success())
}

fn start(bin: &Path, user: &ServerUser, place: &Path) -> anyhow::Result<()> {
    let log = place.join("log");
    // Another process may take the port between our look and Postgres's: then the next one is tried.
    for _ in 0..5 {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).context("find a free port")?.port();
        let status = user
            .command(&bin.join("pg_ctl"))
            .args(["start", "--wait", "--silent", "-D"])
            .arg(place.join("data"))
            .arg("-l")
            .arg(&log)
            .arg("-o")
            .arg(format!("-p {port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .context("run pg_ctl")?;
        if status.success() {
            return Ok(());
        }
        let said = fs::read_to_string(&log).unwrap_or_default();
        if !said.lines().rev().take(20).any(|line| line.contains("could not bind")) {
            let tail: Vec<&str> = said.lines().rev().take(5).collect();
            bail!(
                "the private Postgres does not start; {} ends with:\n{}",
                log.display(),
                tail.into_iter().rev().collect::<Vec<_>>().join("\n")
            );
        }
    }
    bail!("the private Postgres finds no free port on 127.0.0.1")
}

/// The port of the running server: the fourth line of its `postmaster.pid`.
fn running_port(place: &Path) -> anyhow::Result<u16> {
    let pid_file = place.join("data/postmaster.pid");
    let text = fs::read_to_string(&pid_file).with_context(|| format!("read {}", pid_file.display()))?;
    let line = text.lines().nth(3).context("the private Postgres says no port")?;
    line.trim().parse().context("the private Postgres says no port")
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("run {name}"))?;
    ensure!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
