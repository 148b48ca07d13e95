//! What the agent looks up for a task before a slot gets it: files are brought to this machine.

use std::collections::HashSet;

use super::turn::Bench;
use crate::database::within::within;
use crate::job::task::{Origin, Picture, Task};
use crate::job::{Hash, JobId};
use crate::models::hub::Hub;
use crate::store::artifact::{Fault, Fetched};
use crate::store::{checkpoint, files, made, read, upload};
use crate::tasks::Inputs;
use crate::tasks::inputs::{FileAt, HubToken, PartFolder, Saved};

/// What looking came to.
pub(super) enum Gathered {
    /// All that is known. The files stay where they are as long as the second value lives.
    Ready(Box<Inputs>, Vec<Fetched>),
    /// What these jobs have made is gone or damaged.
    Gone { makers: Vec<JobId>, error: String },
}

/// Looks up what the task needs. What is not known is left out: the slot says what it misses.
///
/// # Errors
/// Postgres or the store is out of reach.
pub(super) async fn gather(bench: &Bench, task: &Task) -> anyhow::Result<Gathered> {
    let mut search =
        Search { bench, inputs: Inputs::default(), held: Vec::new(), makers: Vec::new(), faults: Vec::new() };
    match task {
        Task::Encode(_) | Task::Rehearse(_) => {}
        Task::Denoise(task) => {
            let keys: Vec<Hash> = [task.prompt].into_iter().chain(task.negative).collect();
            search.artifacts(&keys).await?;
        }
        Task::Decode(task) => search.artifacts(&[task.latent]).await?,
        Task::Reconstruct(task) => search.pictures(&[&task.picture]).await?,
        Task::Prepare(task) => search.files(&task.pictures).await?,
        Task::Finetune(task) => {
            for shown in [&task.data, &task.held_out] {
                search.artifacts(&shown.shards).await?;
                search.artifacts(&distinct(&shown.texts)).await?;
            }
            if let Some(samples) = &task.samples {
                let encoded: Vec<Hash> = samples.encoded().chain([samples.vae]).collect();
                search.artifacts(&distinct(&encoded)).await?;
            }
        }
        Task::Evaluate(task) => {
            let pair: Vec<&Picture> = [&task.picture].into_iter().chain(&task.reference).collect();
            search.pictures(&pair).await?;
        }
        Task::Judge(task) => search.pictures(&task.shown()).await?,
        Task::Caption(task) => search.pictures(&[&task.picture]).await?,
        Task::Pool(task) => {
            let scores = read::pool_inputs(&bench.pool, &task.pictures, &task.metrics);
            search.inputs.scores = within(bench.patience, scores).await?;
        }
    }
    if let Some(hash) = task.model() {
        // A part that a job trains goes by that job's key.
        search.artifacts(&[hash]).await?;
    }
    if !search.makers.is_empty() {
        return Ok(Gathered::Gone { makers: search.makers, error: search.faults.join("; ") });
    }
    if task.saves() {
        search.checkpoints(&task.key()).await?;
    }
    for hash in task.models() {
        let places = within(bench.patience, made::part_at(&bench.pool, &hash)).await?;
        // A slot has no token of its own: it gets ours where a package must be downloaded.
        if !search.inputs.files.iter().any(|it| it.of == hash) && !places.iter().any(|it| it.root.is_dir()) {
            search.inputs.hub_token = Hub::from_env().token.map(HubToken);
        }
        let folder = |it: made::PartAt| PartFolder { root: it.root.into_os_string(), name: it.name, part: it.part };
        search.inputs.parts.extend(places.into_iter().map(folder));
    }
    Ok(Gathered::Ready(Box::new(search.inputs), search.held))
}

/// Each once.
fn distinct(keys: &[Hash]) -> Vec<Hash> {
    let mut keys = keys.to_vec();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// What was found so far.
struct Search<'a> {
    bench: &'a Bench,
    inputs: Inputs,
    held: Vec<Fetched>,
    makers: Vec<JobId>,
    faults: Vec<String>,
}

impl Search<'_> {
    async fn pictures(&mut self, pictures: &[&Picture]) -> anyhow::Result<()> {
        let of = |origin: Origin| -> Vec<Hash> {
            let contents = pictures.iter().filter(|it| it.origin == origin).map(|it| it.content);
            let mut contents: Vec<Hash> = contents.collect();
            contents.sort_unstable();
            contents.dedup();
            contents
        };
        let (files, made) = (of(Origin::File), of(Origin::Job));
        if !files.is_empty() {
            self.files(&files).await?;
        }
        self.artifacts(&made).await
    }

    /// People's files: where they were seen, and, where this machine does not have them, the copies that were uploaded.
    async fn files(&mut self, contents: &[Hash]) -> anyhow::Result<()> {
        let (pool, patience) = (&self.bench.pool, self.bench.patience);
        let places = within(patience, files::places_of(pool, contents)).await?;
        let here: HashSet<Hash> = places.iter().filter(|it| it.is_unchanged()).map(|it| it.content).collect();
        let away: Vec<Hash> = contents.iter().filter(|it| !here.contains(it)).copied().collect();
        for hash in within(patience, upload::uploaded(pool, &away)).await? {
            match self.bench.artifacts.fetch(&hash).await {
                Ok(fetched) => self.hold(hash, hash, None, fetched),
                // Whoever has the file can bring it back; the slot says which.
                Err(fault) if fault.is_loss() => tracing::warn!(error = %fault, "a picture's copy is lost"),
                Err(fault) => return Err(fault.into()),
            }
        }
        self.inputs.files.extend(places.into_iter().map(|it| FileAt {
            of: it.content,
            content: it.content,
            path: it.path.into_os_string(),
            job: None,
        }));
        Ok(())
    }

    async fn artifacts(&mut self, keys: &[Hash]) -> anyhow::Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        for output in within(self.bench.patience, made::outputs(&self.bench.pool, keys)).await? {
            match self.bench.artifacts.fetch(&output.artifact).await {
                Ok(fetched) => self.hold(output.key, output.artifact, Some(output.job), fetched),
                Err(fault) => self.lose(output.job, fault)?,
            }
        }
        Ok(())
    }

    /// The checkpoints that can still be had, the newest first; the task begins after the first that it can read.
    async fn checkpoints(&mut self, key: &Hash) -> anyhow::Result<()> {
        for it in within(self.bench.patience, checkpoint::saved(&self.bench.pool, key)).await? {
            match self.bench.artifacts.fetch(&it.artifact).await {
                Ok(fetched) => {
                    let path = fetched.path.clone().into_os_string();
                    self.inputs.saved.push(Saved { path, content: it.artifact, step: it.step, meta: it.meta });
                    self.held.push(fetched);
                }
                Err(fault) if fault.is_loss() => tracing::warn!(error = %fault, "a checkpoint is lost"),
                Err(fault) => return Err(fault.into()),
            }
        }
        Ok(())
    }

    fn hold(&mut self, of: Hash, content: Hash, job: Option<JobId>, fetched: Fetched) {
        let path = fetched.path.clone().into_os_string();
        self.inputs.files.push(FileAt { of, content, path, job });
        self.held.push(fetched);
    }

    fn lose(&mut self, job: JobId, fault: Fault) -> anyhow::Result<()> {
        if !fault.is_loss() {
            return Err(fault.into());
        }
        let shared = if self.bench.artifacts.is_remote() { "" } else { " (do all workers share this store?)" };
        self.faults.push(format!("{fault}{shared}; job {job} made it: `jobctl retry {job}` makes it again"));
        self.makers.push(job);
        Ok(())
    }
}
