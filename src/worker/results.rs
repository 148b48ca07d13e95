//! What becomes of a slot's output: files go into the store, rows into the transaction that ends the job.

use std::path::Path;

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::job::task::Task;
use crate::job::task::asking::Judge as Question;
use crate::job::{Hash, JobId};
use crate::judge::parse::{Choice as Said, Verdict as Answer};
use crate::labels::{Area, Choice, Judge, Pair, Shown, Verdict};
use crate::queue::Tx;
use crate::store::artifact::Artifacts;
use crate::store::made::{self, Artifact};
use crate::store::rehearsal::record_rehearsal;
use crate::store::{asking, checkpoint, labels, record, training};
use crate::tasks::Output;

/// What an output has put into the store.
pub(super) enum Stored {
    Nothing,
    /// A preview: hash and number of bytes.
    Preview(Hash, usize),
    File(Artifact),
}

/// Stores the files of an output. A file of the scratch folder is gone afterwards.
///
/// # Errors
/// The disk is full, say; nothing is lost then.
pub(super) async fn store(artifacts: &Artifacts, task: &Task, output: &Output) -> anyhow::Result<Stored> {
    Ok(match output {
        Output::Evaluated { preview, .. } => {
            let bytes = STANDARD.decode(preview).context("understand the preview")?;
            let n_bytes = bytes.len();
            Stored::Preview(artifacts.put(bytes).await?, n_bytes)
        }
        Output::Made { file, .. } => {
            let (hash, n_bytes) = artifacts.take(Path::new(file)).await?;
            Stored::File(Artifact { hash, n_bytes, media: media(task) })
        }
        Output::Rehearsed { file: Some(file), .. } => {
            let (hash, n_bytes) = artifacts.take(Path::new(file)).await?;
            Stored::File(Artifact { hash, n_bytes, media: media(task) })
        }
        Output::Trained(trained) => {
            let (hash, n_bytes) = artifacts.take(Path::new(&trained.file)).await?;
            Stored::File(Artifact { hash, n_bytes, media: media(task) })
        }
        Output::Rehearsed { file: None, .. }
        | Output::Pooled { .. }
        | Output::Ready { .. }
        | Output::Judged { .. }
        | Output::Captioned { .. } => Stored::Nothing,
    })
}

fn media(task: &Task) -> &'static str {
    match task {
        Task::Decode(it) => it.format.media(),
        Task::Reconstruct(_) => "image/png",
        Task::Rehearse(_) => "application/octet-stream",
        _ => "application/vnd.safetensors",
    }
}

/// Writes the rows of an output whose files are stored.
///
/// # Errors
/// Postgres is out of reach, or the output is of another kind of task.
pub(super) async fn record(
    tx: &mut Tx<'_>,
    job: JobId,
    task: &Task,
    output: &Output,
    stored: Option<&Stored>,
) -> anyhow::Result<()> {
    if task.saves() {
        checkpoint::drop_all(tx, &task.key()).await?;
    }
    match (task, output, stored) {
        (Task::Evaluate(task), Output::Evaluated { made, scores, .. }, Some(Stored::Preview(hash, n_bytes))) => {
            record::record_image(tx, job, task, made, Some((*hash, *n_bytes)), scores).await
        }
        (Task::Pool(task), Output::Pooled { scores }, _) => record::record_set(tx, job, task, scores).await,
        (Task::Rehearse(_), Output::Rehearsed { scores, .. }, stored) => {
            let artifact = match stored {
                Some(Stored::File(artifact)) => Some(artifact),
                _ => None,
            };
            record_rehearsal(tx, job, &task.key(), artifact, scores).await
        }
        (Task::Judge(task), Output::Judged { verdicts, snapshot }, _) => {
            let verdicts = verdicts_of(task, verdicts, snapshot.as_deref());
            labels::write_verdicts(tx, labels::From::Job(job), &verdicts).await.map(drop)
        }
        (Task::Caption(caption), Output::Captioned { text, snapshot }, _) => {
            asking::record_caption(tx, job, &task.key(), caption, text, snapshot.as_deref()).await
        }
        (_, Output::Made { size, n_cut, .. }, Some(Stored::File(artifact))) => {
            let key = task.key();
            made::record_artifact(tx, job, &key, artifact, *n_cut).await?;
            match (task, size) {
                (Task::Encode(_) | Task::Denoise(_) | Task::Prepare(_), None) => Ok(()),
                (Task::Decode(task), Some(size)) => {
                    made::record_generation(tx, job, &key, task, &artifact.hash, *size).await
                }
                (Task::Reconstruct(task), Some(size)) => {
                    made::record_reconstruction(tx, job, &key, task, &artifact.hash, *size).await
                }
                _ => bail!("the slot answered with the output of another kind of task"),
            }
        }
        (Task::Finetune(_), Output::Trained(trained), Some(Stored::File(artifact))) => {
            let key = task.key();
            made::record_artifact(tx, job, &key, artifact, None).await?;
            training::record(tx, job, &key, trained.n_pictures, &trained.left_out, trained.held_out).await
        }
        _ => bail!("the slot answered with the output of another kind of task"),
    }
}

/// What a judge has answered, as labels: about the pair, wherever its pictures were shown.
fn verdicts_of(task: &Question, answers: &[Answer], snapshot: Option<&str>) -> Vec<Verdict> {
    let manner = &task.manner;
    let mut variant = format!("{} side={}", task.question.short(), manner.side);
    if let Some(temperature) = manner.temperature {
        variant.push_str(&format!(" temperature={temperature}"));
    }
    if let Some(url) = &manner.url {
        variant.push_str(&format!(" {url}"));
    }
    let judge = Judge::machine(snapshot.unwrap_or(&manner.model), variant);
    let pair = Pair::Pictures { first: task.first.key(), second: task.second.key() };
    let verdict = |answer: &Answer| {
        let choice = match answer.choice {
            Said::First => Choice::First,
            Said::Second => Choice::Second,
            Said::Tie => Choice::Tie,
            Said::Invalid => Choice::Invalid,
        };
        Verdict {
            pair: pair.clone(),
            area: task.crop.map(|it| Area { x: it.x, y: it.y, width: it.width, height: it.height }),
            aspect: task.title(answer.aspect),
            judge: judge.clone(),
            shown: if task.turned { Shown::SecondFirst } else { Shown::FirstFirst },
            choice: if task.turned { choice.turned() } else { choice },
            reason: answer.reason.clone(),
            attention: None,
        }
    };
    answers.iter().map(verdict).collect()
}
