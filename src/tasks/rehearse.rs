//! Rehearses work: sleeps, makes a file of seeded bytes and scores, saves checkpoints, goes wrong as it is told.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use serde_json::json;

use super::memory::classed;
use super::supervisor::{Checkpoint, Point, Supervisor};
use super::{Inputs, Output, TaskError};
use crate::job::Hash;
use crate::job::outcome::Scored;
use crate::job::task::MetricId;
use crate::job::task::rehearse::{How, Rehearse};

/// How many checkpoints of a rehearsal are kept.
const KEEP_LAST: u32 = 2;
/// The longest sleep without looking whether to stop.
const NAP: Duration = Duration::from_millis(50);

/// Rehearses.
///
/// # Errors
/// Those that it was told to have; it was told to stop; the disk is full.
pub fn run(task: &Rehearse, inputs: &Inputs, supervisor: &mut dyn Supervisor) -> Result<Output, TaskError> {
    let ledger = Ledger { task, inputs };
    let resumed = inputs.resume();
    let begin = resumed.map_or(0, |it| it.step);
    supervisor.begin_after(resumed.map(|it| it.step))?;
    ledger.note("begin", begin)?;
    let steps = u64::from(task.steps.max(1));
    let mut made_until = Instant::now();
    for step in begin..steps {
        if let Some(fault) = task.fault
            && u64::from(fault.step) == step
            && fault.attempts.is_none_or(|it| inputs.attempt <= it)
        {
            ledger.note("fault", step)?;
            go_wrong(fault.how)?;
        }
        made_until += Duration::try_from_secs_f64(task.seconds / steps as f64).unwrap_or_default();
        while let Some(left) = made_until.checked_duration_since(Instant::now()).filter(|it| !it.is_zero()) {
            if supervisor.stop_asked() {
                return Err(stop(task, inputs, supervisor, &ledger, step));
            }
            std::thread::sleep(left.min(NAP));
        }
        let done = step + 1;
        supervisor.progress(done as usize, steps as usize);
        if let Some(every) = task.checkpoint_every {
            supervisor.points(&[Point::new("loss", done, draw(task.seed, done))]);
            if done.is_multiple_of(u64::from(every.max(1))) && done < steps {
                save(inputs, supervisor, &ledger, done)?;
            }
            if done < steps && supervisor.stop_asked() {
                return Err(stop(task, inputs, supervisor, &ledger, done));
            }
        }
    }
    let file = (task.bytes > 0).then(|| make(task, inputs)).transpose()?;
    let scores = (0..task.scores).map(|it| Scored {
        metric: MetricId { metric: "rehearsal".to_owned(), variant: format!("draw{it}"), version: 1 },
        with_reference: false,
        value: Some(draw(task.seed, u64::from(it))),
        why: None,
        note: None,
    });
    let output = Output::Rehearsed { file: file.map(Into::into), scores: scores.collect() };
    ledger.note("made", steps)?;
    Ok(output)
}

/// Saves what there is, where the task saves at all, and says that it ends by order.
fn stop(
    task: &Rehearse,
    inputs: &Inputs,
    supervisor: &mut dyn Supervisor,
    ledger: &Ledger<'_>,
    done: u64,
) -> TaskError {
    let saved = match task.checkpoint_every {
        Some(_) if done > 0 => save(inputs, supervisor, ledger, done),
        _ => Ok(()),
    };
    match saved.and_then(|()| ledger.note("stopped", done)) {
        Ok(()) => TaskError::Stopped,
        Err(error) => error,
    }
}

fn save(inputs: &Inputs, supervisor: &mut dyn Supervisor, ledger: &Ledger<'_>, step: u64) -> Result<(), TaskError> {
    let file = inputs.write("checkpoint", format!("{} after {step} steps", inputs.lease).as_bytes())?;
    let meta = json!({ "lease": inputs.lease, "attempt": inputs.attempt });
    supervisor.keep(&Checkpoint { file: &file, step, meta: &meta, keep_last: KEEP_LAST, spare: None })?;
    ledger.note("kept", step)
}

/// A number from 0 to 1 that follows from the seed and the place.
fn draw(seed: u64, at: u64) -> f64 {
    let hash = Hash::of_value(&("rehearsal", seed, at));
    let bits = u64::from_be_bytes(hash.0[..8].try_into().expect("a hash has more than 8 bytes"));
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

/// Writes the file: BLAKE3's output for the seed, as long as is asked.
fn make(task: &Rehearse, inputs: &Inputs) -> Result<std::path::PathBuf, TaskError> {
    let path = Path::new(&inputs.scratch).join("rehearsal");
    let write = || -> std::io::Result<()> {
        fs::create_dir_all(&inputs.scratch)?;
        let mut out = BufWriter::new(File::create(&path)?);
        let stream = blake3::Hasher::new().update(&task.seed.to_le_bytes()).finalize_xof();
        std::io::copy(&mut stream.take(task.bytes), &mut out)?;
        out.flush()
    };
    write().with_context(|| format!("write {}", path.display())).map_err(TaskError::Retry)?;
    Ok(path)
}

fn go_wrong(how: How) -> Result<(), TaskError> {
    let own = rustix::process::getpid();
    match how {
        How::Kill => {
            let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
            std::thread::sleep(Duration::from_secs(60));
        }
        How::Abort => std::process::abort(),
        How::Exit => std::process::exit(3),
        How::Hang => loop {
            std::thread::sleep(Duration::from_secs(3600));
        },
        How::Oom => {
            // Nobody has so much: the allocation fails, and with it the process, as any other's would.
            let asked: Vec<u8> = Vec::with_capacity(isize::MAX as usize);
            std::hint::black_box(asked);
        }
        How::GpuOom => {
            return Err(classed(anyhow!("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\") (rehearsed)")));
        }
        How::Fail => return Err(TaskError::Fatal(anyhow!("it was told to fail"))),
        How::Retry => return Err(TaskError::Retry(anyhow!("it was told to fail for the machine's fault"))),
        How::Panic => panic!("it was told to panic"),
        How::Flood => loop {
            eprintln!("{}", "it was told to print without end ".repeat(20));
        },
        How::Daemon => {
            // Its own session, and this process's standard error: what daemons do that nobody closed the pipes of.
            let mut command = Command::new("sleep");
            command.arg("600").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).process_group(0);
            let started = command.spawn().context("leave a process behind").map_err(TaskError::Retry)?;
            eprintln!("left process {}", started.id());
        }
    }
    Ok(())
}

/// The file that the task tells its effects to, a line each.
struct Ledger<'a> {
    task: &'a Rehearse,
    inputs: &'a Inputs,
}

impl Ledger<'_> {
    /// One line, appended by one write: lines of several processes never mix.
    fn note(&self, effect: &str, step: u64) -> Result<(), TaskError> {
        let Some(path) = &self.task.ledger else { return Ok(()) };
        let Inputs { lease, attempt, .. } = self.inputs;
        let (seed, pid) = (self.task.seed, std::process::id());
        let line =
            json!({ "seed": seed, "lease": lease, "attempt": attempt, "effect": effect, "step": step, "pid": pid });
        let append = || -> std::io::Result<()> {
            let mut file = OpenOptions::new().append(true).create(true).open(path)?;
            file.write_all(format!("{line}\n").as_bytes())
        };
        append().with_context(|| format!("write to the ledger {path}")).map_err(TaskError::Retry)
    }
}
