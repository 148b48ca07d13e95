//! How full the GPUs' memory is, noted now and then: whoever fills it, no job of ours has to.

use std::sync::Arc;

use rand::RngExt;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::{Agent, lock};
use crate::database::within::within;
use crate::queue::claim::note_memory;
use crate::worker::devices::SlotDevice;

/// MiB in use, by device.
type Used = Vec<(String, i32)>;

/// Notes it as often as the worker beats. A driver that hangs is asked once, and waited for.
pub(super) async fn watch(agent: Arc<Agent>) {
    if agent.gpus.is_empty() {
        return;
    }
    let times = agent.options.times;
    let mut answer = ask(&agent);
    loop {
        match timeout(times.stale, &mut answer).await {
            Ok(Ok(used)) => note(&agent, &used).await,
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
fn ask(agent: &Arc<Agent>) -> oneshot::Receiver<Used> {
    let (sender, receiver) = oneshot::channel();
    let (driver, slots) = (agent.driver.clone(), agent.options.slots.clone());
    let ask = move || {
        let of = |ordinal: &usize| Some((format!("cuda:{ordinal}"), driver.used_mib(*ordinal)?));
        // Nobody listens where the worker has stopped meanwhile.
        let _ = sender.send(slots.iter().flat_map(SlotDevice::gpus).filter_map(of).collect());
    };
    if let Err(error) = std::thread::Builder::new().name("memory".to_owned()).spawn(ask) {
        tracing::warn!(error = %error, "there is no thread to be had");
    }
    receiver
}

async fn note(agent: &Agent, used: &Used) {
    for (device, mib) in used {
        if let Some(gpu) = agent.gpus.iter().find(|it| it.device == *device) {
            let bytes = |n: i64, shift: u32| u64::try_from(n).unwrap_or_default() << shift;
            let (used, all) = (bytes(i64::from(*mib), 20), bytes(i64::from(gpu.memory_gib), 30));
            agent.options.vitals.gpu(device, &gpu.model, used, all);
        }
    }
    let worker = *lock(&agent.id);
    if let Err(error) = within(agent.options.times.stale, note_memory(&agent.bench.pool, worker, used)).await {
        tracing::debug!(error = format!("{error:#}"), "cannot note the GPUs' memory");
    }
}
