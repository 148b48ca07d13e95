//! Scores a set of pictures from their scores.

use super::{Inputs, Output, TaskError};
use crate::job::outcome::SetScored;
use crate::job::task::Pool;
use crate::metrics::{self, PoolItem};

/// Computes each set score over the pictures that have the metric.
///
/// # Errors
/// This jobctl does not have one of the metrics.
pub fn run(task: &Pool, inputs: &Inputs) -> Result<Output, TaskError> {
    let mut scores = Vec::with_capacity(task.metrics.len());
    for id in &task.metrics {
        let Some(metric) = metrics::find(id) else {
            let error = anyhow::anyhow!("this jobctl has no {}:{} of version {}", id.metric, id.variant, id.version);
            return Err(TaskError::Fatal(error));
        };
        let items: Vec<PoolItem> = inputs
            .scores
            .iter()
            .filter(|it| it.metric == *id)
            .map(|it| PoolItem { width: it.width, height: it.height, value: it.value })
            .collect();
        let value = metrics::pool(metric, &items);
        let why = value.is_none().then(|| "no picture of the set has this score".to_owned());
        scores.push(SetScored { metric: id.clone(), value, why, n: u32::try_from(items.len()).unwrap_or(u32::MAX) });
    }
    Ok(Output::Pooled { scores })
}
