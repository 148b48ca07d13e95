//! `jobctl bench report`: how long the report of a large sweep takes, and how much memory.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use serde::Serialize;
use sqlx::PgPool;

use super::{cpu_seconds, peak_mib};
use crate::cli::Outcome;
use crate::cli::lines::{say, say_json};
use crate::cli::report::Library;
use crate::database::{self, private::Postgres};
use crate::image::{Rgb, jpeg, thumbnail};
use crate::job::Hash;
use crate::job::task::making::{FileFormat, Partition, Precision};
use crate::metrics::{Metric, Needs, TABLE};
use crate::plan::Making;
use crate::queue::load::vacuum;
use crate::report::{Options, analyse, write_report};
use crate::store::artifact::Artifacts;
use crate::store::load::{Past, past};
use crate::store::read::findings;

/// Side of the previews that workers make, in pixels.
const PREVIEW: u32 = 384;

/// Time the report of models × samples images, on a Postgres of its own that is thrown away.
///
/// Every image has as many scores as asked for: those of every metric that needs no reference, the others of versions
/// that the sweep does not ask for.
///
/// Example: jobctl bench report --models 10 --samples 1000 --scores 100
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Sources; the first is of photographs.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(2..=100))]
    models: u16,
    /// Samples of each.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(i32).range(3..=100_000))]
    samples: i32,
    /// Scores of each image.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i32).range(1..=1000))]
    scores: i32,
    /// Side of the pictures in pixels.
    #[arg(long, default_value_t = 2048, value_parser = clap::value_parser!(u32).range(256..=8192))]
    side: u32,
    /// How many different pictures there are, which stand for all.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pictures: u32,
    /// Keep the last report in this folder.
    #[arg(long)]
    out: Option<std::path::PathBuf>,
    /// How often it is timed.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    runs: u16,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Measured {
    images: usize,
    /// In the tables.
    scores: i64,
    /// In the report.
    scores_shown: usize,
    /// Seconds of reading from Postgres, in every run.
    read_s: Vec<f64>,
    /// Seconds of analysing, in every run.
    analyse_s: Vec<f64>,
    /// Seconds of rendering, pictures included, and of writing, in every run.
    write_s: Vec<f64>,
    /// Seconds of this process's threads over all three, in every run.
    cpu_s: Vec<f64>,
    /// Bytes of the page.
    page_bytes: u64,
    /// Largest resident size of this process in MiB.
    peak_mib: f64,
}

/// See [`Args`].
pub(super) async fn run(args: &Args) -> anyhow::Result<Outcome> {
    let folder = tempfile::tempdir().context("make a folder for the bench")?;
    // Postgres may run as another user, who has to come in.
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let server = Postgres::new(&folder.path().join("home"));
    let measured = measure(args, folder.path(), &server).await;
    server.stop()?;
    let measured = measured?;
    if args.json {
        say_json(&measured)?;
    } else {
        say(format_args!(
            "{} images, {} scores in the tables, {} of them in the report",
            measured.images, measured.scores, measured.scores_shown
        ));
        for run in 0..measured.read_s.len() {
            let (read, analyse, write) = (measured.read_s[run], measured.analyse_s[run], measured.write_s[run]);
            say(format_args!(
                "{:.2} s: read {read:.2} s, analysed {analyse:.2} s, rendered and written {write:.2} s; {:.2} s of CPU",
                read + analyse + write,
                measured.cpu_s[run]
            ));
        }
        say(format_args!("page     {:.2} MB", measured.page_bytes as f64 / 1e6));
        say(format_args!("peak     {:.0} MiB resident", measured.peak_mib));
    }
    Ok(Outcome::Done)
}

async fn measure(args: &Args, folder: &Path, server: &Postgres) -> anyhow::Result<Measured> {
    let artifacts = Artifacts::new(folder.join("store"));
    artifacts.prepare()?;
    let (mut pictures, mut previews) = (Vec::new(), Vec::new());
    for seed in 0..args.pictures {
        let picture = grain(args.side, seed);
        previews.push(artifacts.put(jpeg::encode(&thumbnail(&picture, PREVIEW), 80)?).await?);
        pictures.push(artifacts.put(jpeg::encode(&picture, 95)?).await?);
    }
    let url = server.start()?;
    let pool = database::connect(&url, 4).await?;
    database::migrate(&pool).await?;
    let (sweep, n_scores) = fill(args, &pool, &pictures, &previews).await?;
    vacuum(&pool).await?;
    let out = args.out.clone().unwrap_or_else(|| folder.join("report"));
    let mut measured = Measured {
        images: 0,
        scores: n_scores,
        scores_shown: 0,
        read_s: Vec::new(),
        analyse_s: Vec::new(),
        write_s: Vec::new(),
        cpu_s: Vec::new(),
        page_bytes: 0,
        peak_mib: f64::NAN,
    };
    for _ in 0..args.runs {
        let (start, cpu) = (Instant::now(), cpu_seconds().unwrap_or(f64::NAN));
        let findings = findings(&pool, &artifacts, sweep).await?;
        measured.read_s.push(start.elapsed().as_secs_f64());
        (measured.images, measured.scores_shown) = (findings.images.len(), findings.scores.len());
        let files = Library { artifacts: artifacts.clone(), runtime: tokio::runtime::Handle::current() };
        let out = out.clone();
        let (analyse_s, write_s, written) = tokio::task::spawn_blocking(move || {
            let start = Instant::now();
            let report = analyse(&findings);
            let analyse_s = start.elapsed().as_secs_f64();
            let written = write_report(&report, &findings, &out, &Options::default(), &files);
            written.map(|it| (analyse_s, start.elapsed().as_secs_f64() - analyse_s, it))
        })
        .await??;
        measured.analyse_s.push(analyse_s);
        measured.write_s.push(write_s);
        measured.cpu_s.push(cpu_seconds().unwrap_or(f64::NAN) - cpu);
        measured.page_bytes = fs::metadata(&written.html)?.len();
    }
    measured.peak_mib = peak_mib().unwrap_or(f64::NAN);
    Ok(measured)
}

/// The sweep's id, and how many scores were written.
async fn fill(args: &Args, pool: &PgPool, pictures: &[Hash], previews: &[Hash]) -> anyhow::Result<(i32, i64)> {
    let metrics: Vec<_> = TABLE.iter().filter(|it| it.needs != Needs::Reference).map(Metric::id).collect();
    let source = |idx: u16| match idx {
        0 => ("photographs".to_owned(), None, None),
        _ => {
            let making = Making::Generated {
                model: format!("models/model-{idx}"),
                width: args.side,
                height: args.side,
                steps: 28,
                guidance: 7.0,
                negative: Some(String::new()),
                seed: 0,
                t5_tokens: 77,
                dtype: Precision::Bf16,
                partition: Partition::Exact,
                format: FileFormat::Jpeg95,
            };
            (format!("Model {idx}"), Some(format!("models/model-{idx}")), Some(making))
        }
    };
    let sources: Vec<_> = (0..args.models).map(source).collect();
    let sweep = past(
        pool,
        &Past {
            sources: &sources,
            n_samples: args.samples,
            side: i32::try_from(args.side)?,
            pictures,
            previews,
            metrics: &metrics,
            n_scores: args.scores,
        },
    )
    .await?;
    Ok((sweep, i64::from(args.models) * i64::from(args.samples) * i64::from(args.scores)))
}

/// A picture with waves and grain of its own.
fn grain(side: u32, seed: u32) -> Rgb {
    let mut image = Rgb::new(side, side);
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let phase = f64::from(seed);
    for (idx, pixel) in image.pixels.chunks_exact_mut(3).enumerate() {
        let (x, y) = (idx as u32 % side, idx as u32 / side);
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let wave = 110.0 + 50.0 * (f64::from(x) / 37.0 + phase).sin() + 40.0 * (f64::from(y) / 53.0 - phase).cos();
        let value = wave + f64::from(state >> 27);
        pixel.copy_from_slice(&[value as u8, (0.9 * value) as u8, (0.7 * value) as u8]);
    }
    image
}
