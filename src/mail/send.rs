//! The sender: takes mails from the outbox, hands them over, writes down how it went.

use std::time::Duration;

use sqlx::PgPool;
use tokio::time::interval;
use uuid::Uuid;

use super::folder;
use super::smtp::{self, Trouble};
use crate::config::{MailSettings, Times, Way};
use crate::database::within::within;
use crate::queue::LeaseLost;
use crate::store::artifact::Artifacts;
use crate::store::outbox::{self, Delivery, End, Held, Taken};

/// What a sender needs.
#[derive(Clone, Copy, Debug)]
pub struct Sender<'a> {
    /// The outbox.
    pub pool: &'a PgPool,
    /// Where the messages are.
    pub artifacts: &'a Artifacts,
    /// Which way they go.
    pub settings: &'a MailSettings,
    /// How long a mail is held without a sign of life.
    pub times: Times,
    /// This machine's name, for people.
    pub host: &'a str,
}

impl Sender<'_> {
    /// Sends what is due, one after the other. Returns how many went, and how many did not.
    ///
    /// # Errors
    /// Postgres is out of reach. What kept a mail from going is written in its row.
    pub async fn send_due(&self) -> anyhow::Result<(usize, usize)> {
        let (mut n_sent, mut n_kept) = (0, 0);
        while let Some(sent) = self.send_next(None).await? {
            if sent {
                n_sent += 1;
            } else {
                n_kept += 1;
            }
        }
        Ok((n_sent, n_kept))
    }

    /// Sends the mail that is due first. False if none was.
    ///
    /// # Errors
    /// Postgres is out of reach. What kept a mail from going is written in its row.
    pub async fn send_next_due(&self) -> anyhow::Result<bool> {
        Ok(self.send_next(None).await?.is_some())
    }

    /// Sends this mail now, if it is due and nobody else has it. True if it went.
    ///
    /// # Errors
    /// Postgres is out of reach.
    pub async fn send_one(&self, id: Uuid) -> anyhow::Result<bool> {
        Ok(self.send_next(Some(id)).await?.unwrap_or(false))
    }

    /// None if nothing is due.
    async fn send_next(&self, only: Option<Uuid>) -> anyhow::Result<Option<bool>> {
        let Some(way) = &self.settings.way else { return Ok(None) };
        let Some(taken) = within(self.times.stale, outbox::take(self.pool, self.host, self.times.stale, only)).await?
        else {
            return Ok(None);
        };
        let (id, held) = (taken.held.id, taken.held);
        let sending = self.held_while(held, self.hand_over(way, &taken));
        match self.note(held, sending.await).await {
            Err(error) if error.is::<LeaseLost>() => {
                tracing::warn!(mail = %id, "another sender has taken the mail over; ours is dropped");
                Ok(Some(false))
            }
            other => other.map(Some),
        }
    }

    async fn hand_over(&self, way: &Way, taken: &Taken) -> Result<Delivery, Trouble> {
        let message = match self.artifacts.get(&taken.message).await {
            Ok(message) => message,
            Err(fault) if fault.is_loss() => return Err(Trouble::Never(format!("the message is lost: {fault}"))),
            Err(fault) => return Err(Trouble::Later(fault.to_string())),
        };
        match way {
            Way::Smtp(server) => {
                let stale = self.times.stale;
                let before = within(stale, outbox::hand_over(self.pool, taken.held, stale));
                smtp::hand_over(server, &taken.sender, &taken.pending, &message, before).await
            }
            Way::Folder(path) => {
                // A file is there or it is not, whoever writes it: there is nothing to doubt.
                let (path, id) = (path.clone(), taken.held.id.to_string());
                let written = tokio::task::spawn_blocking(move || folder::write(&path, &id, &message)).await;
                let path = match written {
                    Ok(written) => written.map_err(|it| Trouble::Later(format!("{it:#}")))?,
                    Err(panicked) => return Err(Trouble::Later(panicked.to_string())),
                };
                Ok(Delivery {
                    accepted: taken.pending.clone(),
                    reply: path.display().to_string(),
                    ..Delivery::default()
                })
            }
        }
    }

    /// Writes down how it went. True if the mail is sent.
    async fn note(&self, held: Held, outcome: Result<Delivery, Trouble>) -> anyhow::Result<bool> {
        let (pool, mail) = (self.pool, held.id);
        match outcome {
            Ok(delivery) => {
                // The server has it: that must be known, even if Postgres is away for a while.
                self.insist(async || outbox::delivered(pool, held, &delivery, self.settings.first_wait).await).await?;
                let refused = delivery.refused.join("; ");
                tracing::info!(%mail, n = delivery.accepted.len(), refused, reply = delivery.reply, "a mail was sent");
                Ok(delivery.deferred.is_empty())
            }
            Err(Trouble::Later(error)) => {
                let put_off = outbox::put_off(pool, held, &error, self.settings.first_wait);
                let again = within(self.times.stale, put_off).await?;
                tracing::warn!(%mail, error, again, "a mail could not be sent");
                Ok(false)
            }
            Err(Trouble::Never(error)) => {
                within(self.times.stale, outbox::end(pool, held, End::Failed, &error)).await?;
                tracing::warn!(%mail, error, "the server will not have a mail");
                Ok(false)
            }
            Err(Trouble::Doubtful(error)) => {
                self.insist(async || outbox::end(pool, held, End::Doubtful, &error).await).await?;
                tracing::warn!(%mail, error, "nobody knows whether a mail was sent; `jobctl mail retry` sends it again");
                Ok(false)
            }
            Err(Trouble::Stopped(error)) => Err(error),
        }
    }

    /// Tries to write until it works, the lease is lost, or about five minutes have passed.
    async fn insist(&self, write: impl AsyncFn() -> anyhow::Result<()>) -> anyhow::Result<()> {
        for n in 0_u32.. {
            match within(self.times.stale, write()).await {
                Err(error) if !error.is::<LeaseLost>() && n < 60 => {
                    tracing::warn!(error = format!("{error:#}"), "cannot write how a mail went; trying again");
                    tokio::time::sleep(Duration::from_millis(5000.min(100 << n.min(6)))).await;
                }
                other => return other,
            }
        }
        Ok(())
    }

    /// Waits for `work`, holding the mail meanwhile.
    async fn held_while<T>(&self, held: Held, work: impl Future<Output = T>) -> T {
        let holding = async {
            let mut beat = interval(self.times.beat.max(Duration::from_millis(50)));
            loop {
                beat.tick().await;
                // Whether the lease still holds is asked before anything is handed over.
                if let Err(error) = within(self.times.stale, outbox::renew(self.pool, held, self.times.stale)).await {
                    tracing::debug!(error = format!("{error:#}"), "cannot hold the mail longer");
                }
            }
        };
        tokio::select! {
            ended = work => ended,
            never = holding => never,
        }
    }
}
