//! What a worker does about mails: it sends those that are due, and finishes the one in hand before it stops.

use std::time::Duration;

use rand::RngExt;
use sqlx::PgPool;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use crate::config::Config;
use crate::mail::send::Sender;
use crate::store::artifact::Artifacts;
use crate::worker::machine;

/// A thread that sends mails.
#[derive(Debug)]
pub struct Postman {
    stop: watch::Sender<()>,
    ended: Option<oneshot::Receiver<()>>,
}

impl Postman {
    /// Starts it; it does nothing where no way is set.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(pool: PgPool, artifacts: Artifacts, config: &Config) -> std::io::Result<Self> {
        let (stop, stopped) = watch::channel(());
        if config.mail.way.is_none() {
            return Ok(Self { stop, ended: None });
        }
        let (sender, ended) = oneshot::channel();
        let (runtime, config) = (Handle::current(), config.clone());
        std::thread::Builder::new().name("mail".to_owned()).spawn(move || {
            runtime.block_on(send(&pool, &artifacts, &config, stopped));
            // Nobody listens where the worker had to stop.
            let _ = sender.send(());
        })?;
        Ok(Self { stop, ended: Some(ended) })
    }

    /// Ends it when the mail in hand is written down, or after `grace`.
    pub async fn stop(self, grace: Duration) {
        let _ = self.stop.send(());
        if let Some(ended) = self.ended
            && timeout(grace, ended).await.is_err()
        {
            tracing::warn!("a mail was being sent when this worker had to stop");
        }
    }
}

async fn send(pool: &PgPool, artifacts: &Artifacts, config: &Config, mut stopped: watch::Receiver<()>) {
    let host = machine::host();
    let sender = Sender { pool, artifacts, settings: &config.mail, times: config.times, host: &host };
    loop {
        // It stops between two mails, never within one.
        match sender.send_next_due().await {
            Ok(true) if !stopped.has_changed().unwrap_or(true) => continue,
            Ok(_) => {}
            Err(error) => tracing::warn!(error = format!("{error:#}"), "cannot look after the mails; trying again"),
        }
        let pause = config.times.beat.mul_f64(rand::rng().random_range(0.75..1.25));
        if timeout(pause, stopped.changed()).await.is_ok() {
            return;
        }
    }
}
