//! What a worker tells over HTTP, against what the database says it did.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use jobctl::config::Secret;
use jobctl::database::connect;
use rustix::process::{Signal, kill_process};

use super::exposition::Exposition;
use crate::support::database::Database;
use crate::support::golden;
use crate::support::pictures::{pictures, pictures_of, sweep};
use crate::support::process::Running;
use crate::support::wait_until;

const LONG: Duration = Duration::from_secs(60);

/// An address that nobody uses just now.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// What `request` is answered: status and body.
fn ask(address: SocketAddr, request: &[u8]) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(request).ok()?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n")?;
    let length = head.lines().find_map(|it| it.strip_prefix("content-length: ")).unwrap();
    let is_head = request.starts_with(b"HEAD");
    assert!(is_head || length.parse::<usize>().unwrap() == body.len(), "{head}");
    Some((head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned()))
}

fn get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    ask(address, format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes())
}

fn metrics(address: SocketAddr) -> Exposition {
    let (status, body) = get(address, "/metrics").unwrap();
    assert_eq!(status, 200, "{body}");
    Exposition::parse(&body)
}

fn start(db: &Database, more: &[&str]) -> (Running, SocketAddr) {
    let address = free_address();
    let text = address.to_string();
    let mut words = vec!["worker", "--slots", "2", "--listen", &text];
    words.extend(more);
    (db.spawn(words), address)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_numbers_are_those_of_the_run() {
    let db = Database::new().await;
    let folder = db.home.path().join("photos");
    pictures(&folder, 6);
    fs::copy(golden("images/truncated.jpg"), folder.join("bad.jpg")).unwrap();
    db.jobctl(["enqueue", sweep(&folder, "seven", "", &["glcm_score"]).to_str().unwrap()], 0);
    let (mut worker, address) = start(&db, &[]);
    let n_ended = async || db.number("select count(*) from job_history").await;
    wait_until("all jobs end", LONG, async || n_ended().await == 7).await;
    wait_until("it says so", LONG, async || metrics(address).sum("jobctl_attempts_total") >= 7.0).await;
    let said = metrics(address);
    assert_eq!(said.get("jobctl_attempts_total", &[("kind", "evaluate"), ("outcome", "done")]), 6.0);
    assert_eq!(said.get("jobctl_attempts_total", &[("kind", "evaluate"), ("outcome", "failed")]), 1.0);
    assert_eq!(said.get("jobctl_job_duration_seconds_count", &[("kind", "evaluate")]), 7.0);
    assert_eq!(said.get("jobctl_claim_wait_seconds_count", &[]), 7.0);
    assert!(said.get("jobctl_claim_duration_seconds_count", &[]) >= 7.0);
    assert_eq!(said.get("jobctl_slots", &[("state", "idle")]), 2.0);
    assert_eq!(said.get("jobctl_slots", &[("state", "gone")]), 0.0);
    assert_eq!(said.get("jobctl_slot_starts_total", &[]), 2.0);
    assert_eq!(said.get("jobctl_database_up", &[]), 1.0);
    assert!(said.get("jobctl_beat_age_seconds", &[]) < 2.0);
    assert_eq!(said.sum("jobctl_build_info"), 1.0);
    assert!(said.names().iter().all(|it| it.starts_with("jobctl_")));
    // The worker's time in attempts is at least what the table says they took.
    let measured = said.get("jobctl_job_duration_seconds_sum", &[("kind", "evaluate")]);
    assert!(measured > 0.0 && measured < 600.0, "{measured}");
    assert_eq!(get(address, "/healthz").unwrap().0, 200);
    assert_eq!(get(address, "/readyz").unwrap(), (200, "ok\n".to_owned()));
    worker.signal(Signal::TERM);
    worker.ends_with(0, LONG);
    assert!(TcpStream::connect(address).is_err(), "it still listens");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_is_counted_by_state_and_kind_and_once_for_all_who_ask() {
    let db = Database::new().await;
    let folder = db.home.path().join("photos");
    pictures(&folder, 5);
    db.jobctl(["enqueue", sweep(&folder, "waits", "", &["glcm_score", "compression_ratio"]).to_str().unwrap()], 0);
    db.execute("update job set run_at = now() - interval '1 hour' where kind = 'evaluate' and n_blockers = 0").await;
    db.execute(
        "update job set held = true where id in (select id from job where kind = 'evaluate' order by id limit 1)",
    )
    .await;
    db.execute("update job set run_at = now() + interval '1 hour' where id in (select id from job where kind = 'evaluate' and not held order by id limit 1)").await;
    let first = jobctl::queue::gauge::measure(&db.pool).await.unwrap().unwrap();
    let n = |state: &str, kind: &str| first.gauge.jobs.get(state).and_then(|it| it.get(kind)).copied().unwrap_or(0);
    assert_eq!((n("ready", "evaluate"), n("held", "evaluate"), n("later", "evaluate")), (3, 1, 1));
    assert_eq!(n("waiting", "pool"), db.number("select count(*) from job where kind = 'pool'").await);
    assert!((3600.0..3700.0).contains(&first.gauge.oldest_ready_s["evaluate"]), "{:?}", first.gauge);
    // What changes within the next seconds is not counted again, whoever asks.
    db.execute("delete from job_edge").await;
    db.execute("update job set state = 'ready', n_blockers = 0").await;
    let second = jobctl::queue::gauge::measure(&db.pool).await.unwrap().unwrap();
    assert_eq!(first.gauge, second.gauge);
    assert!(second.age_s >= first.age_s);
    db.execute("update queue_gauge set next_at = now()").await;
    let third = jobctl::queue::gauge::measure(&db.pool).await.unwrap().unwrap();
    assert!(!third.gauge.jobs.contains_key("waiting"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_slot_is_seen_as_a_restart_and_a_retry() {
    let db = Database::new().await;
    let folder = db.home.path().join("photos");
    pictures_of(&folder, 2, 3000, 3000);
    let path = sweep(&folder, "slow", "", &["glcm_score", "glcm_texture", "compression_ratio"]);
    db.jobctl(["enqueue", path.to_str().unwrap()], 0);
    let (worker, address) = start(&db, &["--no-schedules"]);
    wait_until("a job runs", LONG, async || db.number("select count(*) from job where state = 'running'").await > 0)
        .await;
    let busy = async || metrics(address).get("jobctl_slots", &[("state", "busy")]);
    wait_until("it says so", LONG, async || busy().await > 0.0).await;
    // There before the first failure, which would not be a rise else.
    assert_eq!(metrics(address).get("jobctl_attempts_total", &[("kind", "evaluate"), ("outcome", "failed")]), 0.0);
    for slot in worker.slots() {
        kill_process(slot, Signal::KILL).unwrap();
    }
    wait_until("it says so", LONG, async || {
        let said = metrics(address);
        said.sum("jobctl_slot_restarts_total") >= 1.0 && said.sum("jobctl_slot_starts_total") >= 3.0
    })
    .await;
    // An end is counted just after it is committed.
    wait_until("both say how many are tried again", LONG, async || {
        let said = metrics(address).get("jobctl_attempts_total", &[("kind", "evaluate"), ("outcome", "retried")]);
        said > 0.0 && said == db.number("select count(*) from attempt where outcome = 'retried'").await as f64
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_postgres_is_told_and_its_return_too() {
    let db = Database::new().await;
    let (_worker, address) = start(&db, &[]);
    wait_until("it is ready", LONG, async || get(address, "/readyz").is_some_and(|it| it.0 == 200)).await;
    assert_eq!(metrics(address).get("jobctl_workers", &[]), 1.0);
    let mut elsewhere = url::Url::parse(&db.url).unwrap();
    let name = elsewhere.path().trim_start_matches('/').to_owned();
    elsewhere.set_path("postgres");
    let server = connect(&Secret::new(elsewhere.as_str()), 1).await.unwrap();
    let allow = "update pg_database set datallowconn = $1 where datname = $2";
    sqlx::query(allow).bind(false).bind(&name).execute(&server).await.unwrap();
    let cut = "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1";
    sqlx::query(cut).bind(&name).execute(&server).await.unwrap();
    wait_until("it is not ready", LONG, async || {
        let (status, body) = get(address, "/readyz").unwrap();
        status == 503 && body.contains("Postgres")
    })
    .await;
    // The numbers of the worker itself are told all the same, and the queue's with their age.
    wait_until("the database is down", LONG, async || metrics(address).get("jobctl_database_up", &[]) == 0.0).await;
    assert_eq!(metrics(address).get("jobctl_workers", &[]), 1.0);
    wait_until("it counts as dead", LONG, async || get(address, "/healthz").unwrap().0 == 503).await;
    assert!(metrics(address).get("jobctl_failed_beats_total", &[]) >= 1.0);
    sqlx::query(allow).bind(true).bind(&name).execute(&server).await.unwrap();
    wait_until("it is ready again", LONG, async || {
        get(address, "/readyz").unwrap().0 == 200 && get(address, "/healthz").unwrap().0 == 200
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strange_requests_are_answered_or_dropped_and_harm_nothing() {
    let db = Database::new().await;
    let (_worker, address) = start(&db, &[]);
    // It listens before its first beat.
    wait_until("it beats", LONG, async || get(address, "/healthz").is_some_and(|it| it.0 == 200)).await;
    assert_eq!(get(address, "/metricsx").unwrap().0, 404);
    assert_eq!(ask(address, b"POST /metrics HTTP/1.1\r\ncontent-length: 0\r\n\r\n").unwrap().0, 405);
    assert_eq!(ask(address, b"HEAD /metrics HTTP/1.1\r\n\r\n").unwrap(), (200, String::new()));
    assert!(ask(address, b"\xff\xfe\r\n\r\n").is_none());
    assert!(ask(address, &[b'a'; 20_000]).is_none(), "a request without an end");
    // Those who connect and say nothing don't keep the others out for long.
    let silent: Vec<_> = (0..15).map(|_| TcpStream::connect(address).unwrap()).collect();
    let start = Instant::now();
    assert_eq!(get(address, "/healthz").unwrap().0, 200);
    assert!(start.elapsed() < Duration::from_secs(5));
    drop(silent);
    // An address that is taken is told before anything else happens.
    let text = address.to_string();
    let said = db.jobctl(["worker", "--slots", "1", "--listen", &text], 1).err;
    assert!(said.contains(&format!("listen at {text}")), "{said}");
    assert_eq!(db.number("select count(*) from worker").await, 1);
}
