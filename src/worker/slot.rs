//! A slot: a child process that does one task at a time and keeps what it has loaded.
//! It reads requests from its standard input and ends when that ends, at once, so that none outlives its agent.

use std::io::{BufRead, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;

use anyhow::Context;

use super::pipe::{END_OF_LOG, Reply, Request};
use crate::tasks::{self, Memory, TaskError};

/// Serves requests until standard input ends, models on `device`: `cpu` or `cuda:N`.
///
/// # Errors
/// Standard input holds something else than requests, or standard output is gone.
pub fn serve(device: &str) -> anyhow::Result<()> {
    let (sender, requests) = mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            if sender.send(line).is_err() {
                break;
            }
        }
        // The agent is gone: nobody will take a result.
        std::process::exit(0);
    });
    let mut memory = Memory::new(device);
    for line in requests {
        let request: Request = serde_json::from_str(&line).context("understand the agent's request")?;
        let reply = answer(&request, &mut memory);
        eprintln!("{END_OF_LOG}");
        say(&reply)?;
    }
    Ok(())
}

fn say(reply: &Reply) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, reply)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

fn answer(request: &Request, memory: &mut Memory) -> Reply {
    // An agent that does not listen is gone, and with it this process.
    let mut progress = |done: usize, of: usize| drop(say(&Reply::Progress { done, of }));
    let work = AssertUnwindSafe(|| tasks::run(&request.task, &request.inputs, memory, &mut progress));
    let outcome = catch_unwind(work);
    match outcome {
        Ok(Ok(output)) => Reply::Done(Box::new(output)),
        Ok(Err(error)) => {
            let reply = Reply::Failed { retry: matches!(error, TaskError::Retry(_)), error: error.to_string() };
            eprintln!("{error}");
            reply
        }
        Err(panic) => {
            memory.clear();
            let said = panic.downcast_ref::<String>().map(String::as_str);
            let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Reply::Failed { retry: false, error: format!("the task panicked: {said}") }
        }
    }
}
