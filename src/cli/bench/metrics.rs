//! `jobctl bench metrics`: how long the metrics take on this machine.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use serde::Serialize;

use crate::cli::Outcome;
use crate::image::{self, Rgb, jpeg};
use crate::metrics::glcm::count::{OFFSETS, PATCH};
use crate::metrics::{self, Subject};

/// Times decoding, encoding and metrics on a square made of one photograph.
///
/// SSIM is taken of the square's upper left quarter and of the same after JPEG at quality 30.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example: jobctl bench metrics photos/Kleiber_by_Lukas_Baubkus.jpg --threads 2")]
pub(super) struct Args {
    /// The photograph; where the square is larger, it is mirrored at its edges.
    photo: PathBuf,
    /// Time the metrics on one thread and on this many.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: u16,
    /// Side of the square in pixels.
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(256..=16384))]
    side: u32,
    /// How often each is timed, after once to warm up.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    runs: u16,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// See [`Args`].
pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let report = time_metrics(args)?;
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print(&report);
    }
    Ok(Outcome::Done)
}

/// What was timed, where.
#[derive(Serialize)]
struct Report {
    cpu: String,
    /// The clock that /proc/cpuinfo states, which a virtual machine may not run at.
    mhz: Option<f64>,
    side: u32,
    stages: Vec<Stage>,
}

/// One piece of work, timed.
#[derive(Serialize)]
struct Stage {
    stage: &'static str,
    threads: usize,
    pixels: u64,
    /// Seconds on the wall, run by run.
    runs: Vec<f64>,
    median: f64,
    min: f64,
    max: f64,
    /// What came out: a score, or how many bytes.
    value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cycles_per_increment: Option<f64>,
}

fn time_metrics(args: &Args) -> anyhow::Result<Report> {
    let read = || std::fs::read(&args.photo).with_context(|| format!("read {}", args.photo.display()));
    let bytes = read()?;
    let decode =
        || image::decode(&bytes, image::MAX_PIXELS).with_context(|| format!("decode {}", args.photo.display()));
    let photo = decode()?;
    let square = mirrored(&photo, args.side);
    let quarter = square.crop(0, 0, args.side / 2, args.side / 2);
    let damaged = image::decode(&jpeg::encode(&quarter, 30)?, image::MAX_PIXELS)?;
    let (cpu, mhz) = processor();

    let n_runs = usize::from(args.runs);
    let mut stages = vec![
        stage("decode", 1, &photo, n_runs, || Ok(decode()?.pixels.len() as f64))?,
        stage("jpeg95", 1, &square, n_runs, || Ok(jpeg::encode(&square, 95)?.len() as f64))?,
    ];
    let mut counts = vec![1, usize::from(args.threads)];
    counts.dedup();
    for n_threads in counts {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().context("start threads")?;
        let mut score = |name: &'static str, list, rgb: &Rgb, reference| {
            let wanted = metrics::parse(list)?;
            let subject = Subject { rgb, file_bytes: None, reference };
            stage(name, n_threads, rgb, n_runs, || {
                let score = pool.install(|| metrics::evaluate(&wanted, &subject)).remove(0);
                score.value.map_err(anyhow::Error::msg)
            })
            .map(|it| stages.push(it))
        };
        score("glcm_score", "glcm_score", &square, None)?;
        score("ssim:torchmetrics", "ssim:torchmetrics", &damaged, Some(&quarter))?;
        score("ssim:skimage", "ssim:skimage", &damaged, Some(&quarter))?;
        score("ssim:skimage-uniform", "ssim:skimage-uniform", &damaged, Some(&quarter))?;
    }
    for it in stages.iter_mut().filter(|it| it.stage == "glcm_score") {
        let n_patches = u64::from(args.side) / PATCH as u64;
        // The two diagonals of distance 1 are counted once for two matrices.
        let n_increments = n_patches.pow(2) * OFFSETS.iter().map(|it| it.n_pairs() as u64).sum::<u64>();
        it.cycles_per_increment = mhz.map(|mhz| it.median * it.threads as f64 * mhz * 1e6 / n_increments as f64);
    }
    Ok(Report { cpu, mhz, side: args.side, stages })
}

/// Runs `work` once to warm up and then `n_runs` times.
fn stage(
    stage: &'static str,
    threads: usize,
    rgb: &Rgb,
    n_runs: usize,
    work: impl Fn() -> anyhow::Result<f64>,
) -> anyhow::Result<Stage> {
    let value = work()?;
    let mut runs = Vec::with_capacity(n_runs);
    for _ in 0..n_runs {
        let start = Instant::now();
        std::hint::black_box(work()?);
        runs.push(start.elapsed().as_secs_f64());
    }
    let mut sorted = runs.clone();
    sorted.sort_by(f64::total_cmp);
    let median = f64::midpoint(sorted[(n_runs - 1) / 2], sorted[n_runs / 2]);
    let (min, max) = (sorted[0], sorted[n_runs - 1]);
    let pixels = u64::from(rgb.width) * u64::from(rgb.height);
    Ok(Stage { stage, threads, pixels, runs, median, min, max, value, cycles_per_increment: None })
}

/// The upper left square of `photo`, mirrored (edge pixels twice) where it is smaller.
fn mirrored(photo: &Rgb, side: u32) -> Rgb {
    let source = |at: u32, n: u32| {
        let at = at % (2 * n);
        (if at < n { at } else { 2 * n - 1 - at }) as usize
    };
    let mut square = Rgb::new(side, side);
    let stride = square.stride();
    for (y, line) in square.pixels.chunks_exact_mut(stride).enumerate() {
        let row = &photo.pixels[source(y as u32, photo.height) * photo.stride()..][..photo.stride()];
        for (x, pixel) in line.chunks_exact_mut(3).enumerate() {
            pixel.copy_from_slice(&row[3 * source(x as u32, photo.width)..][..3]);
        }
    }
    square
}

/// The processor's name and clock, as far as the system tells.
fn processor() -> (String, Option<f64>) {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find(|it| it.starts_with(name))?;
        line.split_once(':').map(|(_, value)| value.trim().to_owned())
    };
    (field("model name").unwrap_or_default(), field("cpu MHz").and_then(|it| it.parse().ok()))
}

fn print(report: &Report) {
    let Report { cpu, mhz, side, stages } = report;
    let clock = mhz.map_or_else(|| "unknown clock".to_owned(), |it| format!("{it:.0} MHz by /proc/cpuinfo"));
    println!("{cpu}, {clock}; square of {side} pixels; seconds");
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["", "threads", "median", "min", "max", "Mpixel/s", "value", "cycles an increment"]);
    for it in stages {
        table.add_row([
            it.stage.to_owned(),
            it.threads.to_string(),
            format!("{:.4}", it.median),
            format!("{:.4}", it.min),
            format!("{:.4}", it.max),
            format!("{:.1}", it.pixels as f64 / it.median / 1e6),
            it.value.to_string(),
            it.cycles_per_increment.map(|it| format!("{it:.2}")).unwrap_or_default(),
        ]);
    }
    println!("{table}");
}
