//! Whether Postgres has been within reach for long enough to call others dead: after an outage everybody looks silent, and
//! whoever comes back first must give the others the time to do so too.

use std::time::Duration;

use tokio::time::Instant;

/// How long beats have come through.
#[derive(Debug, Default)]
pub(super) struct Steady {
    since: Option<Instant>,
    last: Option<Instant>,
}

impl Steady {
    /// Notes that a beat has come through.
    pub(super) fn beat(&mut self, now: Instant, stale: Duration) {
        let was_cut_off = self.last.is_none_or(|it| now.duration_since(it) > stale);
        if was_cut_off {
            self.since = Some(now);
        }
        self.last = Some(now);
    }

    /// Whether it has lasted for so long that who is silent now was silent while Postgres was there.
    pub(super) fn lasts(&self, now: Instant, stale: Duration) -> bool {
        self.since.is_some_and(|it| now.duration_since(it) >= stale)
            && self.last.is_some_and(|it| now.duration_since(it) <= stale)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::Steady;

    #[test]
    fn nobody_is_called_dead_before_all_have_had_their_time() {
        let (stale, start) = (Duration::from_secs(45), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut steady = Steady::default();
        assert!(!steady.lasts(at(100), stale));
        for seconds in (0..=50).step_by(10) {
            steady.beat(at(seconds), stale);
        }
        assert!(steady.lasts(at(50), stale));
        // No beat comes through for a while, and then one.
        assert!(!steady.lasts(at(96), stale));
        steady.beat(at(150), stale);
        assert!(!steady.lasts(at(151), stale));
        for seconds in (160..=195).step_by(10) {
            steady.beat(at(seconds), stale);
        }
        assert!(!steady.lasts(at(194), stale) && steady.lasts(at(195), stale));
    }
}
