//! Waking idle slots: Postgres says that jobs are ready, and polling stands behind it.

use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::sync::watch;

use super::Tx;

/// The channel on which one message a statement says that jobs are ready or should end.
const CHANNEL: &str = "jobctl";

/// Tells every worker, once this transaction commits, that there is something to look at.
///
/// # Errors
/// Postgres is out of reach.
pub async fn notify(tx: &mut Tx<'_>) -> anyhow::Result<()> {
    sqlx::query!("select pg_notify($1, '')", CHANNEL).execute(&mut **tx).await?;
    Ok(())
}

/// Rings `bell` whenever Postgres says so; never returns.
/// A lost connection costs nothing but speed: slots poll as well, and listening starts again by itself.
pub async fn listen(pool: PgPool, bell: &watch::Sender<()>) {
    loop {
        if let Err(error) = listen_once(&pool, bell).await {
            tracing::warn!(error = format!("{error:#}"), "the connection that listens for jobs is lost; listening again");
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn listen_once(pool: &PgPool, bell: &watch::Sender<()>) -> anyhow::Result<()> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    loop {
        // What was said before we listened is unheard: look once.
        bell.send_replace(());
        if listener.try_recv().await?.is_none() {
            anyhow::bail!("Postgres closed it");
        }
    }
}
