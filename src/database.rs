//! Opens Postgres, the team's or a private one, and brings its tables up to date.

pub mod private;
pub mod throwaway;

use std::time::Duration;

use anyhow::Context;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgConnection, PgPool};

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

/// A pool of at most `n_connections`, its tables as they are.
///
/// # Errors
/// Postgres cannot be reached or refuses us.
pub async fn connect(url: &Secret, n_connections: u32) -> anyhow::Result<PgPool> {
    // The address may hold a password: errors name the host and the database instead.
    let options: PgConnectOptions = url.reveal().parse().context("DATABASE_URL is no Postgres address")?;
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
        .after_release(|connection, _| Box::pin(async move { answers(connection).await.map(|()| true) }))
        .connect_with(options)
        .await
        .with_context(|| format!("connect to Postgres at {name}"))
}

/// Whether Postgres answers on this connection, soon.
async fn answers(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    tokio::time::timeout(SILENCE, connection.ping()).await.map_err(|_| sqlx::Error::PoolTimedOut)?
}

fn log_level() -> tracing::log::LevelFilter {
    tracing::log::LevelFilter::Warn
}

/// Brings the tables up to date and makes the partitions of the months to come.
///
/// # Errors
/// The tables were made by a newer jobctl, or our role may not make tables.
pub async fn migrate(pool: &PgPool) -> anyhow::Result<()> {
    MIGRATIONS.run(pool).await.map_err(|error| match error {
        sqlx::migrate::MigrateError::VersionMissing(version) => {
            anyhow::anyhow!("this database has been used by a newer jobctl (migration {version}); update this one")
        }
        other => anyhow::Error::new(other).context("bring the tables up to date"),
    })?;
    sqlx::query!("select ensure_months(3)").execute(pool).await.context("make the partitions of the coming months")?;
    Ok(())
}
