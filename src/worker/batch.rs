//! Requests for batch files and answers from them, for those who cannot ask from the cluster: the same questions, the same
//! reading, the same tables as over the wire.

use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use super::ask::{pictures, texts, weigh};
use super::inputs::{Gathered, gather};
use super::machine;
use super::results;
use super::scratch::Scratch;
use super::turn::Bench;
use super::words::resolved;
use crate::config::Times;
use crate::job::State;
use crate::job::task::Task;
use crate::judge::reply::{Reply, kept};
use crate::judge::request::{BATCH_PATH, custom_id, read_custom_id};
use crate::judge::weigh::Weighed;
use crate::queue::claim::{Introduction, register};
use crate::queue::pick::{Picked, by_key, pick};
use crate::queue::{control, locks, settle};
use crate::store::artifact::Artifacts;
use crate::store::asking::{self, Imported};
use crate::sweep::Sweep;
use crate::tasks::{self, Output, TaskError};

/// What writes and reads batch files.
pub struct Batch {
    bench: Arc<Bench>,
}

/// What became of an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Taken {
    /// It ended its job.
    Ended,
    /// It is stored and cannot be used: the question has to be asked once more, or of a second answer the job has failed.
    Useless,
    /// It was there already, or the job had ended.
    Known,
    /// It is stored; a worker is at the job.
    Stored,
}

impl Batch {
    /// What is needed for both.
    pub fn open(pool: PgPool, artifacts: Artifacts, times: Times) -> Self {
        let scratch = Scratch::new(&artifacts.scratch());
        let vitals = Arc::default();
        Self { bench: Arc::new(Bench { pool, artifacts, scratch, grace: times.grace, patience: times.stale, vitals }) }
    }

    /// The line of a batch file that asks for a job; none if it has been answered well enough.
    ///
    /// # Errors
    /// A picture cannot be had or read, or the caption that it needs is gone.
    pub async fn request(&self, job: &Picked) -> anyhow::Result<Option<Value>> {
        let task = resolved(&self.bench, &job.task).await?.map_err(anyhow::Error::msg)?;
        let replies = asking::replies(&self.bench.pool, &job.key).await?;
        let Weighed::Ask(nth) = weigh(&task, &replies) else { return Ok(None) };
        let (mut inputs, _held) = match gather(&self.bench, &task).await? {
            Gathered::Ready(inputs, held) => (*inputs, held),
            Gathered::Gone { error, .. } => bail!("{error}"),
        };
        let scratch = self.bench.scratch.turn()?;
        inputs.scratch = scratch.path().as_os_str().to_owned();
        let (task, output) = tokio::task::spawn_blocking(move || {
            let output = match &task {
                Task::Judge(it) => tasks::shown::judge(it, &inputs),
                Task::Caption(it) => tasks::shown::caption(it, &inputs),
                _ => Err(TaskError::Fatal(anyhow::anyhow!("nobody is asked for this"))),
            };
            (task, output)
        })
        .await
        .context("make the pictures ready")?;
        let Output::Ready { files } = output? else { bail!("the pictures are not ready") };
        let pictures = pictures(&self.bench.scratch, &files)?;
        let (Some(texts), Some(manner)) = (texts(&task), task.manner()) else { bail!("nobody is asked for this") };
        Ok(Some(json!({
            "custom_id": custom_id(&job.key, nth),
            "method": "POST",
            "url": BATCH_PATH,
            "body": texts.body(manner, &pictures.base64),
        })))
    }

    /// A worker's row, which answers from batch files are settled under.
    ///
    /// # Errors
    /// Postgres is out of reach.
    pub async fn begin(&self) -> anyhow::Result<Uuid> {
        let id = Uuid::now_v7();
        let (host, program, machine) = (machine::host(), machine::program(), machine::describe());
        let introduction =
            Introduction { id, host: &host, program: &program, machine: &machine, n_slots: 0, labels: &[], gpus: &[] };
        register(&self.bench.pool, &introduction).await?;
        Ok(id)
    }

    /// Says that nothing more is settled under that row.
    ///
    /// # Errors
    /// Postgres is out of reach.
    pub async fn end(&self, worker: Uuid) -> anyhow::Result<()> {
        settle::retire(&self.bench.pool, worker).await
    }

    /// Takes one line of a results file, in one transaction. The same line again changes nothing.
    ///
    /// # Errors
    /// It is no such line, it says that the request failed, or nobody knows its request.
    pub async fn take(&self, worker: Uuid, line: &str) -> anyhow::Result<Taken> {
        let line: Value = serde_json::from_str(line).context("that is no JSON")?;
        let name = line["custom_id"].as_str().context("it has no `custom_id`")?;
        let (beginning, nth) = read_custom_id(name).with_context(|| format!("`{name}` is no request of jobctl"))?;
        let response = &line["response"];
        let status = response["status_code"].as_u64().unwrap_or_default();
        if status != 200 {
            let error = line["error"]["message"].as_str().or_else(|| response["body"]["error"]["message"].as_str());
            bail!("the request failed with status {status}: {}", error.unwrap_or("nothing is said of why"));
        }
        let raw = response["body"].to_string();
        let reply = Reply::read(&raw);
        let mut tx = locks::begin_alone(&self.bench.pool).await?;
        let job = by_key(&mut tx, &beginning).await?.context("no job of this database has that name")?;
        ensure!(job.task.asks(), "job {} asks no machine", job.id);
        let task = resolved(&self.bench, &job.task).await?.map_err(anyhow::Error::msg)?;
        let (Some(texts), Some(manner)) = (texts(&task), task.manner()) else { bail!("nobody is asked for this") };
        let kept = kept(raw.as_bytes());
        let share = share(asking::payer(&mut tx, &job.key).await?);
        let (model, prompt) = (manner.model.as_str(), &texts.hash());
        let imported = Imported { model, prompt, raw: &kept, reply: &reply, share };
        let is_new = asking::import(&mut tx, &job.key, nth, &imported).await?;
        if job.state == State::Done.word() {
            tx.commit().await.context("store the answer")?;
            return Ok(Taken::Known);
        }
        let replies = asking::replies(&mut *tx, &job.key).await?;
        let output = match weigh(&task, &replies) {
            Weighed::Done(Ok(output)) => output,
            Weighed::Done(Err(_)) | Weighed::Ask(_) => {
                tx.commit().await.context("store the answer")?;
                return Ok(if is_new { Taken::Useless } else { Taken::Known });
            }
        };
        // What failed, because nothing was left to be spent, say, has its answer now.
        if job.state.parse::<State>().is_ok_and(State::is_final) {
            control::retry(&mut tx, &[job.id.0]).await?;
        }
        let Some(lease) = pick(&mut tx, worker, job.id).await? else {
            tx.commit().await.context("store the answer")?;
            return Ok(Taken::Stored);
        };
        settle::finish(&mut tx, job.id, lease).await?;
        results::record(&mut tx, job.id, &job.task, &output, None).await?;
        tx.commit().await.context("write what the answer says")?;
        Ok(Taken::Ended)
    }
}

/// The share of its prices that a block pays for batches, as its sweep's file says: all of them where it says nothing.
fn share(payer: Option<(String, String)>) -> f64 {
    let Some((name, definition)) = payer else { return 1.0 };
    let Ok(sweep) = Sweep::parse(&definition, "the sweep") else { return 1.0 };
    let judges = sweep.judge.iter().map(|it| (&it.name, &it.terms));
    let mut blocks = judges.chain(sweep.caption.iter().map(|it| (&it.name, &it.terms)));
    blocks.find(|it| *it.0 == name).map_or(1.0, |it| it.1.batch)
}
