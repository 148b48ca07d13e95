//! Leases that are this worker's by Postgres's account and that nobody here has heard of: a claim was committed, and the
//! connection died before its answer came.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::job::{JobId, Lease};

/// When each lease was first seen that nobody here has heard of.
#[derive(Debug, Default)]
pub(super) struct Strays {
    since: HashMap<Lease, Instant>,
}

impl Strays {
    /// Those of the leases held that have been unheard of for longer than `patience`: a claim's answer may be on its way.
    pub(super) fn among(
        &mut self,
        held: &[(JobId, Lease)],
        running: &HashSet<Lease>,
        now: Instant,
        patience: Duration,
    ) -> Vec<(JobId, Lease)> {
        let unheard: Vec<(JobId, Lease)> = held.iter().filter(|it| !running.contains(&it.1)).copied().collect();
        self.since.retain(|lease, _| unheard.iter().any(|it| it.1 == *lease));
        for (_, lease) in &unheard {
            self.since.entry(*lease).or_insert(now);
        }
        unheard.into_iter().filter(|it| now.duration_since(self.since[&it.1]) > patience).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use tokio::time::Instant;

    use super::Strays;
    use crate::job::{JobId, Lease};

    #[test]
    fn only_what_stays_unheard_of_is_a_stray() {
        let (patience, start) = (Duration::from_secs(10), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let held: Vec<_> = [1, 2, 3].into_iter().map(|it| (JobId(it), Lease(it))).collect();
        let mut strays = Strays::default();
        let running = HashSet::from([Lease(1)]);
        assert!(strays.among(&held, &running, at(0), patience).is_empty());
        // The answer of 2 has come.
        let running = HashSet::from([Lease(1), Lease(2)]);
        assert!(strays.among(&held, &running, at(9), patience).is_empty());
        assert_eq!(strays.among(&held, &running, at(11), patience), [held[2]]);
        // What is heard of in between begins anew.
        assert!(strays.among(&held, &HashSet::new(), at(12), patience).contains(&held[2]));
        assert!(!strays.among(&held, &HashSet::new(), at(12), patience).contains(&held[0]));
    }
}
