//! `jobctl judge import`: the answers of batch files.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::Context;
use uuid::Uuid;

use crate::cli::Outcome;
use crate::cli::lines::{plain, say, say_json};
use crate::config::Config;
use crate::database;
use crate::store::artifact::Artifacts;
use crate::worker::batch::{Batch, Taken};

/// The most mistakes that are told one by one.
const MOST_TOLD: usize = 20;

/// Read the answers of batch files: the lines that OpenAI's batches give back. The same file again changes nothing.
///
/// Each answer is stored as it is, then read as those that come over the wire, and ends its job. What cannot be understood
/// is exported once more by the next `jobctl judge export`.
///
/// Example: jobctl judge import results.jsonl
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The files.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

/// What became of the lines.
#[derive(Default)]
struct Counts {
    taken: BTreeMap<&'static str, u64>,
    n_wrong: usize,
}

/// See [`Args`].
pub(super) async fn run(args: &Args, config: &Config) -> anyhow::Result<Outcome> {
    // Found before anything is changed.
    for path in &args.files {
        std::fs::File::open(path).with_context(|| format!("read {}", path.display()))?;
    }
    let pool = database::open(config, 4).await?;
    let batch = Batch::open(pool, Artifacts::open(&config.store)?, config.times);
    let worker = batch.begin().await?;
    let mut counts = Counts::default();
    for path in &args.files {
        import(&batch, worker, path, &mut counts).await?;
    }
    batch.end(worker).await?;
    let n = |word: &str| counts.taken.get(word).copied().unwrap_or(0);
    if args.json {
        let (ended, useless, known, stored) = (n("ended"), n("useless"), n("known"), n("stored"));
        say_json(&serde_json::json!({
            "ended": ended, "useless": useless, "known": known, "stored": stored, "wrong": counts.n_wrong,
        }))?;
    } else {
        say(format_args!("{} answers ended their jobs", n("ended")));
        for (word, means) in [
            ("useless", "say nothing of use; `jobctl judge export` asks once more, if they were the first"),
            ("known", "were known"),
            ("stored", "are stored; workers are at their jobs"),
        ] {
            if n(word) > 0 {
                say(format_args!("{} {means}", n(word)));
            }
        }
        if counts.n_wrong > 0 {
            say(format_args!("{} lines were not taken", counts.n_wrong));
        }
    }
    Ok(if counts.n_wrong == 0 { Outcome::Done } else { Outcome::Failed })
}

async fn import(batch: &Batch, worker: Uuid, path: &Path, counts: &mut Counts) -> anyhow::Result<()> {
    let file = std::fs::File::open(path).with_context(|| format!("read {}", path.display()))?;
    for (idx, line) in BufReader::new(file).split(b'\n').enumerate() {
        let line = line.with_context(|| format!("read {}", path.display()))?;
        let line = String::from_utf8_lossy(&line);
        if line.trim().is_empty() {
            continue;
        }
        match batch.take(worker, line.trim()).await {
            Ok(taken) => {
                let word = match taken {
                    Taken::Ended => "ended",
                    Taken::Useless => "useless",
                    Taken::Known => "known",
                    Taken::Stored => "stored",
                };
                *counts.taken.entry(word).or_default() += 1;
            }
            Err(error) => {
                counts.n_wrong += 1;
                if counts.n_wrong <= MOST_TOLD {
                    eprintln!("{}:{}: {}", path.display(), idx + 1, plain(&format!("{error:#}")));
                }
            }
        }
    }
    Ok(())
}
