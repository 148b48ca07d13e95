//! A slot: a child process that does one task at a time and keeps what it has loaded.
//! It reads requests from its standard input and ends when that ends, at once, so that none outlives its agent.

use std::cell::RefCell;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

use anyhow::{Context, anyhow};
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

use super::family;
use super::pipe::{END_OF_LOG, Fault, Keep, Reply, Request, Work};
use crate::tasks::supervisor::{Checkpoint, Point, Sample};
use crate::tasks::{self, Memory, Supervisor, TaskError};

/// Serves requests until standard input ends, models on `device`: `cpu` or `cuda:N`.
///
/// # Errors
/// Standard input holds something else than requests, or standard output is gone.
pub fn serve(device: &str) -> anyhow::Result<()> {
    let (input, output) = private_pipes().context("set up the pipes")?;
    // What a task starts and forgets becomes this process's child, so that whoever ends the slot finds it.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).context("adopt what tasks leave behind")?;
    let stop_asked = hear_signals()?;
    let (sender, requests) = mpsc::channel();
    let asked = stop_asked.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(input).lines().map_while(Result::ok) {
            let request = serde_json::from_str(&line);
            match &request {
                // Here, in the order in which they come: a wish is about the work before it.
                Ok(Request::Do(_)) => asked.store(false, Ordering::Relaxed),
                Ok(Request::Stop) => {
                    asked.store(true, Ordering::Relaxed);
                    continue;
                }
                _ => {}
            }
            if sender.send(request).is_err() {
                break;
            }
        }
        // The agent is gone: nobody will take a result, and what tasks have started must not live on.
        end_group();
        std::process::exit(0);
    });
    let pipe = Pipe { out: RefCell::new(output), requests, stop_asked };
    let mut memory = Memory::new(device);
    loop {
        let Request::Do(work) = pipe.hear()? else {
            anyhow::bail!("the agent answers what nobody has asked");
        };
        let reply = answer(&work, &mut memory, &pipe);
        family::end_own();
        std::io::stdout().flush()?;
        eprintln!("{END_OF_LOG}");
        pipe.say(&reply)?;
    }
}

/// Standard input and output under other numbers, which nothing else writes to or inherits: what a task prints on
/// standard output goes to its log.
fn private_pipes() -> std::io::Result<(File, File)> {
    let own =
        |fd: std::os::fd::BorrowedFd<'_>| -> std::io::Result<OwnedFd> { Ok(rustix::io::fcntl_dupfd_cloexec(fd, 3)?) };
    let (input, output) = (own(rustix::stdio::stdin())?, own(rustix::stdio::stdout())?);
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
    Ok((input.into(), output.into()))
}

/// Turns SIGTERM and SIGUSR1, which would end the process, into a wish that tasks hear of. Batch systems send them to
/// every process of a job: whether a slot ends is its agent's to say. So is SIGINT.
fn hear_signals() -> anyhow::Result<Arc<AtomicBool>> {
    let asked = Arc::new(AtomicBool::new(false));
    let heard = asked.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut terminate, mut user, mut interrupt) = {
        let _inside = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::user_defined1())?, signal(SignalKind::interrupt())?)
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = terminate.recv() => heard.store(true, Ordering::Relaxed),
                    _ = user.recv() => heard.store(true, Ordering::Relaxed),
                    _ = interrupt.recv() => {}
                }
            }
        });
    });
    Ok(asked)
}

/// Kills this process's group, itself among it, if the group is its own.
fn end_group() {
    let own = rustix::process::getpid();
    if rustix::process::getpgrp() == own {
        let _ = rustix::process::kill_process_group(own, Signal::KILL);
    }
}

/// The slot's side of the pipe.
struct Pipe {
    out: RefCell<File>,
    requests: mpsc::Receiver<serde_json::Result<Request>>,
    stop_asked: Arc<AtomicBool>,
}

impl Pipe {
    fn hear(&self) -> anyhow::Result<Request> {
        self.requests.recv().context("the agent is gone")?.context("understand the agent's request")
    }

    /// One write a line, so that a line is whole or not there.
    fn say(&self, reply: &Reply) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(reply)?;
        line.push(b'\n');
        Ok(self.out.borrow_mut().write_all(&line)?)
    }

    /// Says something that the agent has to answer.
    fn ask(&self, reply: &Reply) -> Result<(), TaskError> {
        let answer = self.say(reply).and_then(|()| self.hear()).map_err(TaskError::Retry)?;
        match answer {
            Request::Noted { error: None } => Ok(()),
            Request::Noted { error: Some(error) } => Err(TaskError::Retry(anyhow!(error))),
            Request::Do(_) | Request::Stop => Err(TaskError::Retry(anyhow!("the agent does not answer"))),
        }
    }
}

impl Supervisor for &Pipe {
    fn progress(&mut self, done: usize, of: usize) {
        // An agent that does not listen is gone, and with it this process.
        drop(self.say(&Reply::Progress { done, of }));
    }

    fn stop_asked(&self) -> bool {
        self.stop_asked.load(Ordering::Relaxed)
    }

    fn keep(&mut self, it: &Checkpoint<'_>) -> Result<(), TaskError> {
        let (file, meta) = (it.file.as_os_str().to_owned(), it.meta.clone());
        self.ask(&Reply::Keep(Keep { file, step: it.step, meta, keep_last: it.keep_last, spare: it.spare }))
    }

    fn show(&mut self, it: &Sample<'_>) -> Result<(), TaskError> {
        self.ask(&Reply::Show { file: it.file.as_os_str().to_owned(), step: it.step, idx: it.idx })
    }

    fn begin_after(&mut self, step: Option<u64>) -> Result<(), TaskError> {
        self.ask(&Reply::Begin { after: step })
    }

    fn points(&mut self, points: &[Point]) {
        drop(self.say(&Reply::Points(points.to_vec())));
    }
}

fn answer(work: &Work, memory: &mut Memory, pipe: &Pipe) -> Reply {
    let mut supervisor = pipe;
    let outcome = catch_unwind(AssertUnwindSafe(|| tasks::run(&work.task, &work.inputs, memory, &mut supervisor)));
    let failed = |fault, error: String| Reply::Failed { fault, error };
    match outcome {
        Ok(Ok(output)) => Reply::Done(Box::new(output)),
        Ok(Err(TaskError::Stopped)) => Reply::Stopped,
        Ok(Err(error)) => {
            eprintln!("{error}");
            let fault = match error {
                TaskError::Memory(_) => Fault::Memory,
                TaskError::Retry(_) => Fault::Machine,
                TaskError::Fatal(_) | TaskError::Stopped => Fault::Task,
            };
            if fault == Fault::Memory {
                // What is loaded may be what fills it.
                memory.clear();
            }
            failed(fault, error.to_string())
        }
        Err(panic) => {
            memory.clear();
            let said = panic.downcast_ref::<String>().map(String::as_str);
            let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            failed(Fault::Task, format!("the task panicked: {said}"))
        }
    }
}
