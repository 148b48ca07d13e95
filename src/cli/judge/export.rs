//! `jobctl judge export`: what a sweep asks, as batch files.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::cli::Outcome;
use crate::cli::lines::{plain, say, say_json};
use crate::config::Config;
use crate::database;
use crate::queue::look;
use crate::queue::pick::ready_to_ask;
use crate::store::artifact::Artifacts;
use crate::worker::batch::Batch;

/// The most bytes of a batch file: OpenAI takes 200 MB.
const MOST_BYTES: u64 = 190_000_000;
/// The most lines of a batch file: OpenAI takes 50,000.
const MOST_LINES: u64 = 50_000;

/// Write what a sweep asks of judges and captioners as batch files in OpenAI's format, one line a request.
///
/// Jobs whose pictures or captions are not made yet are left out: export again when they are. What is exported twice is
/// counted once when its answers come in.
///
/// Example: jobctl judge export judge --out requests.jsonl
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The sweep: its id, the beginning of it, or its name.
    sweep: String,
    /// The file; what is too much for one goes on in NAME-2.jsonl and so on.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The most bytes of a file.
    #[arg(long, value_name = "BYTES", default_value_t = MOST_BYTES)]
    max_bytes: u64,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

/// See [`Args`].
pub(super) async fn run(args: &Args, config: &Config) -> anyhow::Result<Outcome> {
    let pool = database::open(config, 4).await?;
    let (sweep, slug) = look::find_sweep(&pool, &args.sweep).await?;
    let (ready, n_waiting) = ready_to_ask(&pool, sweep).await?;
    let batch = Batch::open(pool, Artifacts::open(&config.store)?, config.times);
    let mut files = Files { first: args.out.clone(), most_bytes: args.max_bytes, open: None, written: Vec::new() };
    let (mut n_requests, mut n_failed) = (0_u64, 0_u64);
    for job in &ready {
        match batch.request(job).await {
            Ok(Some(request)) => {
                files.write(&request.to_string())?;
                n_requests += 1;
            }
            // Answered meanwhile.
            Ok(None) => {}
            Err(error) => {
                eprintln!("error: job {}: {}", job.id, plain(&format!("{error:#}")));
                n_failed += 1;
            }
        }
    }
    let written = files.finish()?;
    if args.json {
        say_json(&serde_json::json!({
            "sweep": slug, "requests": n_requests, "waiting": n_waiting, "failed": n_failed, "files": written,
        }))?;
    } else {
        say(format_args!("{slug}: {n_requests} requests"));
        written.iter().for_each(|it| say(format_args!("  {}", it.display())));
        if n_waiting > 0 {
            say(format_args!(
                "  {n_waiting} jobs wait for pictures or captions, or a worker is at them: export again later"
            ));
        }
        if n_requests > 0 {
            say("send them, then `jobctl judge import` what comes back");
        }
    }
    Ok(if n_failed == 0 { Outcome::Done } else { Outcome::Failed })
}

/// Files that are written one after another.
struct Files {
    first: PathBuf,
    most_bytes: u64,
    open: Option<Open>,
    written: Vec<PathBuf>,
}

struct Open {
    path: PathBuf,
    /// Where it is written until it is whole.
    draft: PathBuf,
    out: BufWriter<File>,
    n_bytes: u64,
    n_lines: u64,
}

impl Files {
    fn write(&mut self, line: &str) -> anyhow::Result<()> {
        let n_bytes = line.len() as u64 + 1;
        let is_full =
            self.open.as_ref().is_some_and(|it| it.n_bytes + n_bytes > self.most_bytes || it.n_lines >= MOST_LINES);
        if is_full {
            self.close()?;
        }
        if self.open.is_none() {
            let path = numbered(&self.first, self.written.len() + 1);
            let draft = path.with_extension("part");
            let file = File::create(&draft).with_context(|| format!("write {}", draft.display()))?;
            self.open = Some(Open { path, draft, out: BufWriter::new(file), n_bytes: 0, n_lines: 0 });
        }
        let open = self.open.as_mut().expect("it was opened just now");
        writeln!(open.out, "{line}").with_context(|| format!("write {}", open.draft.display()))?;
        open.n_bytes += n_bytes;
        open.n_lines += 1;
        Ok(())
    }

    fn close(&mut self) -> anyhow::Result<()> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        open.out.flush().with_context(|| format!("write {}", open.draft.display()))?;
        std::fs::rename(&open.draft, &open.path).with_context(|| format!("write {}", open.path.display()))?;
        self.written.push(open.path);
        Ok(())
    }

    fn finish(mut self) -> anyhow::Result<Vec<PathBuf>> {
        self.close()?;
        Ok(self.written)
    }
}

fn numbered(first: &Path, n: usize) -> PathBuf {
    if n == 1 {
        return first.to_owned();
    }
    let stem = first.file_stem().unwrap_or_default().to_string_lossy();
    let ending = first.extension().map(|it| format!(".{}", it.to_string_lossy())).unwrap_or_default();
    first.with_file_name(format!("{stem}-{n}{ending}"))
}
