//! Texts that other jobs have written: put into a task before anybody does it.

use super::turn::Bench;
use crate::database::within::within;
use crate::job::Hash;
use crate::job::task::Task;
use crate::job::task::asking::Words;
use crate::store::asking;

/// The task with the caption in its place that another job has written for it, or why that cannot be. Its key is no longer the
/// job's then: keys are made of what enqueueing knew.
///
/// # Errors
/// Postgres is out of reach.
pub(super) async fn resolved(bench: &Bench, task: &Task) -> anyhow::Result<Result<Task, String>> {
    let Some(key) = caption_of(task) else { return Ok(Ok(task.clone())) };
    let found = within(bench.patience, asking::captions(&bench.pool, &[key])).await?.remove(&key);
    Ok(found.map(|text| with(task, text)).ok_or_else(|| format!("the caption {} is gone", key.short())))
}

/// The key of the job that writes a text of the task.
pub(super) fn caption_of(task: &Task) -> Option<Hash> {
    match task {
        Task::Encode(task) => task.caption,
        Task::Decode(task) => task.settings.caption,
        Task::Judge(task) => match task.words {
            Some(Words::Caption(key)) => Some(key),
            _ => None,
        },
        _ => None,
    }
}

/// The task with `text` for its caption.
pub(super) fn with(task: &Task, text: String) -> Task {
    let mut task = task.clone();
    match &mut task {
        Task::Encode(task) => task.prompt = text,
        Task::Decode(task) => task.settings.prompt = text,
        Task::Judge(task) => task.words = Some(Words::Text(text)),
        _ => {}
    }
    task
}
