//! What the agent looks up for a task before a slot gets it.

use std::path::PathBuf;

use anyhow::Context;

use super::turn::Bench;
use crate::job::Hash;
use crate::job::task::{Origin, Picture, Task};
use crate::store::{checkpoint, files, made, read};
use crate::tasks::Inputs;
use crate::tasks::inputs::{FileAt, PartFolder, Saved};

/// Looks up what the task needs. What is not known is left out: the slot says what it misses.
///
/// # Errors
/// Postgres is out of reach.
pub(super) async fn gather(bench: &Bench, task: &Task) -> anyhow::Result<Inputs> {
    let mut inputs = Inputs::default();
    match task {
        Task::Encode(_) => {}
        Task::Denoise(task) => {
            let keys: Vec<Hash> = [task.prompt].into_iter().chain(task.negative).collect();
            artifacts(bench, &keys, &mut inputs).await?;
        }
        Task::Decode(task) => artifacts(bench, &[task.latent], &mut inputs).await?,
        Task::Reconstruct(task) => pictures(bench, &[&task.picture], &mut inputs).await?,
        Task::Evaluate(task) => {
            let pair: Vec<&Picture> = [&task.picture].into_iter().chain(&task.reference).collect();
            pictures(bench, &pair, &mut inputs).await?;
        }
        Task::Rehearse(_) => {}
        Task::Pool(task) => inputs.scores = read::pool_inputs(&bench.pool, &task.pictures, &task.metrics).await?,
    }
    if task.saves() {
        for it in checkpoint::saved(&bench.pool, &task.key()).await? {
            let path = absolute(bench, &it.artifact)?.into_os_string();
            inputs.saved.push(Saved { path, content: it.artifact, step: it.step, meta: it.meta });
        }
    }
    if let Some(hash) = task.model() {
        let places = made::part_at(&bench.pool, &hash).await?.into_iter();
        let folder = |it: made::PartAt| PartFolder { root: it.root.into_os_string(), name: it.name, part: it.part };
        inputs.parts = places.map(folder).collect();
    }
    Ok(inputs)
}

async fn pictures(bench: &Bench, pictures: &[&Picture], inputs: &mut Inputs) -> anyhow::Result<()> {
    let of = |origin: Origin| -> Vec<Hash> {
        let mut contents: Vec<Hash> = pictures.iter().filter(|it| it.origin == origin).map(|it| it.content).collect();
        contents.sort_unstable();
        contents.dedup();
        contents
    };
    let (files, made) = (of(Origin::File), of(Origin::Job));
    if !files.is_empty() {
        let places = files::paths_of(&bench.pool, &files).await?.into_iter();
        let file =
            |(hash, path): (Hash, PathBuf)| FileAt { of: hash, content: hash, path: path.into_os_string(), job: None };
        inputs.files.extend(places.map(file));
    }
    artifacts(bench, &made, inputs).await
}

async fn artifacts(bench: &Bench, keys: &[Hash], inputs: &mut Inputs) -> anyhow::Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    for output in made::outputs(&bench.pool, keys).await? {
        let path = absolute(bench, &output.artifact)?;
        inputs.files.push(FileAt {
            of: output.key,
            content: output.artifact,
            path: path.into_os_string(),
            job: Some(output.job),
        });
    }
    Ok(())
}

/// Where an artifact is, for a process that may be in another folder.
fn absolute(bench: &Bench, artifact: &Hash) -> anyhow::Result<PathBuf> {
    let path = bench.artifacts.path(artifact);
    std::path::absolute(&path).with_context(|| format!("find {}", path.display()))
}
