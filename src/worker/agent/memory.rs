//! How full the GPUs' memory is, noted now and then: whoever fills it, no job of ours has to.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::RngExt;
use rustix::io::Errno;
use rustix::process::{Pid, getpid, test_kill_process};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::{Agent, lock};
use crate::database::within::within;
use crate::job::needs::Offer;
use crate::queue::claim::{MemorySeen, note_memory};
use crate::worker::devices::SlotDevice;
use crate::worker::family::descendants;

/// Notes it as often as the worker beats. A driver that hangs is asked once, and waited for.
pub(super) async fn watch(agent: Arc<Agent>) {
    if agent.gpus.is_empty() {
        return;
    }
    let times = agent.options.times;
    let mut answer = ask(&agent);
    loop {
        match timeout(times.stale, &mut answer).await {
            Ok(Ok(seen)) => note(&agent, &seen).await,
            Ok(Err(_)) => tracing::warn!("the GPUs' memory cannot be read"),
            Err(_) => {
                tracing::warn!("the driver does not say how full the GPUs' memory is");
                continue;
            }
        }
        let pause = times.beat.mul_f64(rand::rng().random_range(0.9..1.0));
        sleep(pause).await;
        answer = ask(&agent);
    }
}

/// Asks the driver on a thread of its own: where that hangs, nothing waits for it, not even the end of this process.
fn ask(agent: &Arc<Agent>) -> oneshot::Receiver<Vec<MemorySeen>> {
    let (sender, receiver) = oneshot::channel();
    let (driver, slots) = (agent.driver.clone(), agent.options.slots.clone());
    let ask = move || {
        let own = descendants(getpid());
        let of = |ordinal: &usize| {
            let foreign_mib = driver.processes_mib(*ordinal).map(|it| foreign(&it, &own));
            Some(MemorySeen { device: format!("cuda:{ordinal}"), used_mib: driver.used_mib(*ordinal)?, foreign_mib })
        };
        // Nobody listens where the worker has stopped meanwhile.
        let _ = sender.send(slots.iter().flat_map(SlotDevice::gpus).filter_map(of).collect());
    };
    if let Err(error) = std::thread::Builder::new().name("memory".to_owned()).spawn(ask) {
        tracing::warn!(error = %error, "there is no thread to be had");
    }
    receiver
}

/// What processes have together that are neither ours nor our slots'. A number that is no process here is that of one outside
/// of this container, which may be our own.
fn foreign(mib: &BTreeMap<i32, i32>, own: &[Pid]) -> i32 {
    let is_own = |pid: Pid| pid == getpid() || own.contains(&pid);
    let is_foreign =
        |pid: &i32| Pid::from_raw(*pid).is_some_and(|it| !is_own(it) && test_kill_process(it) != Err(Errno::SRCH));
    mib.iter().filter(|it| is_foreign(it.0)).map(|it| *it.1).sum()
}

async fn note(agent: &Agent, seen: &[MemorySeen]) {
    for it in seen {
        if let Some(gpu) = agent.gpus.iter().find(|gpu| gpu.device == it.device) {
            let bytes = |n: i64, shift: u32| u64::try_from(n).unwrap_or_default() << shift;
            let (used, all) = (bytes(i64::from(it.used_mib), 20), bytes(i64::from(gpu.memory_gib), 30));
            agent.options.vitals.gpu(&it.device, &gpu.model, used, all);
        }
    }
    let foreign = seen.iter().map(|it| (it.device.clone(), it.foreign_mib.unwrap_or(0)));
    *lock(&agent.foreign_mib) = foreign.collect();
    let worker = *lock(&agent.id);
    if let Err(error) = within(agent.options.times.stale, note_memory(&agent.bench.pool, worker, seen)).await {
        tracing::debug!(error = format!("{error:#}"), "cannot note the GPUs' memory");
    }
}

/// What a slot on these GPUs has to offer now, of what it would offer if it had them for itself.
pub(in crate::worker) fn left(agent: &Agent, slot: &str, offer: &Offer) -> Offer {
    let foreign = lock(&agent.foreign_mib);
    let own = agent.gpus.iter().filter(|it| it.slot == slot);
    let left = own.map(|it| {
        let foreign_gib = foreign.get(&it.device).copied().unwrap_or(0) / 1024;
        it.memory_gib.saturating_sub(u32::try_from(foreign_gib).unwrap_or(0))
    });
    Offer { gpu_memory_gib: left.min().unwrap_or(offer.gpu_memory_gib), ..offer.clone() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rustix::process::{Pid, getpid};

    use super::foreign;

    #[test]
    fn foreign_is_what_lives_here_and_is_not_ours() {
        let us = getpid().as_raw_nonzero().get();
        let nobody = i32::MAX;
        let mib = BTreeMap::from([(1, 7000), (us, 300), (nobody, 11000)]);
        assert_eq!(foreign(&mib, &[]), 7000);
        assert_eq!(foreign(&mib, &[Pid::from_raw(1).unwrap()]), 0);
    }
}
