//! One job that asks a machine, from its claim to its end: a slot makes the pictures ready, the agent asks, and what is
//! answered is stored before anything is made of it.

mod once;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::sync::watch;
use tokio::time::Instant;

use self::once::Asking;
use super::child::Child;
use super::notes::Notes;
use super::pipe::{Fault, Reply};
use super::scratch::Scratch;
use super::turn::{self, Bench, End, patiently, settle_end};
use super::wish::Wish;
use super::words::resolved;
use crate::database::within::within;
use crate::image;
use crate::job::task::Task;
use crate::judge::client::Client;
use crate::judge::prompts::question_hash;
use crate::judge::reply;
use crate::judge::request::Texts;
use crate::judge::weigh::{Weighed, captioned, judged};
use crate::queue::claim::Claimed;
use crate::store::asking;
use crate::tasks::Output;

/// Slots that wait to make pictures ready.
pub(super) struct Children {
    program: PathBuf,
    waiting: Mutex<Vec<Child>>,
}

impl Children {
    /// Nobody waits yet; each will run `program`.
    pub(super) fn new(program: PathBuf) -> Self {
        Self { program, waiting: Mutex::default() }
    }

    fn take(&self) -> anyhow::Result<Child> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop();
        waiting.map_or_else(|| Child::start(&self.program, "cpu", 1), Ok)
    }

    fn put(&self, child: Child) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(child);
    }

    /// Ends those that wait.
    pub(super) async fn end(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        for child in waiting {
            child.end().await;
        }
    }
}

/// Pictures as they are sent.
pub(super) struct Pictures {
    pub(super) base64: Vec<String>,
    sizes: Vec<(u32, u32)>,
}

/// Does a claimed job and settles it.
pub(super) async fn take(
    bench: &Arc<Bench>,
    client: &Arc<Client>,
    children: &Children,
    job: &Claimed,
    mut wishes: watch::Receiver<Wish>,
) {
    let began = Instant::now();
    let mut notes = Notes::new(bench, job);
    let end = run(bench, client, children, job, &mut wishes, &mut notes).await;
    settle_end(bench, job, end, &mut notes, &mut wishes, began).await;
}

fn failed(fault: Fault, error: impl Into<String>) -> End {
    End::Replied(Reply::Failed { fault, error: error.into() })
}

async fn run(
    bench: &Arc<Bench>,
    client: &Arc<Client>,
    children: &Children,
    job: &Claimed,
    wishes: &mut watch::Receiver<Wish>,
    notes: &mut Notes,
) -> End {
    let key = job.task.key();
    let deadline = Instant::now() + job.limit;
    let task = match patiently(|| resolved(bench, &job.task), wishes).await {
        Some(Ok(task)) => task,
        Some(Err(error)) => return failed(Fault::Machine, error),
        None => return End::Ordered,
    };
    if let Err(error) = check(&task) {
        return failed(Fault::Machine, error);
    }
    let look = || within(bench.patience, asking::blocks_of(&bench.pool, &key));
    let Some(blocks) = patiently(look, wishes).await else { return End::Ordered };
    let mut asking = Asking::new(bench.clone(), client.clone(), job, key, blocks, deadline);
    let mut pictures = None;
    loop {
        let replies = || within(bench.patience, asking::replies(&bench.pool, &key));
        let Some(replies) = patiently(replies, wishes).await else { return End::Ordered };
        let nth = match weigh(&task, &replies) {
            Weighed::Done(Ok(output)) => return End::Replied(Reply::Done(Box::new(output))),
            Weighed::Done(Err(error)) => return failed(Fault::Task, error),
            Weighed::Ask(nth) => nth,
        };
        if pictures.is_none() {
            match ready(bench, children, job, &task, deadline, wishes, notes).await {
                Ok(made) => pictures = Some(made),
                Err(end) => return end,
            }
        }
        let pictures = pictures.as_ref().expect("they were made ready just now");
        if let Err(end) = asking.ask(&task, nth, pictures, wishes).await {
            return end;
        }
    }
}

/// Whether this jobctl asks what the task means.
fn check(task: &Task) -> Result<(), String> {
    match task {
        Task::Judge(it) if question_hash(&it.aspects, it.words.is_some()) != it.question => {
            Err("this jobctl asks another question than the one that was enqueued; update the worker".to_owned())
        }
        Task::Judge(_) | Task::Caption(_) => Ok(()),
        _ => Err("an agent asks machines, and does nothing else".to_owned()),
    }
}

/// What the answers so far come to: the output, why there is none, or one more question.
pub(super) fn weigh(task: &Task, replies: &[reply::Reply]) -> Weighed<Result<Output, String>> {
    let snapshot = replies.iter().rev().find_map(|it| it.snapshot.clone());
    match task {
        Task::Judge(task) => match judged(task, replies) {
            Weighed::Done(verdicts) => Weighed::Done(Ok(Output::Judged { verdicts, snapshot })),
            Weighed::Ask(nth) => Weighed::Ask(nth),
        },
        Task::Caption(_) => match captioned(replies) {
            Weighed::Done(text) => Weighed::Done(text.map(|text| Output::Captioned { text, snapshot })),
            Weighed::Ask(nth) => Weighed::Ask(nth),
        },
        _ => Weighed::Done(Err("nobody is asked for this".to_owned())),
    }
}

/// The texts of a task's request.
pub(super) fn texts(task: &Task) -> Option<Texts> {
    match task {
        Task::Judge(task) => Some(Texts::of_judge(task)),
        Task::Caption(task) => Some(Texts::of_caption(task)),
        _ => None,
    }
}

/// Has a slot make the pictures ready.
async fn ready(
    bench: &Arc<Bench>,
    children: &Children,
    job: &Claimed,
    task: &Task,
    deadline: Instant,
    wishes: &mut watch::Receiver<Wish>,
    notes: &mut Notes,
) -> Result<Pictures, End> {
    let child = children.take().map_err(|error| failed(Fault::Machine, format!("{error:#}")))?;
    let mut done = turn::run(bench, child, job, task, deadline, wishes, notes).await;
    if let Some(child) = done.child.take() {
        children.put(child);
    }
    let End::Replied(Reply::Done(output)) = &done.end else { return Err(done.end) };
    let Output::Ready { files } = &**output else {
        return Err(failed(Fault::Machine, "the slot answered with the output of another kind of task"));
    };
    pictures(&bench.scratch, files).map_err(|error| failed(Fault::Machine, format!("{error:#}")))
}

/// Reads pictures that are ready.
///
/// # Errors
/// One is not there, or not in the scratch folder.
pub(super) fn pictures(scratch: &Scratch, files: &[OsString]) -> anyhow::Result<Pictures> {
    let mut pictures = Pictures { base64: Vec::new(), sizes: Vec::new() };
    for file in files {
        let path = Path::new(file);
        scratch.holds(path)?;
        let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        let header = image::header(std::io::Cursor::new(&bytes))?;
        pictures.base64.push(STANDARD.encode(&bytes));
        pictures.sizes.push((header.width, header.height));
    }
    Ok(pictures)
}
