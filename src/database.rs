//! Opens Postgres, the team's or a private one, and brings its tables up to date.

pub mod private;
pub mod roles;
pub mod throwaway;
pub mod within;

use std::time::Duration;

use anyhow::Context;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, PgPool};

use crate::config::{Config, Secret};

/// An idle connection is asked whether it lives before it is used again, if it was idle for longer.
const FRESH: Duration = Duration::from_secs(1);
/// One that does not answer for so long is closed.
const SILENCE: Duration = Duration::from_secs(5);

/// The steps that make the tables; each is applied once.
static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!();

/// The address of the database: the team's, or that of the private one, which is started if it does not run.
///
/// # Errors
/// Whatever keeps the private Postgres from starting.
pub fn url(config: &Config) -> anyhow::Result<Secret> {
    match &config.database_url {
        Some(url) => Ok(url.clone()),
        None => private::Postgres::new(&config.home).start(),
    }
}

/// A pool of at most `n_connections` to the database, its tables up to date.
///
/// # Errors
/// Postgres cannot be reached or refuses us, or its tables were made by a newer jobctl.
pub async fn open(config: &Config, n_connections: u32) -> anyhow::Result<PgPool> {
    let url = url(config)?;
    let pool = connect(&url, n_connections).await?;
    migrate(&pool).await?;
    Ok(pool)
}

/// As [`open`], for a worker: no statement waits for a lock longer than `patience`, and a transaction in which nothing is said
/// for so long is undone. So what a worker holds is free soon after its machine has died, and what it no longer waits for does
/// not pile up in Postgres.
///
/// # Errors
/// Those of [`open`].
pub async fn open_for_work(config: &Config, n_connections: u32, patience: Duration) -> anyhow::Result<PgPool> {
    let url = url(config)?;
    let ms = patience.as_millis();
    let bounds = format!("set lock_timeout = {ms}; set idle_in_transaction_session_timeout = {ms}");
    let pool = connect_with(&url, n_connections, Some(bounds)).await?;
    migrate(&pool).await?;
    Ok(pool)
}

/// A pool of at most `n_connections`, its tables as they are.
///
/// # Errors
/// Postgres cannot be reached or refuses us.
pub async fn connect(url: &Secret, n_connections: u32) -> anyhow::Result<PgPool> {
    connect_with(url, n_connections, None).await
}

/// The same, each connection told something first.
async fn connect_with(url: &Secret, n_connections: u32, first: Option<String>) -> anyhow::Result<PgPool> {
    // The address may hold a password, and what is wrong with it may be a part of it: errors repeat neither.
    let options: PgConnectOptions = url.reveal().parse().ok().context(
        "DATABASE_URL is no Postgres address: it is postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=verify-full",
    )?;
    let options = options.application_name("jobctl").log_slow_statements(log_level(), Duration::from_secs(5));
    let name =
        format!("{}:{}/{}", options.get_host(), options.get_port(), options.get_database().unwrap_or("postgres"));
    PgPoolOptions::new()
        .max_connections(n_connections)
        .acquire_timeout(Duration::from_secs(30))
        // What has been idle for a moment only is as good as when it came back.
        .test_before_acquire(false)
        .before_acquire(|connection, idle| {
            Box::pin(async move {
                if idle.idle_for > FRESH {
                    answers(connection).await?;
                }
                Ok(true)
            })
        })
        // A connection that the network has forgotten would be waited for without end.
        .after_connect(move |connection, _| {
            let first = first.clone();
            Box::pin(async move {
                if let Some(first) = first {
                    connection.execute(AssertSqlSafe(first)).await?;
                }
                Ok(())
            })
        })
        .after_release(|connection, _| Box::pin(async move { answers(connection).await.map(|()| true) }))
        .connect_with(options)
        .await
        .map_err(|error| {
            let help = help(&format!("{error:?}"));
            let error = anyhow::Error::new(error);
            if let Some(help) = help { error.context(help) } else { error }
        })
        .with_context(|| format!("connect to Postgres at {name}"))
}

/// A pool of one connection to the same database, which is there whoever holds those of `pool`. It connects when it is used.
pub fn one_beside(pool: &PgPool) -> PgPool {
    let options = pool.connect_options();
    pool.options().clone().max_connections(1).connect_lazy_with(options.as_ref().clone())
}

/// What to do about a connection that fails for its encryption.
fn help(error: &str) -> Option<&'static str> {
    let has = |words: &[&str]| words.iter().any(|it| error.contains(it));
    if has(&["UnknownIssuer", "BadSignature", "CaUsedAsEndEntity"]) {
        Some(
            "its certificate is not signed by anybody whom this machine trusts: name the right certificate in the address, \
             sslmode=verify-full&sslrootcert=/path/to/ca.pem",
        )
    } else if has(&["NotValidForName"]) {
        Some("its certificate is for another host: name the host in the address as the certificate does")
    } else if has(&["Expired"]) {
        Some("its certificate has expired")
    } else if has(&["server does not support TLS"]) {
        Some("it does not encrypt, and the address wants that (sslmode): set ssl = on there")
    } else {
        None
    }
}

/// Whether Postgres answers on this connection, soon.
async fn answers(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    tokio::time::timeout(SILENCE, connection.ping()).await.map_err(|_| sqlx::Error::PoolTimedOut)?
}

fn log_level() -> tracing::log::LevelFilter {
    tracing::log::LevelFilter::Warn
}

/// Brings the tables up to date, unless they are, and makes the partitions of the months to come, if our role may.
///
/// # Errors
/// The tables were made by a newer jobctl, or our role may not change them.
pub async fn migrate(pool: &PgPool) -> anyhow::Result<()> {
    if !is_up_to_date(pool).await? {
        roles::check_owner(pool).await?;
        update(pool).await?;
    }
    let may: bool = sqlx::query_scalar("select has_function_privilege(current_user, 'ensure_months(int)', 'execute')")
        .fetch_one(pool)
        .await
        .context("look at our rights")?;
    if may {
        sqlx::query!("select ensure_months(3)")
            .execute(pool)
            .await
            .context("make the partitions of the coming months")?;
    }
    Ok(())
}

/// Whether exactly our migrations have been applied. A role that may only work can see that, and need not apply any.
async fn is_up_to_date(pool: &PgPool) -> anyhow::Result<bool> {
    let made: bool = sqlx::query_scalar("select to_regclass('_sqlx_migrations') is not null")
        .fetch_one(pool)
        .await
        .context("look for the tables")?;
    if !made {
        return Ok(false);
    }
    roles::check_member(pool).await?;
    let applied: Vec<(i64, Vec<u8>, bool)> =
        sqlx::query_as("select version, checksum, success from _sqlx_migrations order by version")
            .fetch_all(pool)
            .await
            .context("look at the tables' version")?;
    let ours = MIGRATIONS.iter().filter(|it| it.migration_type.is_up_migration());
    Ok(ours.map(|it| (it.version, it.checksum.to_vec(), true)).eq(applied))
}

async fn update(pool: &PgPool) -> anyhow::Result<()> {
    let mut connection = pool.acquire().await.context("bring the tables up to date")?;
    // What is made belongs to the owner where there is one.
    let has_owner: bool = sqlx::query_scalar(
        "select exists (
            select from pg_roles
            where rolname = 'jobctl_owner' and pg_has_role(current_user, oid, 'member')
                and has_schema_privilege(oid, current_schema(), 'create')
                and exists (select from pg_class where relname = 'sweep' and relowner = pg_roles.oid)
        )",
    )
    .fetch_one(&mut *connection)
    .await
    .context("look for the owner's role")?;
    if has_owner {
        sqlx::query("set role jobctl_owner").execute(&mut *connection).await.context("become the owner")?;
    }
    let applied = MIGRATIONS.run(&mut *connection).await;
    if has_owner {
        sqlx::query("reset role").execute(&mut *connection).await.context("become ourselves again")?;
    }
    applied.map_err(|error| match error {
        sqlx::migrate::MigrateError::VersionMissing(version) => {
            anyhow::anyhow!("this database has been used by a newer jobctl (migration {version}); update this one")
        }
        other => anyhow::Error::new(other).context("bring the tables up to date"),
    })?;
    drop(connection);
    if has_owner {
        let mut tx = pool.begin().await.context("begin a transaction")?;
        roles::grant(&mut tx).await?;
        tx.commit().await.context("give the roles their rights")?;
    }
    Ok(())
}
