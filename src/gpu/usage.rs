//! How much memory is in use: of a GPU by whatever process, on the CPU by this one.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use candle_core::Device;

/// How often it is looked at while some work is done.
const PAUSE: Duration = Duration::from_millis(5);

/// Bytes in use now; none where nobody says.
pub fn now(device: &Device) -> Option<usize> {
    if let Some((free, all)) = super::memory(device) {
        return Some(all - free);
    }
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: usize = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size())
}

/// What `work` returns, and the most memory in use meanwhile in GiB: 0 where nobody says.
pub fn most<T>(device: &Device, work: impl FnOnce() -> T) -> (T, f64) {
    let (peak, ended) = (AtomicUsize::new(0), AtomicBool::new(false));
    let look = || peak.fetch_max(now(device).unwrap_or(0), Ordering::Relaxed);
    let result = thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                look();
                thread::sleep(PAUSE);
            }
        });
        // Ends the watch however the work does.
        let _end = End(&ended);
        work()
    });
    look();
    (result, gib(peak.into_inner()))
}

/// Bytes in GiB.
pub fn gib(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_is_that_of_the_work_and_ends_with_it() {
        let n_bytes = 300 << 20;
        let (sum, most) = most(&Device::Cpu, || {
            let filled: Vec<u8> = (0..n_bytes).map(|it| (it % 251) as u8).collect();
            thread::sleep(20 * PAUSE);
            filled.iter().map(|it| u64::from(*it)).sum::<u64>()
        });
        // Other tests of this process come and go: the buffer was there at least, and was not invented.
        assert!(sum > 0 && most >= gib(n_bytes) && most < 64.0, "{most} GiB");
        let died = std::panic::catch_unwind(|| super::most(&Device::Cpu, || panic!("the work dies")));
        assert!(died.is_err(), "and nobody waits for the watch");
    }
}
