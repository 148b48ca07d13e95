//! What an attempt has printed: sent to the database now and then, and no more of it than is of use.

use std::collections::VecDeque;

use super::turn::Bench;
use crate::database::within::within;
use crate::job::Lease;
use crate::queue::claim::append_log;

/// The most lines of a log that are kept from its beginning.
const MOST_LINES: usize = 10_000;
/// The most bytes of a log that are kept from its beginning.
const MOST_BYTES: usize = 1 << 20;
/// How many lines are kept from the end of a longer log.
const LAST_LINES: usize = 200;

/// How many lines are looked at when a process has died: a backtrace may follow the word that matters.
const LATEST: usize = 200;

/// What an attempt has printed.
pub(super) struct Log {
    lease: Lease,
    /// The place of the first line that is not stored yet.
    seq: i32,
    /// Those that are not stored yet.
    lines: Vec<String>,
    n_lines: usize,
    n_bytes: usize,
    /// The latest of those that the beginning has no place for.
    last: VecDeque<String>,
    n_left_out: u64,
    /// The very last, for who asks what it said before it died.
    latest: VecDeque<String>,
}

impl Log {
    /// Nothing yet.
    pub(super) fn new(lease: Lease) -> Self {
        let (last, latest) = (VecDeque::new(), VecDeque::new());
        Self { lease, seq: 0, lines: Vec::new(), n_lines: 0, n_bytes: 0, last, n_left_out: 0, latest }
    }

    /// Takes a line.
    pub(super) fn push(&mut self, line: String) {
        self.latest.push_back(line.clone());
        if self.latest.len() > LATEST {
            self.latest.pop_front();
        }
        if self.n_lines < MOST_LINES && self.n_bytes + line.len() <= MOST_BYTES {
            self.n_lines += 1;
            self.n_bytes += line.len();
            self.lines.push(line);
            return;
        }
        if self.last.is_empty() {
            // What follows must not slip into the beginning because it is shorter.
            self.n_lines = MOST_LINES;
            self.lines.push(format!("[jobctl: the log is long; from here on its last {LAST_LINES} lines are kept]"));
        }
        self.last.push_back(line);
        if self.last.len() > LAST_LINES {
            self.last.pop_front();
            self.n_left_out += 1;
        }
    }

    /// Takes the end: what was kept back for it comes now.
    pub(super) fn end(&mut self) {
        if self.n_left_out > 0 {
            self.lines.push(format!("[jobctl: {} lines are left out here]", self.n_left_out));
        }
        self.lines.extend(self.last.drain(..));
    }

    /// The latest lines, the latest last.
    pub(super) fn latest(&self) -> Vec<String> {
        self.latest.iter().cloned().collect()
    }

    /// Stores what is not stored yet. What cannot be stored now stays here.
    pub(super) async fn flush(&mut self, bench: &Bench) {
        if self.lines.is_empty() {
            return;
        }
        match within(bench.patience, append_log(&bench.pool, self.lease, self.seq, &self.lines)).await {
            Ok(()) => {
                self.seq += i32::try_from(self.lines.len()).unwrap_or(i32::MAX);
                self.lines.clear();
            }
            // A log is worth less than a result: it must not hold the job up.
            Err(error) => tracing::warn!(error = format!("{error:#}"), "cannot store the log yet"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LAST_LINES, Log, MOST_BYTES, MOST_LINES};
    use crate::job::Lease;

    fn log(lines: impl Iterator<Item = String>) -> Vec<String> {
        let mut log = Log::new(Lease(1));
        lines.for_each(|it| log.push(it));
        log.end();
        log.lines
    }

    #[test]
    fn a_short_log_is_kept_whole() {
        let lines = || (0..MOST_LINES).map(|it| it.to_string());
        assert_eq!(log(lines()), lines().collect::<Vec<_>>());
    }

    #[test]
    fn a_long_log_keeps_its_beginning_and_its_end_and_says_what_is_left_out() {
        let kept = log((0..MOST_LINES + LAST_LINES + 1234).map(|it| it.to_string()));
        assert_eq!(kept.len(), MOST_LINES + LAST_LINES + 2);
        assert!(kept[MOST_LINES].contains("the log is long"));
        assert_eq!(kept[MOST_LINES + 1], "[jobctl: 1234 lines are left out here]");
        assert_eq!(kept[MOST_LINES + 2], (MOST_LINES + 1234).to_string());
        assert_eq!(*kept.last().unwrap(), (MOST_LINES + LAST_LINES + 1233).to_string());
    }

    #[test]
    fn long_lines_count_by_their_bytes() {
        let kept = log((0..100).map(|_| "x".repeat(MOST_BYTES / 10)));
        assert_eq!(kept.len(), 100 + 1, "the end has place for the others");
        assert!(kept[10].contains("the log is long"));
    }
}
