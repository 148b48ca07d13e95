//! A worker's word to those who watch it, over HTTP: `/metrics` for Prometheus, `/healthz` and `/readyz` for whoever
//! restarts workers. It only answers; nothing can be asked of the worker here.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use prometheus::{Gauge, GaugeVec, Opts, Registry, TextEncoder};
use sqlx::PgPool;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::timeout;

use super::vitals::{Slot, Vitals};
use crate::queue::gauge::{Measured, measure};

/// The longest time that a question, its answer, or Postgres may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest request, in bytes: those who ask send a line and some headers.
const LONGEST: usize = 8 << 10;
/// So many are answered at a time.
const MOST_AT_ONCE: usize = 16;

/// What answers.
pub struct Health {
    vitals: Arc<Vitals>,
    pool: PgPool,
    /// A worker whose last beat is older than this counts as dead.
    stale: Duration,
    /// The last count of the queue that was had: shown, with its age, while Postgres is away.
    last: Mutex<Option<(Measured, std::time::Instant)>>,
}

/// An answer: status, content type, body.
type Answer = (u16, &'static str, String);

const PLAIN: &str = "text/plain; charset=utf-8";

impl Health {
    /// Of a worker that is dead after `stale` without a beat.
    pub fn new(vitals: Arc<Vitals>, pool: PgPool, stale: Duration) -> Self {
        Self { vitals, pool, stale, last: Mutex::new(None) }
    }

    /// Answers whoever asks at `listener`, until it is dropped.
    pub async fn serve(self, listener: TcpListener) -> Infallible {
        let health = Arc::new(self);
        let turns = Arc::new(Semaphore::new(MOST_AT_ONCE));
        loop {
            let Ok(turn) = turns.clone().acquire_owned().await else { std::future::pending().await };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let health = health.clone();
                    tokio::spawn(async move {
                        // Whoever asks and leaves has had his answer.
                        let _ = timeout(3 * PATIENCE, health.answer(stream)).await;
                        drop(turn);
                    });
                }
                Err(error) => {
                    tracing::warn!(error = %error, "cannot take a connection for metrics");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }

    async fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let Ok(Ok(Some(line))) = timeout(PATIENCE, read_head(&mut stream)).await else { return Ok(()) };
        let mut words = line.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let path = target.split('?').next().unwrap_or_default();
        let (status, kind, body) = match (method, path) {
            ("GET" | "HEAD", "/metrics") => self.metrics().await,
            ("GET" | "HEAD", "/healthz") => self.alive(),
            ("GET" | "HEAD", "/readyz") => self.ready().await,
            ("GET" | "HEAD", "/") => (200, PLAIN, "jobctl worker: /metrics /healthz /readyz\n".to_owned()),
            ("GET" | "HEAD", _) => (404, PLAIN, "there is /metrics, /healthz and /readyz\n".to_owned()),
            _ => (405, PLAIN, "only GET and HEAD are answered\n".to_owned()),
        };
        let reason = match status {
            200 => "OK",
            404 => "Not Found",
            405 => "Method Not Allowed",
            _ => "Service Unavailable",
        };
        let length = body.len();
        let mut bytes = format!(
            "HTTP/1.1 {status} {reason}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\ncache-control: no-store\r\nconnection: close\r\n\r\n"
        );
        if method != "HEAD" {
            bytes.push_str(&body);
        }
        timeout(PATIENCE, stream.write_all(bytes.as_bytes())).await??;
        stream.shutdown().await
    }

    /// Whether the beat is recent: who restarts workers asks this. Postgres being away for a while is no reason to.
    fn alive(&self) -> Answer {
        match self.vitals.beat_age() {
            Some(age) if age <= self.stale => (200, PLAIN, "ok\n".to_owned()),
            Some(age) => (503, PLAIN, format!("the last beat was {:.0} s ago\n", age.as_secs_f64())),
            None => (503, PLAIN, "no beat yet\n".to_owned()),
        }
    }

    /// Whether it takes jobs; says all that is in the way.
    async fn ready(&self) -> Answer {
        let mut faults = Vec::new();
        if self.vitals.is_draining() {
            faults.push("it drains".to_owned());
        }
        if self.vitals.n_slots(Slot::Idle) + self.vitals.n_slots(Slot::Busy) == 0 {
            faults.push("no slot lives".to_owned());
        }
        faults.extend(self.ask_postgres().await.err());
        if faults.is_empty() { (200, PLAIN, "ok\n".to_owned()) } else { (503, PLAIN, faults.join("; ") + "\n") }
    }

    /// Whether Postgres answers, soon; else what is in the way.
    async fn ask_postgres(&self) -> Result<(), String> {
        match timeout(PATIENCE, crate::queue::schedule::clock(&self.pool)).await {
            Ok(Ok(_)) => Ok(()),
            // The error may name the database; who asks here need not know more than that.
            Ok(Err(_)) => Err("Postgres is out of reach".to_owned()),
            Err(_) => Err(format!("Postgres does not answer within {} s", PATIENCE.as_secs())),
        }
    }

    async fn metrics(&self) -> Answer {
        let mut families = self.vitals.gather();
        // On its own, so that a count that takes longer than this answer may is not lost.
        let pool = self.pool.clone();
        let counting = tokio::spawn(async move { measure(&pool).await });
        let (measured, now) = tokio::join!(timeout(PATIENCE, counting), self.ask_postgres());
        let measured = measured.map(|it| it.unwrap_or_else(|error| Err(error.into())));
        let mut last = self.last.lock().await;
        match measured {
            Ok(Ok(Some(measured))) => *last = Some((measured, std::time::Instant::now())),
            // Another worker counts for the first time.
            Ok(Ok(None)) => {}
            Ok(Err(error)) => tracing::warn!(error = format!("{error:#}"), "cannot count the queue for metrics"),
            Err(_) => tracing::warn!("counting the queue takes longer than metrics may: the next scrape has the count"),
        }
        match of_queue(last.as_ref().map(|(it, at)| (it, it.age_s + at.elapsed().as_secs_f64())), now.is_ok()).and_then(
            |more| {
                families.extend(more);
                TextEncoder::new().encode_to_string(&families).context("write the metrics")
            },
        ) {
            Ok(text) => (200, "text/plain; version=0.0.4; charset=utf-8", text),
            Err(error) => (503, PLAIN, format!("{error:#}\n")),
        }
    }
}

/// The metrics that are the whole queue's, equal at every worker.
fn of_queue(measured: Option<(&Measured, f64)>, is_up: bool) -> anyhow::Result<Vec<prometheus::proto::MetricFamily>> {
    let registry = Registry::new();
    let one = |name: &str, help: &str, value: f64| -> anyhow::Result<()> {
        let gauge = Gauge::new(name, help)?;
        gauge.set(value);
        Ok(registry.register(Box::new(gauge))?)
    };
    one("jobctl_database_up", "Whether Postgres has answered just now.", f64::from(u8::from(is_up)))?;
    if let Some((Measured { gauge, took_s, .. }, age_s)) = measured {
        one("jobctl_queue_count_age_seconds", "Time since the queue was counted.", age_s)?;
        one("jobctl_queue_count_duration_seconds", "Time that counting took.", *took_s)?;
        one("jobctl_workers", "Workers that have beaten within a minute.", gauge.n_workers as f64)?;
        one("jobctl_worker_slots", "Slots of all those workers.", gauge.n_slots as f64)?;
        let help = "Schedules whose last firing failed or cannot be done.";
        one("jobctl_schedules_failing", help, gauge.n_schedules_failing as f64)?;
        let help = "Unfinished jobs by state and kind: later ones wait for their next try, held ones for a resume.";
        let jobs = GaugeVec::new(Opts::new("jobctl_queue_jobs", help), &["state", "kind"])?;
        for (state, kinds) in &gauge.jobs {
            for (kind, n) in kinds {
                jobs.with_label_values(&[state, kind]).set(*n as f64);
            }
        }
        registry.register(Box::new(jobs))?;
        let help = "Time for which the longest waiting ready job could have been claimed, by kind.";
        let oldest = GaugeVec::new(Opts::new("jobctl_queue_oldest_ready_seconds", help), &["kind"])?;
        for (kind, seconds) in &gauge.oldest_ready_s {
            oldest.with_label_values(&[kind]).set(*seconds + age_s);
        }
        registry.register(Box::new(oldest))?;
    }
    Ok(registry.gather())
}

/// The first line of a request, once all its headers have come; none if it is too long or no text.
async fn read_head(stream: &mut TcpStream) -> std::io::Result<Option<String>> {
    let mut head = Vec::new();
    let mut part = [0; 1024];
    while !head.windows(4).any(|it| it == b"\r\n\r\n") {
        let n = stream.read(&mut part).await?;
        if n == 0 || head.len() + n > LONGEST {
            return Ok(None);
        }
        head.extend_from_slice(&part[..n]);
    }
    let line = head.split(|it| *it == b'\r').next().unwrap_or_default();
    Ok(String::from_utf8(line.to_vec()).ok())
}

/// Opens the address that is listened at, such as `127.0.0.1:9464`; port 0 takes any that is free.
///
/// # Errors
/// The address is taken or not ours.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("listen at {address}"))?;
    tracing::info!(address = %listener.local_addr()?, "metrics and health are told here");
    Ok(listener)
}
