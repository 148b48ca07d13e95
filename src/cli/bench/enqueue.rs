//! `jobctl bench enqueue`: how long it takes to plan and enqueue a large sweep whose files' hashes are known.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;

use super::peak_mib;
use crate::cli::Outcome;
use crate::cli::enqueue::{Ask, Confirm, enqueue, load};
use crate::cli::lines::{say, say_json};
use crate::database::{self, private::Postgres};
use crate::image::{Rgb, jpeg};
use crate::plan::plan;
use crate::sweep::inventory::scan;

/// Time planning and enqueueing a sweep of images × levels cells, on a Postgres of its own that is thrown away.
///
/// Example: jobctl bench enqueue --images 100 --levels 1000
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Images of the sweep.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    images: u32,
    /// Levels of damage.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    levels: u32,
    /// How often it is timed, each time with other levels.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    runs: u16,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    cells: usize,
    jobs: usize,
    /// Seconds of the plan alone, in every run.
    plan_s: Vec<f64>,
    /// Seconds from the sweep's text to the committed jobs, in every run.
    enqueue_s: Vec<f64>,
    /// Largest resident size of this process in MiB.
    peak_mib: f64,
}

/// See [`Args`].
pub(super) async fn run(args: &Args) -> anyhow::Result<Outcome> {
    let folder = tempfile::tempdir().context("make a folder for the bench")?;
    // Postgres may run as another user, who has to come in.
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let server = Postgres::new(&folder.path().join("home"));
    let report = measure(args, folder.path(), &server).await;
    server.stop()?;
    let report = report?;
    if args.json {
        say_json(&report)?;
    } else {
        say(format_args!("{} cells, {} jobs, hashes known", report.cells, report.jobs));
        say(format_args!("plan     {}", spread(&report.plan_s)));
        say(format_args!("enqueue  {} (planning included)", spread(&report.enqueue_s)));
        say(format_args!("peak     {:.0} MiB resident", report.peak_mib));
    }
    Ok(Outcome::Done)
}

async fn measure(args: &Args, folder: &Path, server: &Postgres) -> anyhow::Result<Report> {
    write_pictures(args, folder)?;
    let url = server.start()?;
    let pool = database::connect(&url, 2).await?;
    database::migrate(&pool).await?;
    // Files written a moment ago are hashed each time: their stamps may still change unseen.
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let mut report = Report { cells: 0, jobs: 0, plan_s: Vec::new(), enqueue_s: Vec::new(), peak_mib: 0.0 };
    // The first run learns the hashes and is not counted.
    for run_idx in 0..=args.runs {
        // Other levels each time: every job is new, and the tables grow as they would.
        let sweep_file = write_sweep(args, folder, run_idx)?;
        let start = Instant::now();
        let loaded = load(&sweep_file)?.context("the bench's own sweep has a mistake")?;
        let ask = Ask { confirm: Confirm::Assume, own: None, dry_run: false, upload: None, firing: None };
        let summary = enqueue(&pool, loaded, &ask).await?.context("the sweep is confirmed")?;
        let seconds = start.elapsed().as_secs_f64();
        if run_idx > 0 {
            report.enqueue_s.push(seconds);
        }
        report.cells = summary.cells;
        report.jobs = summary.new.values().sum();
    }
    let loaded = load(&write_sweep(args, folder, 0)?)?.context("the bench's own sweep has a mistake")?;
    let mut hashes = crate::store::files::FileHashes::load(&pool).await?;
    let inventory = scan(&loaded.sweep, &loaded.base, &mut hashes, &|_| {})?;
    for _ in 0..args.runs {
        let start = Instant::now();
        let plan = plan(&loaded.sweep, &inventory)?;
        report.plan_s.push(start.elapsed().as_secs_f64());
        drop(plan);
    }
    report.peak_mib = peak_mib().unwrap_or(f64::NAN);
    Ok(report)
}

fn write_pictures(args: &Args, folder: &Path) -> anyhow::Result<()> {
    let pictures = folder.join("pictures");
    fs::create_dir(&pictures)?;
    for idx in 0..args.images {
        // The number follows the picture's end, so that no two files are equal.
        let mut bytes = jpeg::encode(&Rgb::new(64, 64), 95)?;
        bytes.extend(idx.to_le_bytes());
        fs::write(pictures.join(format!("{idx:06}.jpg")), bytes)?;
    }
    Ok(())
}

fn write_sweep(args: &Args, folder: &Path, run_idx: u16) -> anyhow::Result<std::path::PathBuf> {
    let mut text = String::from(
        "name = \"bench\"\n[[images]]\nname = \"pictures\"\npath = \"pictures\"\n[[damage]]\nof = \"pictures\"\nkind = \"blur\"\nsigma = [",
    );
    for level in 1..=args.levels {
        write!(text, "{}, ", f64::from(level) / 100.0 + f64::from(run_idx) / 1e5)?;
    }
    text.push_str("]\n[evaluate]\nmetrics = [\"glcm_score\", \"compression_ratio\", \"psnr\", \"ssim\"]\n");
    let path = folder.join("bench.toml");
    fs::write(&path, text)?;
    Ok(path)
}

fn spread(seconds: &[f64]) -> String {
    let mut sorted = seconds.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted[0], sorted[sorted.len() - 1]);
    format!("{:.2} s median of {} ({low:.2} to {high:.2})", sorted[sorted.len() / 2], sorted.len())
}
