//! What a worker counts about itself, for those who watch it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus::core::Collector;
use prometheus::{Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry};

use super::machine;

/// Upper bounds of the buckets of short times, in seconds.
const MOMENTS_S: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0];
/// Upper bounds of the buckets of jobs' times, in seconds: up to two days.
const SPANS_S: [f64; 14] =
    [0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 7200.0, 14_400.0, 43_200.0, 86_400.0, 172_800.0];

/// The counters of one start of a worker, and how its parts are.
#[derive(Debug)]
pub struct Vitals {
    registry: Registry,
    claims: Histogram,
    claim_waits: Histogram,
    job_seconds: HistogramVec,
    attempts: IntCounterVec,
    leases_lost: IntCounter,
    slot_starts: IntCounter,
    slot_deaths: IntCounterVec,
    rescued: IntCounter,
    beats_failed: IntCounter,
    beat_age: Gauge,
    up: GaugeVec,
    gpu_used: GaugeVec,
    gpu_total: GaugeVec,
    beat: Mutex<Option<Instant>>,
    draining: AtomicBool,
    slots: Mutex<Vec<Slot>>,
}

/// How a slot is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Slot {
    /// Its process is not there.
    Gone,
    /// It waits for a job.
    Idle,
    /// It runs one.
    Busy,
}

impl Default for Vitals {
    fn default() -> Self {
        Self::new()
    }
}

impl Vitals {
    /// Everything at 0.
    pub fn new() -> Self {
        const FINE: &str = "the metric's name and labels are right";
        let registry = Registry::new();
        let counter = |name: &str, help: &str| kept(&registry, IntCounter::new(name, help).expect(FINE));
        let counters = |name: &str, help: &str, labels: &[&str]| {
            kept(&registry, IntCounterVec::new(Opts::new(name, help), labels).expect(FINE))
        };
        let gauges = |name: &str, help: &str| {
            kept(&registry, GaugeVec::new(Opts::new(name, help), &["device", "model"]).expect(FINE))
        };
        let moments = |name: &str, help: &str| {
            let options = HistogramOpts::new(name, help).buckets(MOMENTS_S.to_vec());
            kept(&registry, Histogram::with_opts(options).expect(FINE))
        };
        let spans =
            HistogramOpts::new("jobctl_job_duration_seconds", "Time from claim to settled, of attempts by kind.")
                .buckets(SPANS_S.to_vec());
        let about = GaugeVec::new(Opts::new("jobctl_build_info", "Which jobctl this is: always 1."), &["version"]);
        let about = kept(&registry, about.expect(FINE));
        about.with_label_values(&[&machine::program()]).set(1.0);
        let up = Opts::new("jobctl_slots", "Slots of this worker by how they are: gone, idle or busy.");
        Self {
            claims: moments("jobctl_claim_duration_seconds", "Time that Postgres takes to answer a claim."),
            claim_waits: moments("jobctl_claim_wait_seconds", "Time for which a claimed job could have been claimed."),
            job_seconds: kept(&registry, HistogramVec::new(spans, &["kind"]).expect(FINE)),
            attempts: counters("jobctl_attempts_total", "Attempts that this worker has ended.", &["kind", "outcome"]),
            leases_lost: counter("jobctl_leases_lost_total", "Attempts dropped because their lease was lost."),
            slot_starts: counter("jobctl_slot_starts_total", "Processes of slots started."),
            slot_deaths: counters(
                "jobctl_slot_restarts_total",
                "Processes of slots that ended with an attempt.",
                &["slot"],
            ),
            rescued: counter("jobctl_rescued_jobs_total", "Jobs of dead workers that this one has given back."),
            beats_failed: counter("jobctl_failed_beats_total", "Beats that did not reach Postgres."),
            beat_age: kept(
                &registry,
                Gauge::new("jobctl_beat_age_seconds", "Time since this worker's last beat.").expect(FINE),
            ),
            up: kept(&registry, GaugeVec::new(up, &["state"]).expect(FINE)),
            gpu_used: gauges("jobctl_gpu_memory_used_bytes", "Memory of a GPU in use, by whatever process."),
            gpu_total: gauges("jobctl_gpu_memory_total_bytes", "Memory of a GPU."),
            beat: Mutex::new(None),
            draining: AtomicBool::new(false),
            slots: Mutex::new(Vec::new()),
            registry,
        }
    }

    /// A claim was answered after so long.
    pub fn asked(&self, took: Duration) {
        self.claims.observe(took.as_secs_f64());
    }

    /// A job of this kind was claimed that could have been claimed for so long.
    pub fn claimed(&self, kind: &str, waited: Duration) {
        // At 0 from the start, so that the first failure is seen as one.
        let _ = self.attempts.with_label_values(&[kind, "failed"]);
        self.claim_waits.observe(waited.as_secs_f64());
    }

    /// An attempt has ended: its outcome as the database has it.
    pub fn ended(&self, kind: &str, outcome: &str, took: Duration) {
        self.attempts.with_label_values(&[kind, outcome]).inc();
        self.job_seconds.with_label_values(&[kind]).observe(took.as_secs_f64());
    }

    /// An attempt was dropped: its lease is another's.
    pub fn lost_lease(&self) {
        self.leases_lost.inc();
    }

    /// So many jobs of others were given back.
    pub fn rescued(&self, n: usize) {
        self.rescued.inc_by(n as u64);
    }

    /// A beat has reached Postgres, or has not.
    pub fn beaten(&self, reached: bool) {
        if reached {
            *lock(&self.beat) = Some(Instant::now());
        } else {
            self.beats_failed.inc();
        }
    }

    /// What the driver says of a GPU's memory, in bytes.
    pub fn gpu(&self, device: &str, model: &str, used: u64, total: u64) {
        self.gpu_used.with_label_values(&[device, model]).set(used as f64);
        self.gpu_total.with_label_values(&[device, model]).set(total as f64);
    }

    /// The worker takes nothing new any more.
    pub fn drains(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// A slot is now so; its name is for the count of restarts.
    pub fn slot(&self, idx: usize, name: &str, is: Slot) {
        let mut slots = lock(&self.slots);
        if slots.len() <= idx {
            slots.resize(idx + 1, Slot::Gone);
            // At 0 from the start, so that the first restart is seen as one.
            let _ = self.slot_deaths.with_label_values(&[name]);
        }
        let was = std::mem::replace(&mut slots[idx], is);
        if was == Slot::Gone && is != Slot::Gone {
            self.slot_starts.inc();
        }
        if was == Slot::Busy && is == Slot::Gone {
            self.slot_deaths.with_label_values(&[name]).inc();
        }
    }

    /// Time since the last beat that reached Postgres; none before the first.
    pub fn beat_age(&self) -> Option<Duration> {
        lock(&self.beat).map(|it| it.elapsed())
    }

    /// Whether the worker takes nothing new any more.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Slots that are so.
    pub fn n_slots(&self, is: Slot) -> usize {
        lock(&self.slots).iter().filter(|it| **it == is).count()
    }

    /// All of it, as Prometheus wants it.
    pub(super) fn gather(&self) -> Vec<prometheus::proto::MetricFamily> {
        self.beat_age.set(self.beat_age().map_or(f64::NAN, |it| it.as_secs_f64()));
        for (state, is) in [("gone", Slot::Gone), ("idle", Slot::Idle), ("busy", Slot::Busy)] {
            self.up.with_label_values(&[state]).set(self.n_slots(is) as f64);
        }
        self.registry.gather()
    }
}

/// Makes the registry know a metric.
fn kept<T: Collector + Clone + 'static>(registry: &Registry, metric: T) -> T {
    registry.register(Box::new(metric.clone())).expect("each metric is registered once");
    metric
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
