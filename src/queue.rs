//! The queue: the only writer of jobs. Every function leaves the tables consistent or unchanged.

pub mod batch;
pub mod bulk;
pub mod calendar;
pub mod claim;
pub mod control;
mod deadlines;
pub mod devices;
pub mod fence;
pub mod gauge;
pub mod lanes;
pub mod limit;
pub mod load;
pub mod locks;
pub mod look;
pub mod order;
pub mod pace;
pub mod pick;
pub mod remake;
pub mod rescue;
pub mod schedule;
pub mod settle;
pub mod submit;
pub mod wake;
pub mod watch;
pub mod why;

use sqlx::{Postgres, Transaction};

/// A transaction on the queue's database.
pub type Tx<'a> = Transaction<'a, Postgres>;

/// The lease of an attempt is no longer the job's: somebody else has the job now, or it has ended.
/// Nothing was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the lease is lost: the job was given to another worker or has ended")]
pub struct LeaseLost;

/// The longest time between a failure and the next try, in seconds.
const LONGEST_BACKOFF_S: f64 = 300.0;
/// The longest time before the second try, in seconds; it doubles from try to try.
const FIRST_BACKOFF_S: f64 = 2.0;

/// The longest time to wait after `n_attempts` tries, in seconds; the wait itself is drawn
/// evenly below it (full jitter), so that jobs which failed together don't come back together.
fn backoff_limit_s(n_attempts: i32) -> f64 {
    (FIRST_BACKOFF_S * 2_f64.powi(n_attempts.clamp(1, 30) - 1)).min(LONGEST_BACKOFF_S)
}

#[cfg(test)]
mod tests {
    use super::backoff_limit_s;

    #[test]
    fn the_wait_doubles_up_to_its_limit() {
        let limits: Vec<f64> = [1, 2, 3, 9, 40].into_iter().map(backoff_limit_s).collect();
        assert_eq!(limits, [2.0, 4.0, 8.0, 300.0, 300.0]);
    }
}
