//! Waking workers: Postgres says that jobs are ready or should end, and polling stands behind it.

use std::time::Duration;

use anyhow::Context;
use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::sync::watch;
use tokio::time::timeout;

use super::Tx;

/// After so long a silence the listener asks whether Postgres is still there.
const SILENCE: Duration = Duration::from_secs(30);
/// And waits so long for its answer.
const ANSWER: Duration = Duration::from_secs(10);

/// The channel on which all calls come.
const CHANNEL: &str = "jobctl";

/// What a message says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    /// Jobs are ready.
    Ready,
    /// Running jobs should end.
    End,
}

impl Call {
    fn word(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::End => "end",
        }
    }
}

/// Tells every worker, once this transaction commits, that there is something to look at:
/// one message a transaction, however many jobs it is about.
///
/// # Errors
/// Postgres is out of reach.
pub async fn notify(tx: &mut Tx<'_>, call: Call) -> anyhow::Result<()> {
    sqlx::query!("select pg_notify($1, $2)", CHANNEL, call.word())
        .execute(&mut **tx)
        .await
        .context("tell the workers")?;
    Ok(())
}

/// What a `select` says that tells them too.
pub(super) fn notification(call: Call) -> String {
    format!("pg_notify('{CHANNEL}', '{}')", call.word())
}

/// Bells that ring when Postgres calls. A ring is never missed by who subscribed before it.
#[derive(Debug)]
pub struct Bells {
    /// Rings when jobs are ready.
    pub ready: watch::Sender<()>,
    /// Rings when running jobs should end.
    pub end: watch::Sender<()>,
}

impl Default for Bells {
    fn default() -> Self {
        Self { ready: watch::Sender::new(()), end: watch::Sender::new(()) }
    }
}

/// Rings the bells whenever Postgres calls; never returns.
/// A lost connection costs nothing but speed: workers poll as well, and listening starts again by itself.
pub async fn listen(pool: PgPool, bells: &Bells) {
    loop {
        if let Err(error) = listen_once(&pool, bells).await {
            tracing::warn!(
                error = format!("{error:#}"),
                "the connection that listens for jobs is lost; listening again"
            );
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn listen_once(pool: &PgPool, bells: &Bells) -> anyhow::Result<()> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    // What was said before we listened is unheard: look once.
    bells.ready.send_replace(());
    bells.end.send_replace(());
    loop {
        let Ok(heard) = timeout(SILENCE, listener.try_recv()).await else {
            // Nothing was said, or the network has forgotten this connection.
            let asked = timeout(ANSWER, sqlx::query!("select 1 as one").fetch_one(&mut listener)).await;
            asked.context("Postgres does not answer")??;
            continue;
        };
        let Some(message) = heard? else { anyhow::bail!("Postgres closed it") };
        let bell = if message.payload() == Call::End.word() { &bells.end } else { &bells.ready };
        bell.send_replace(());
    }
}
