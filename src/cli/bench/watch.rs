//! How much memory some work takes.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use candle_core::Device;

use crate::gpu;

/// What `work` returns, and the most memory in use meanwhile in GiB.
pub(super) fn watch_memory<T>(device: &Device, work: impl FnOnce() -> T) -> (T, f64) {
    let (peak, ended) = (AtomicUsize::new(0), AtomicBool::new(false));
    let result = thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                let used = match gpu::memory(device) {
                    Some((free, all)) => all - free,
                    None => resident().unwrap_or(0),
                };
                peak.fetch_max(used, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(2));
            }
        });
        let result = work();
        ended.store(true, Ordering::Relaxed);
        result
    });
    (result, peak.into_inner() as f64 / f64::from(1 << 30))
}

/// Resident bytes of this process.
fn resident() -> Option<usize> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: usize = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size())
}
