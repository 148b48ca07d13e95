//! The storm: round after round a fault, while work goes on; then quiet, and everything must add up.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use sqlx::PgPool;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::faults::Fault;
use super::field::{Fences, Field};
use super::laws::{broken, broken_at_the_end};
use super::rest::{scratch, sweep_up};
use super::work::{Retry, Work, patience};

/// How bad it gets.
#[derive(Clone, Copy, Debug)]
pub struct Storm {
    pub seed: u64,
    pub n_rounds: usize,
    /// It ends after so long, whatever the rounds.
    pub most: Duration,
    pub n_workers: usize,
    pub n_slots: usize,
    /// So many jobs are unfinished at any time, at least.
    pub n_in_flight: i64,
    pub fences: Fences,
}

/// What a storm has come to.
pub struct Outcome {
    pub n_rounds: usize,
    /// Rounds of each kind, and how attempts ended in them.
    pub tally: BTreeMap<Fault, (usize, BTreeMap<String, i64>)>,
    /// What was wrong; empty if all is well.
    pub wrong: Vec<String>,
    pub n_jobs: usize,
    /// The fewest jobs that were unfinished at a time, and the most that ran.
    pub in_flight: (i64, i64),
    pub elapsed: Duration,
}

/// How long the last jobs may take when all is quiet: random waits after failures, and a dead worker's lease.
const QUIET: Duration = Duration::from_secs(150);

impl Storm {
    /// Rages until its rounds are over or something is wrong.
    pub async fn rage(self) -> Outcome {
        let begun = Instant::now();
        let mut dice = Pcg64Mcg::seed_from_u64(self.seed);
        let mut field = Field::new(self.n_workers, self.n_slots, self.fences).await;
        let feeder = Feeder::start(&field, self, Pcg64Mcg::seed_from_u64(self.seed ^ 1)).await;
        let mut outcome = Outcome {
            n_rounds: 0,
            tally: BTreeMap::new(),
            wrong: Vec::new(),
            n_jobs: 0,
            in_flight: (0, 0),
            elapsed: Duration::ZERO,
        };
        let mut deck: Vec<Fault> = Vec::new();
        while outcome.n_rounds < self.n_rounds && outcome.wrong.is_empty() && begun.elapsed() < self.most {
            if deck.is_empty() {
                deck = Fault::ALL.to_vec();
                deck.shuffle(&mut dice);
                // The first round of all is the one that fencing is for.
                if outcome.n_rounds == 0 {
                    deck.sort_by_key(|it| *it == Fault::Freeze);
                }
            }
            let fault = deck.pop().expect("it was filled");
            let before = attempts_by_outcome(&field.pool).await;
            let struck = Instant::now();
            fault.strike(&mut field, &mut dice).await;
            sleep(Duration::from_millis(dice.random_range(200..700))).await;
            outcome.wrong.extend(field.supervise());
            let after = attempts_by_outcome(&field.pool).await;
            let (n, ended) = outcome.tally.entry(fault).or_default();
            *n += 1;
            for (word, count) in after {
                *ended.entry(word.clone()).or_default() += count - before.get(&word).unwrap_or(&0);
            }
            outcome.n_rounds += 1;
            println!("round {:3}: {} ({:.1} s)", outcome.n_rounds, fault.words(), struck.elapsed().as_secs_f64());
            if self.fences == Fences::Down || outcome.n_rounds.is_multiple_of(5) {
                outcome.wrong.extend(look(&field.pool).await);
            }
            if !outcome.wrong.is_empty() {
                outcome.wrong.insert(0, format!("in round {} ({})", outcome.n_rounds, fault.words()));
            }
        }
        let (work, in_flight) = feeder.stop().await;
        outcome.n_jobs = work.jobs.len();
        outcome.in_flight = in_flight;
        if outcome.wrong.is_empty() {
            outcome.wrong = settle_down(&mut field, &work).await;
        }
        outcome.elapsed = begun.elapsed();
        outcome
    }
}

/// Lets everything end, and compares.
async fn settle_down(field: &mut Field, work: &Work) -> Vec<String> {
    let begun = Instant::now();
    loop {
        let mut told = field.supervise();
        if !told.is_empty() {
            return told;
        }
        let unfinished: Result<i64, _> = sqlx::query_scalar("select count(*) from job").fetch_one(&field.pool).await;
        if unfinished.is_ok_and(|it| it == 0) && work.retry(&field.pool, Retry::Failed).await.is_ok_and(|it| it) {
            break;
        }
        if begun.elapsed() > QUIET {
            told.push(format!("not all jobs end within {QUIET:?} of quiet: {}", unfinished_jobs(&field.pool).await));
            return told;
        }
        sleep(Duration::from_millis(200)).await;
    }
    for idx in 0..field.workers.len() {
        let worker = &mut field.workers[idx];
        worker.may_end = true;
        worker.process.signal(rustix::process::Signal::TERM);
        worker.process.wait(Duration::from_secs(30));
    }
    let mut wrong = broken_at_the_end(field, work).await.unwrap_or_else(|error| vec![format!("{error:#}")]);
    // What the dead have left in the scratch folder is taken away by the next worker of that machine.
    field.revive(0, 0);
    let worker = &mut field.workers[0];
    worker.may_end = true;
    sleep(Duration::from_secs(2)).await;
    worker.process.signal(rustix::process::Signal::TERM);
    worker.process.wait(Duration::from_secs(30));
    let left = scratch(field);
    if !left.is_empty() {
        wrong.push(format!("the scratch folder still holds {}", left.join(", ")));
    }
    wrong.extend(sweep_up(field).await.unwrap_or_else(|error| vec![format!("{error:#}")]));
    wrong
}

async fn unfinished_jobs(pool: &PgPool) -> String {
    let query = "select string_agg(concat_ws(' ', id, state, slot, 'attempt', n_attempts, 'lease', lease, 'due',
        round(extract(epoch from run_at - now())), 'worker', worker_id), '; ') from (select * from job order by id limit 10) as first";
    let said: Result<Option<String>, _> = sqlx::query_scalar(query).fetch_one(pool).await;
    said.unwrap_or_else(|error| Some(error.to_string())).unwrap_or_default()
}

/// The broken laws, as soon as Postgres answers.
async fn look(pool: &PgPool) -> Vec<String> {
    let begun = Instant::now();
    loop {
        match broken(pool).await {
            Ok(broken) => return broken,
            Err(error) if begun.elapsed() > QUIET => return vec![format!("cannot look: {error:#}")],
            Err(error) => patience(&error).await,
        }
    }
}

async fn attempts_by_outcome(pool: &PgPool) -> BTreeMap<String, i64> {
    let query = "select outcome, count(*) from attempt where outcome is not null group by outcome";
    loop {
        match sqlx::query_as::<_, (String, i64)>(query).fetch_all(pool).await {
            Ok(rows) => return rows.into_iter().collect(),
            Err(error) => patience(&error.into()).await,
        }
    }
}

/// Keeps work coming, cancels and retries at random.
struct Feeder {
    work: Arc<Mutex<Work>>,
    least: Arc<AtomicI64>,
    most: Arc<AtomicI64>,
    task: JoinHandle<()>,
}

impl Feeder {
    async fn start(field: &Field, storm: Storm, mut dice: Pcg64Mcg) -> Self {
        let work = Arc::new(Mutex::new(Work::new(&field.ledger())));
        let (least, most) = (Arc::new(AtomicI64::new(i64::MAX)), Arc::new(AtomicI64::new(0)));
        let (pool, shared) = (field.pool.clone(), work.clone());
        let (lowest, highest) = (least.clone(), most.clone());
        // More than must be there: nothing can be enqueued while Postgres is away.
        let stock = storm.n_in_flight + 4 * i64::try_from(storm.n_workers * storm.n_slots).unwrap();
        while unfinished(&pool).await.0 < stock {
            shared.lock().await.enqueue(&pool, &mut dice).await;
        }
        let task = tokio::spawn(async move {
            loop {
                let (n, n_running) = unfinished(&pool).await;
                lowest.fetch_min(n, Ordering::Relaxed);
                highest.fetch_max(n_running, Ordering::Relaxed);
                let mut work = shared.lock().await;
                if n < stock {
                    work.enqueue(&pool, &mut dice).await;
                } else {
                    if dice.random_bool(0.3) {
                        work.cancel_one(&pool, &mut dice).await;
                    }
                    if dice.random_bool(0.2) {
                        let _ = work.retry(&pool, Retry::Some).await;
                    }
                    drop(work);
                    sleep(Duration::from_millis(150)).await;
                }
            }
        });
        Self { work, least, most, task }
    }

    /// Stops, between two of its deeds.
    async fn stop(self) -> (Work, (i64, i64)) {
        let work = self.work.lock().await;
        self.task.abort();
        drop(work);
        let _ = self.task.await;
        let in_flight = (self.least.load(Ordering::Relaxed), self.most.load(Ordering::Relaxed));
        (Arc::try_unwrap(self.work).ok().expect("the task has ended").into_inner(), in_flight)
    }
}

async fn unfinished(pool: &PgPool) -> (i64, i64) {
    let query = "select count(*), count(*) filter (where state = 'running') from job";
    loop {
        match sqlx::query_as(query).fetch_one(pool).await {
            Ok(counts) => return counts,
            Err(error) => patience(&error.into()).await,
        }
    }
}

impl Outcome {
    /// Rounds and outcomes by kind of fault.
    pub fn table(&self) -> String {
        let words = ["done", "retried", "lost", "released", "cancelled", "failed"];
        let mut text = format!("{:46}{:>7}", "fault", "rounds");
        for word in words {
            let _ = write!(text, "{word:>10}");
        }
        for (fault, (n, ended)) in &self.tally {
            let _ = write!(text, "\n{:46}{n:>7}", fault.words());
            for word in words {
                let _ = write!(text, "{:>10}", ended.get(word).unwrap_or(&0));
            }
        }
        let (least, most) = self.in_flight;
        let _ = write!(
            text,
            "\n{} rounds, {} jobs, at least {least} unfinished at any time, up to {most} running, {:.0} s",
            self.n_rounds,
            self.n_jobs,
            self.elapsed.as_secs_f64()
        );
        text
    }
}
