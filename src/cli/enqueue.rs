//! `jobctl enqueue` and `jobctl plan`: from a sweep file to jobs, or to what they would be.

mod data;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use sqlx::PgPool;

use super::Outcome;
use super::judge::{Estimate, estimates};
use super::lines::{say, say_json};
use super::named;
use crate::config::Config;
use crate::database;
use crate::job::State;
use crate::job::needs::Offer;
use crate::job::task::{Evaluate, MetricId, Pool, Task};
use crate::plan::{Plan, plan};
use crate::queue::schedule::firing::{Held, finish};
use crate::queue::{control, devices, locks, look, submit, why};
use crate::store::artifact::Artifacts;
use crate::store::files::FileHashes;
use crate::store::made::save_parts;
use crate::store::record::{KnownScores, record_plan};
use crate::store::upload;
use crate::store::{asking, captions};
use crate::sweep::Sweep;
use crate::sweep::fault::Faults;
use crate::sweep::inventory::{Inventory, Progress, scan};
use crate::sweep::packages::Resources;
use crate::worker::machine;

/// A sweep of more cells than this is enqueued only when somebody says that it is meant.
const MANY_CELLS: u64 = 200_000;

/// Plan a sweep and put its jobs into the queue. What is done already is not done again.
///
/// Example: jobctl enqueue jobs/demo.toml --dry-run
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The sweep file.
    pub sweep: PathBuf,
    /// Say what would be enqueued, and enqueue nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Enqueue even very many cells without asking.
    #[arg(long, short)]
    pub yes: bool,
    /// Put the sweep's pictures into the store, for workers that do not see this machine's disks. This is the default
    /// where the store is a bucket.
    #[arg(long, overrides_with = "no_upload")]
    pub upload: bool,
    /// Leave the sweep's pictures where they are: every worker sees them under the same paths.
    #[arg(long)]
    pub no_upload: bool,
    /// Answer in JSON.
    #[arg(long)]
    pub json: bool,
}

/// Say what a sweep would run, what of it is done, and how long it may take.
///
/// Example: jobctl plan jobs/demo.toml
#[derive(clap::Args, Debug)]
pub struct PlanArgs {
    /// The sweep file.
    pub sweep: PathBuf,
    /// Answer in JSON.
    #[arg(long)]
    pub json: bool,
}

/// What enqueueing did or would do: the last line that `--json` prints.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// The sweep's id.
    pub sweep: String,
    /// Jobs that are new, by kind.
    pub new: BTreeMap<String, usize>,
    /// Jobs that are done or under way already, by kind.
    pub done: BTreeMap<String, usize>,
    /// Hours of GPU time that the new jobs may take.
    pub gpu_hours: f64,
    /// Hours of one CPU slot that the new jobs may take.
    pub cpu_hours: f64,
    /// Cells of the sweep.
    pub cells: usize,
    /// Cancelled jobs that live again.
    pub revived: usize,
    /// Jobs that ended without a result before: `jobctl retry` tries them again.
    pub failed: u64,
    /// What its new requests to machines are likely to cost, by block.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub asking: Vec<Estimate>,
    /// Unfinished jobs that only a worker with CUDA takes.
    #[serde(skip)]
    pub n_for_cuda: i64,
    /// The sweep's row, unless nothing was enqueued.
    #[serde(skip)]
    pub row: Option<i32>,
}

/// See [`Args`].
pub(super) async fn run(args: &Args, config: &Config) -> anyhow::Result<Outcome> {
    let Some(sweep) = load(&args.sweep)? else { return Ok(Outcome::Misused) };
    let pool = database::open(config, 4).await?;
    let confirm = if args.dry_run || args.yes { Confirm::Assume } else { Confirm::Ask };
    let artifacts = Artifacts::open(&config.store)?;
    let upload = (args.upload || artifacts.is_remote()) && !args.no_upload;
    let upload = upload.then_some(&artifacts);
    let ask = Ask { confirm, own: None, dry_run: args.dry_run, upload, firing: None };
    let Some(summary) = enqueue(&pool, sweep, &ask).await? else { return Ok(Outcome::Misused) };
    tell(&summary, args.dry_run, args.json)?;
    Ok(Outcome::Done)
}

/// See [`PlanArgs`].
pub(super) async fn plan_only(args: &PlanArgs, config: &Config) -> anyhow::Result<Outcome> {
    let sweep = args.sweep.clone();
    let args = Args { sweep, dry_run: true, yes: true, upload: false, no_upload: true, json: args.json };
    run(&args, config).await
}

/// A sweep file, read and understood.
pub struct Loaded {
    /// The sweep.
    pub sweep: Sweep,
    /// Its text.
    pub text: String,
    /// The folder that its paths start from.
    pub base: PathBuf,
    /// The prompts and packages that it names.
    pub resources: Resources,
}

/// Reads a sweep file; none if it has mistakes, which have been printed then.
///
/// # Errors
/// The file cannot be read.
pub fn load(path: &Path) -> anyhow::Result<Option<Loaded>> {
    let Some(text) = named::text_of(path, "sweep", "jobs/")? else { return Ok(None) };
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let base = folder.canonicalize().with_context(|| format!("find {}", folder.display()))?;
    match understand(text, &path.display().to_string(), base) {
        Ok(loaded) => Ok(Some(loaded)),
        Err(faults) => {
            named::print(&faults);
            eprintln!("nothing was enqueued");
            Ok(None)
        }
    }
}

/// Reads the text of a sweep file called `name`, whose paths start from `base`.
///
/// # Errors
/// Its mistakes.
pub fn understand(text: String, name: &str, base: PathBuf) -> Result<Loaded, Faults> {
    let sweep = Sweep::parse(&text, name)?;
    let resources = sweep.look_up(&text, name, &base)?;
    Ok(Loaded { sweep, text, base, resources })
}

/// How a sweep is to be enqueued.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    /// What to do about very many cells.
    pub confirm: Confirm,
    /// Refuse jobs that neither these slots can do nor those of a worker that has beaten within this time; none takes them.
    pub own: Option<(Vec<Offer>, Duration)>,
    /// Change nothing.
    pub dry_run: bool,
    /// The store that the sweep's pictures are put into, if they are to be.
    pub upload: Option<&'a Artifacts>,
    /// The firing that ends with it, in the same transaction.
    pub firing: Option<Held>,
}

/// What to do about very many cells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Confirm {
    /// They are meant.
    Assume,
    /// Ask on a terminal; refuse elsewhere.
    Ask,
}

/// Plans a sweep and enqueues what is new; none if there are very many cells and nobody confirmed them, or nobody has
/// what they need, which has been said then.
///
/// # Errors
/// Its folders or the database are out of reach; nothing is enqueued then.
pub async fn enqueue(pool: &PgPool, loaded: Loaded, ask: &Ask<'_>) -> anyhow::Result<Option<Summary>> {
    let mut hashes = FileHashes::load(pool).await?;
    let Loaded { sweep, text, base, resources } = loaded;
    let inventory = take_inventory(&sweep, &base, resources, &mut hashes)?;
    data::tell_left_out(&sweep, &inventory);
    if !is_meant(sweep.n_cells(&inventory), ask.confirm)? {
        return Ok(None);
    }
    let plan = plan(&sweep, &inventory)?;
    let key = plan.key();
    let all = plan.counts();

    let mut stored = Vec::new();
    if let (Some(artifacts), false) = (ask.upload, ask.dry_run) {
        let bar = ProgressBar::new(0).with_style(
            ProgressStyle::with_template("storing pictures {bar:40} {pos}/{len} {eta}").expect("the template is right"),
        );
        let show = |n_done: usize, n: usize| {
            bar.set_length(n as u64);
            bar.set_position(n_done as u64);
        };
        let uploaded = upload::upload(pool, artifacts, &inventory, &show).await;
        bar.finish_and_clear();
        stored = uploaded.context("put the pictures into the store; nothing was enqueued")?;
    }
    let mut tx = locks::begin_alone(pool).await?;
    let mut summary = Summary {
        sweep: submit::slug(&plan.name, &key),
        new: BTreeMap::new(),
        done: BTreeMap::new(),
        gpu_hours: 0.0,
        cpu_hours: 0.0,
        cells: plan.cells.len(),
        revived: 0,
        failed: 0,
        asking: Vec::new(),
        n_for_cuda: 0,
        row: submit::find(&mut tx, &key).await?,
    };
    if let Some(row) = summary.row {
        hashes.save(&mut tx, &inventory).await?;
        summary.revived = submit::resubmit(&mut tx, row, &plan).await?;
        // A larger budget lets what the smaller one has stopped go on.
        let stopped = asking::spent_out(&mut tx, row, &plan.asking).await?;
        if !stopped.is_empty() {
            summary.revived += control::retry(&mut tx, &stopped).await?;
        }
        // Behind the jobs, as whoever asks locks them.
        asking::renew(&mut tx, row, &plan.asking).await?;
        captions::record(&mut tx, row, &plan, false).await?;
        let counts = look::counts(pool, row).await?;
        summary.failed = counts.iter().filter(|it| matches!(it.0, State::Failed | State::Skipped)).map(|it| it.1).sum();
    } else {
        let known = KnownScores::load(&mut tx, &plan).await?;
        let metrics = metrics(&plan);
        let trimmed = (!known.is_empty()).then(|| {
            plan.clone()
                .trim(&|picture, reference, metric, network| known.contains(picture, reference, metric, network))
        });
        let rest = trimmed.as_ref().unwrap_or(&plan);
        let submitted = submit::submit(&mut tx, rest, &key, &text, &metrics, &machine::program()).await?;
        record_plan(&mut tx, submitted.sweep, &plan).await?;
        captions::record(&mut tx, submitted.sweep, &plan, true).await?;
        asking::record(&mut tx, submitted.sweep, &plan).await?;
        summary.asking = estimates(rest, &submitted.is_new);
        hashes.save(&mut tx, &inventory).await?;
        (summary.cpu_hours, summary.gpu_hours) = hours(pool, rest, &submitted.is_new).await?;
        (summary.new, summary.revived) = (submitted.new, submitted.n_revived);
        summary.row = Some(submitted.sweep);
    }
    save_parts(&mut tx, &inventory).await?;
    if let Some(row) = summary.row {
        upload::keep(&mut tx, row, &stored).await?;
        summary.n_for_cuda = devices::n_for_cuda(&mut tx, Some(row)).await?;
    }
    if let Some(((own, stale), row)) = ask.own.as_ref().zip(summary.row) {
        let unmatched = why::unmatched(&mut tx, row, own, *stale).await?;
        for (needs, n, nearest) in &unmatched {
            eprintln!(
                "error: {n} jobs of this sweep need {needs}, which neither this command nor any live worker has{nearest}"
            );
        }
        if unmatched.iter().any(|it| it.0.needs_gpu()) {
            eprintln!("help: bf16 needs a GPU, `dtype = \"f32\"` runs on the processor");
        }
        if !unmatched.is_empty() {
            eprintln!("help: `jobctl enqueue` leaves them to a worker that will come\nnothing was enqueued");
            return Ok(None);
        }
    }
    for (kind, n) in all {
        let n_done = n - summary.new.get(kind).copied().unwrap_or(0).min(n);
        if n_done > 0 {
            summary.done.insert(kind.to_owned(), n_done);
        }
    }
    if let Some(held) = ask.firing {
        finish(&mut tx, held, &summary).await?;
    }
    if ask.dry_run {
        tx.rollback().await?;
        summary.row = None;
    } else {
        tx.commit().await.context("enqueue the sweep")?;
    }
    Ok(Some(summary))
}

fn take_inventory(
    sweep: &Sweep,
    base: &Path,
    resources: Resources,
    hashes: &mut FileHashes,
) -> anyhow::Result<Inventory> {
    let bar = ProgressBar::new(0).with_style(
        ProgressStyle::with_template("hashing files {bar:40} {bytes}/{total_bytes} {eta}")
            .expect("the template is right"),
    );
    let show = |progress: Progress| {
        bar.set_length(progress.total_bytes);
        bar.set_position(progress.done_bytes);
    };
    let inventory = scan(sweep, base, hashes, &show).and_then(|mut inventory| {
        resources.add_to(&mut inventory, hashes, &show)?;
        Ok(inventory)
    });
    bar.finish_and_clear();
    inventory
}

fn is_meant(n_cells: u64, confirm: Confirm) -> anyhow::Result<bool> {
    if n_cells <= MANY_CELLS || confirm == Confirm::Assume {
        return Ok(true);
    }
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        eprintln!("error: the sweep has {n_cells} cells; say --yes if so many are meant. Nothing was enqueued");
        return Ok(false);
    }
    eprint!("The sweep has {n_cells} cells. Enqueue them? [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    let meant = answer.trim().eq_ignore_ascii_case("y") || answer.trim().eq_ignore_ascii_case("yes");
    if !meant {
        eprintln!("Nothing was enqueued.");
    }
    Ok(meant)
}

fn metrics(plan: &Plan) -> BTreeSet<MetricId> {
    let mut metrics = BTreeSet::new();
    let mut last: &[MetricId] = &[];
    for job in &plan.jobs {
        let (Task::Evaluate(Evaluate { metrics: asked, .. }) | Task::Pool(Pool { metrics: asked, .. })) = &job.task
        else {
            continue;
        };
        // Most jobs ask for the same metrics as the one before.
        if asked != last {
            metrics.extend(asked.iter().cloned());
            last = asked;
        }
    }
    metrics
}

/// Seconds of an evaluation a megapixel, before any has been measured here.
const GUESSED_PACE_S: f64 = 0.25;
/// Seconds of a step of the transformer a megapixel on a GPU, before any has been measured here: an H100 takes 0.335 s
/// for 16.8 megapixels.
const GUESSED_STEP_S: f64 = 0.02;

/// Hours on one core and on one GPU that the new jobs are likely to take.
async fn hours(pool: &PgPool, plan: &Plan, is_new: &[bool]) -> anyhow::Result<(f64, f64)> {
    let scoring = look::pace(pool, "evaluate").await?.unwrap_or(GUESSED_PACE_S);
    let denoising = look::pace(pool, "denoise").await?;
    let (mut cpu, mut gpu) = (0.0, 0.0);
    for (job, _) in plan.jobs.iter().zip(is_new).filter(|it| *it.1) {
        let megapixels = if job.megapixels > 0.0 { f64::from(job.megapixels) } else { 1.0 };
        match &job.task {
            Task::Evaluate(_) => cpu += megapixels * scoring,
            Task::Denoise(task) => {
                let pace = denoising.unwrap_or(GUESSED_STEP_S * f64::from(task.steps));
                *(if job.task.needs_cuda() { &mut gpu } else { &mut cpu }) += megapixels * pace;
            }
            _ => {}
        }
    }
    Ok((cpu / 3600.0, gpu / 3600.0))
}

/// Prints what enqueueing did or would do.
///
/// # Errors
/// Never, but for a value without a JSON form.
pub fn tell(summary: &Summary, dry_run: bool, json: bool) -> anyhow::Result<()> {
    if json {
        return say_json(summary);
    }
    let count = |of: &BTreeMap<String, usize>| {
        let parts: Vec<String> = of.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
        if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
    };
    say(&summary.sweep);
    say(format_args!("  cells    {}", summary.cells));
    say(format_args!("  {} {}", if dry_run { "to run  " } else { "new     " }, count(&summary.new)));
    say(format_args!("  known    {} (ended or under way)", count(&summary.done)));
    if summary.revived > 0 {
        say(format_args!("  revived  {} cancelled jobs", summary.revived));
    }
    if summary.failed > 0 {
        let (n, sweep) = (summary.failed, &summary.sweep);
        say(format_args!("  failed   {n} of the known; `jobctl retry {sweep}` tries them again"));
    }
    if summary.n_for_cuda > 0 {
        say(format_args!("  CUDA     {} unfinished jobs need it: a worker with a GPU takes them", summary.n_for_cuda));
    }
    if summary.cpu_hours > 0.0 || summary.gpu_hours > 0.0 {
        let n_cores = machine::n_cores();
        let hours = summary.cpu_hours / f64::from(u32::try_from(n_cores).unwrap_or(1));
        let gpu = if summary.gpu_hours > 0.0 {
            format!("{} of one GPU", duration(summary.gpu_hours))
        } else {
            "no GPU time".to_owned()
        };
        // Asking has an estimate of its own, and pooling takes no time.
        let is_left = |kind: &&String| !["evaluate", "denoise", "pool", "judge", "caption"].contains(&kind.as_str());
        let left: BTreeMap<String, usize> =
            summary.new.iter().filter(|it| is_left(&it.0)).map(|(kind, n)| (kind.clone(), *n)).collect();
        let left = if left.is_empty() { String::new() } else { format!("; not in it: {}", count(&left)) };
        say(format_args!("  estimate {} on the {n_cores} cores of this machine; {gpu}{left}", duration(hours)));
    }
    super::judge::tell_estimates(&summary.asking);
    if dry_run {
        say("nothing was enqueued (dry run)");
    }
    Ok(())
}

fn duration(hours: f64) -> String {
    match hours {
        h if h >= 1.5 => format!("{h:.1} h"),
        h if h >= 1.5 / 60.0 => format!("{:.0} min", h * 60.0),
        h => format!("{:.0} s", (h * 3600.0).ceil()),
    }
}
