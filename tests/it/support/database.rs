//! A private Postgres for the whole test run, and an empty database in it for each test.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, OnceLock};

use jobctl::config::Secret;
use jobctl::database::{connect, migrate, private::Postgres};
use jobctl::job::Hash;
use sqlx::{AssertSqlSafe, PgPool};
use tempfile::TempDir;

use super::root;

/// So many tests have a database at a time: Postgres has 100 connections for all of them.
const MOST_AT_ONCE: usize = 4;
/// The connections of a test's own pool.
const N_CONNECTIONS: u32 = 10;

/// A database of a test's own, and a `$JOBCTL_HOME`. Both are gone when it is dropped.
pub struct Database {
    /// Open on it.
    pub pool: PgPool,
    /// Its address.
    pub url: String,
    /// The folder of reports, artifacts and whatever the test puts there.
    pub home: TempDir,
    name: String,
    _turn: Turn,
}

impl Database {
    /// An empty database, its tables made.
    pub async fn new() -> Self {
        static N_MADE: AtomicUsize = AtomicUsize::new(0);
        let turn = tokio::task::spawn_blocking(Turn::take).await.unwrap();
        let server = tokio::task::spawn_blocking(server).await.unwrap();
        let name = format!("it_{}_{}", std::process::id(), N_MADE.fetch_add(1, Ordering::Relaxed));
        server.execute(format!("create database {name} template {}", server.template)).await;
        let url = server.url_of(&name);
        let pool = connect(&Secret::new(url.as_str()), N_CONNECTIONS).await.unwrap();
        Self { pool, url, home: tempfile::tempdir().unwrap(), name, _turn: turn }
    }

    /// The first column of the first row that `query` gives.
    pub async fn number(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(&self.pool).await.unwrap_or_else(|error| panic!("{query}: {error}"))
    }

    /// The first column of the first row that `query` gives.
    pub async fn text(&self, query: &'static str) -> String {
        sqlx::query_scalar(query).fetch_one(&self.pool).await.unwrap_or_else(|error| panic!("{query}: {error}"))
    }

    /// Runs a statement.
    pub async fn execute(&self, statement: &'static str) {
        sqlx::query(statement).execute(&self.pool).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }

    /// Every row of every table, as text: two dumps are equal if nothing has changed.
    pub async fn dump(&self) -> String {
        let tables: Vec<String> = sqlx::query_scalar(
            "select relname::text from pg_class
            where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and not relispartition
                and relname <> '_sqlx_migrations'
            order by relname",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap();
        let mut dump = String::new();
        for table in tables {
            let query = format!("select coalesce(string_agg(t::text, E'\\n' order by t::text), '') from {table} as t");
            let rows: String = sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(&self.pool).await.unwrap();
            dump.push_str(&format!("{table}\n{rows}\n\n"));
        }
        dump
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let name = self.name.clone();
        // A runtime must not be started or waited for inside another.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(server().execute(format!("drop database {name} with (force)")));
        });
        let _ = dropped.join();
    }
}

/// The right to have a database.
struct Turn;

static N_TURNS: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

impl Turn {
    fn take() -> Self {
        let mut n = N_TURNS.1.wait_while(N_TURNS.0.lock().unwrap(), |n| *n >= MOST_AT_ONCE).unwrap();
        *n += 1;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *N_TURNS.0.lock().unwrap() -= 1;
        N_TURNS.1.notify_one();
    }
}

/// The running server.
struct Server {
    url: String,
    template: String,
    /// Shared with every other test process; the server is stopped when nobody holds it any more.
    _in_use: File,
}

impl Server {
    fn url_of(&self, database: &str) -> String {
        let mut url = url::Url::parse(&self.url).unwrap();
        url.set_path(database);
        url.into()
    }

    async fn execute(&self, statement: String) {
        let pool = connect(&Secret::new(self.url.as_str()), 1).await.unwrap();
        sqlx::query(AssertSqlSafe(statement)).execute(&pool).await.unwrap();
        pool.close().await;
    }
}

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    // A thread of its own, because a runtime must not be started inside another.
    SERVER.get_or_init(|| std::thread::spawn(start).join().unwrap())
}

fn start() -> Server {
    let home = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("postgres-home");
    fs::create_dir_all(&home).unwrap();
    let users = home.join("users.lock");
    let in_use = File::create(&users).unwrap();
    in_use.lock_shared().unwrap();
    stop_when_unused(&home, &users);
    let url = Postgres::new(&home).start().unwrap().reveal().to_owned();
    let template = template_name();
    let server = Server { url, template, _in_use: in_use };
    let making = File::create(home.join("template.lock")).unwrap();
    making.lock().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(prepare(&server));
    server
}

/// Drops what killed test runs have left, and makes the template unless it exists.
async fn prepare(server: &Server) {
    let pool = connect(&Secret::new(server.url.as_str()), 1).await.unwrap();
    let names: Vec<String> = sqlx::query_scalar("select datname::text from pg_database where datname like 'it\\_%'")
        .fetch_all(&pool)
        .await
        .unwrap();
    let is_old = |it: &&String| {
        let pid = it.split('_').nth(1).unwrap();
        if pid == "template" { **it != server.template } else { !PathBuf::from("/proc").join(pid).exists() }
    };
    for name in names.iter().filter(is_old) {
        let statement = format!("drop database {name} with (force)");
        sqlx::query(AssertSqlSafe(statement)).execute(&pool).await.unwrap();
    }
    if !names.contains(&server.template) {
        // A run that dies half-way must not leave a half-made template under the right name.
        for statement in ["drop database if exists it_template_draft with (force)", "create database it_template_draft"]
        {
            sqlx::query(statement).execute(&pool).await.unwrap();
        }
        let draft = connect(&Secret::new(server.url_of("it_template_draft")), 1).await.unwrap();
        migrate(&draft).await.unwrap();
        draft.close().await;
        let rename = format!("alter database it_template_draft rename to {}", server.template);
        sqlx::query(AssertSqlSafe(rename)).execute(&pool).await.unwrap();
    }
    pool.close().await;
}

/// Changes when the migrations do.
fn template_name() -> String {
    let mut paths: Vec<_> = fs::read_dir(root().join("migrations")).unwrap().map(|it| it.unwrap().path()).collect();
    paths.sort();
    let texts: Vec<Vec<u8>> = paths.iter().map(|it| fs::read(it).unwrap()).collect();
    format!("it_template_{}", Hash::of(&texts.concat()).short())
}

/// Leaves a process behind that stops the server as soon as no test process lives.
#[expect(clippy::zombie_processes, reason = "it outlives this process")]
fn stop_when_unused(home: &std::path::Path, users: &std::path::Path) {
    Command::new("flock")
        .arg("--exclusive")
        .arg(users)
        .arg(env!("CARGO_BIN_EXE_jobctl"))
        .args(["db", "stop"])
        .env("JOBCTL_HOME", home)
        .env_remove("DATABASE_URL")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
}
