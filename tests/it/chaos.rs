//! Everything dies, in turns and at random, and nothing is lost, done twice or left behind.
//!
//! `make chaos` rages for long; these tests are the same for some seconds. `CHAOS_SEED`, `CHAOS_ROUNDS`, `CHAOS_MINUTES`,
//! `CHAOS_SLOTS` (of each of three workers) and `CHAOS_IN_FLIGHT` say how.

mod faults;
mod field;
mod laws;
mod proxy;
mod rest;
mod storm;
mod work;

use std::str::FromStr;
use std::time::Duration;

use self::faults::Fault;
use self::field::Fences;
use self::storm::Storm;

#[expect(clippy::disallowed_methods, reason = "`make chaos` sets it")]
fn setting<T: FromStr>(name: &str, default: T) -> T {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is `{text}`")),
        Err(_) => default,
    }
}

fn storm(fences: Fences) -> Storm {
    Storm {
        seed: setting("CHAOS_SEED", 1),
        n_rounds: setting("CHAOS_ROUNDS", Fault::ALL.len()),
        most: Duration::from_secs(60 * setting("CHAOS_MINUTES", 25)),
        n_workers: 3,
        n_slots: setting("CHAOS_SLOTS", 6),
        n_in_flight: setting("CHAOS_IN_FLIGHT", 50),
        fences,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_job_ends_once_whatever_dies() {
    let storm = storm(Fences::Up);
    println!("CHAOS_SEED={} CHAOS_ROUNDS={}", storm.seed, storm.n_rounds);
    let outcome = storm.rage().await;
    println!("{}", outcome.table());
    assert!(outcome.wrong.is_empty(), "CHAOS_SEED={}: {}", storm.seed, outcome.wrong.join("\n"));
    assert!(outcome.in_flight.0 >= storm.n_in_flight, "too little work: {:?}", outcome.in_flight);
    assert_eq!(outcome.n_rounds, storm.n_rounds, "the time was too short");
    // Faults that strike nothing would prove nothing.
    let n = |faults: &[Fault], ended: &str| -> i64 {
        faults.iter().filter_map(|it| outcome.tally.get(it)?.1.get(ended)).sum()
    };
    assert!(n(&[Fault::Freeze, Fault::Split, Fault::ForgetConnections], "lost") > 0, "no lease was lost");
    assert!(n(&[Fault::Drain, Fault::Preempt], "released") > 0, "nothing was given back");
    assert!(n(&[Fault::KillSlot, Fault::FullDisk, Fault::LostStore], "retried") > 0, "nothing was tried again");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_lease_check_the_storm_finds_it_within_20_rounds() {
    let outcome = Storm { n_rounds: 20, ..storm(Fences::Down) }.rage().await;
    println!("{}", outcome.table());
    println!("{}", outcome.wrong.join("\n"));
    // Found by what it does to attempts and results, not by a process that ended or work that takes too long.
    let of_leases = ["done attempt", "overlap in time", "with that lease", "have one", "scores", "lease "];
    let found = outcome.wrong.iter().any(|it| of_leases.iter().any(|word| it.contains(word)));
    assert!(found, "writes with lost leases went unnoticed for {} rounds: {:?}", outcome.n_rounds, outcome.wrong);
}
