//! `jobctl score`: metrics of image files, without a database.

mod inputs;
mod networks;
mod table;
mod work;

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use serde::Serialize;

use self::inputs::Input;
use self::work::{Done, Work};
use super::Outcome;
use super::lines::{Lines, ended};
use crate::image::MAX_PIXELS;
use crate::metrics::{self, Metric, Needs, PoolItem};

/// Scores image files; needs no database.
///
/// With --json one line an image and metric, then one a set and metric (each folder given is a set, the files given
/// one by one are another). Status 1 if a file could not be read or has no reference.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  jobctl score --metric glcm_score,compression_ratio photos
  jobctl score --metric 'ssim:*,psnr' --reference originals --json outputs > scores.jsonl
  jobctl score --metric aesthetics --network aesthetics=models/clip-vit-large-patch14 --device cuda:0 outputs")]
pub struct Args {
    /// Metrics, separated by commas: NAME is its default variant, NAME:VARIANT another, NAME:* all
    #[arg(long, value_name = "NAME[,NAME…]", required = true, value_parser = NonEmptyStringValueParser::new())]
    metric: Vec<String>,
    /// Image files and folders of them, which are searched at any depth
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// Where the references are: the same relative path and name, any ending
    #[arg(long, value_name = "DIR")]
    reference: Option<PathBuf>,
    /// The weights that a metric looks through: a folder, or a name on Hugging Face [default: those of its definition]
    #[arg(long, value_name = "METRIC=PACKAGE")]
    network: Vec<String>,
    /// Where these networks compute: cpu or cuda:N
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Refuse images of more pixels
    #[arg(long, value_name = "N", default_value_t = MAX_PIXELS)]
    max_pixels: u64,
    /// Threads [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Print JSON lines
    #[arg(long)]
    json: bool,
}

/// The score of one image.
#[derive(Serialize)]
struct ScoreLine<'a> {
    path: &'a str,
    metric: &'a str,
    variant: &'a str,
    version: u32,
    value: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'a str>,
}

/// An image that could not be scored, wholly or by some of the metrics.
#[derive(Serialize)]
struct FaultLine<'a> {
    path: &'a str,
    error: &'a str,
}

/// The score of a set.
#[derive(Serialize)]
struct SetLine<'a> {
    set: &'a str,
    metric: &'a str,
    variant: &'a str,
    version: u32,
    value: Option<f64>,
    n: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
}

/// Scores what the arguments name and prints as it goes.
///
/// # Errors
/// A network cannot be found or loaded, threads cannot be started or standard output not be written.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let wanted = match wanted(args) {
        Ok(wanted) => wanted,
        Err(message) => {
            eprintln!("error: {message}");
            return Ok(Outcome::Misused);
        }
    };
    let networks = match networks::open(&wanted, &args.network, &args.device) {
        Ok(networks) => networks,
        Err(networks::Fault::Misused(message)) => {
            eprintln!("error: {message}");
            return Ok(Outcome::Misused);
        }
        Err(networks::Fault::Failed(error)) => return Err(error),
    };
    let (inputs, sets) = inputs::find(&args.paths, args.reference.as_deref());
    let threads = args.threads.map_or(0, usize::from);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    let work = Work { wanted: &wanted, networks: &networks, pool: &pool, max_pixels: args.max_pixels };
    ended(if args.json { print_json(&work, &inputs, &sets) } else { table::print(&work, &inputs, &sets) })
}

/// The metrics that the arguments name, or what is wrong with them.
fn wanted(args: &Args) -> Result<Vec<&'static Metric>, String> {
    let wanted = metrics::parse(&args.metric.join(",")).map_err(|error| format!("{error}\n\n{}", known_metrics()))?;
    match wanted.iter().find(|it| it.needs == Needs::Reference) {
        Some(metric) if args.reference.is_none() => {
            Err(format!("{} compares an image with a reference: give --reference DIR", metric.name))
        }
        _ => Ok(wanted),
    }
}

/// The table of metrics for people: a metric a line, its variants behind it, the default first.
fn known_metrics() -> String {
    let same_name = metrics::TABLE.chunk_by(|a, b| a.name == b.name);
    let lines = same_name.map(|rows| {
        let variants: Vec<_> = rows.iter().map(|it| it.variant).collect();
        format!("  {:<18} {}", rows[0].name, variants.join(", "))
    });
    format!("The metrics and their variants, the default first:\n{}", lines.collect::<Vec<_>>().join("\n"))
}

fn print_json(work: &Work, inputs: &[Input], sets: &[String]) -> std::io::Result<Outcome> {
    let mut out = Lines::new();
    let mut totals = Totals::new(work.wanted, sets);
    work.each(inputs, |done| {
        for score in &done.scores {
            let value = score.value.as_ref();
            out.json(&ScoreLine {
                path: &done.path,
                metric: score.metric.name,
                variant: score.metric.variant,
                version: score.metric.version,
                value: value.ok().copied(),
                why: value.err().map(String::as_str),
                note: score.note.as_deref(),
            })?;
        }
        for error in &done.errors {
            out.json(&FaultLine { path: &done.path, error })?;
        }
        totals.add(&done);
        Ok(())
    })?;
    for total in totals.iter() {
        out.json(&SetLine {
            set: total.set,
            metric: total.metric.name,
            variant: total.metric.variant,
            version: total.metric.version,
            value: total.value,
            n: total.n,
            why: total.value.is_none().then_some("it is defined for none of its images"),
        })?;
    }
    Ok(totals.outcome())
}

/// What the sets' scores are computed from.
struct Totals<'a> {
    wanted: &'a [&'static Metric],
    sets: &'a [String],
    /// The defined scores: for each set, for each metric.
    items: Vec<Vec<Vec<PoolItem>>>,
    failed: bool,
}

/// The score of one set by one metric: pooled where the metric has such a score, else the mean.
struct Total<'a> {
    set: &'a str,
    metric: &'static Metric,
    value: Option<f64>,
    n: usize,
}

impl<'a> Totals<'a> {
    fn new(wanted: &'a [&'static Metric], sets: &'a [String]) -> Self {
        Self { wanted, sets, items: vec![vec![Vec::new(); wanted.len()]; sets.len()], failed: false }
    }

    fn add(&mut self, done: &Done) {
        self.failed |= !done.errors.is_empty();
        let Some(set) = done.set else { return };
        for score in &done.scores {
            let place = self.wanted.iter().position(|it| *it == score.metric);
            let place = place.expect("nothing is scored that is not wanted");
            if let Ok(value) = score.value {
                let (width, height) = done.size;
                self.items[set][place].push(PoolItem { width, height, value });
            }
        }
    }

    fn iter(&self) -> impl Iterator<Item = Total<'_>> {
        self.sets.iter().zip(&self.items).flat_map(|(set, items)| {
            self.wanted.iter().zip(items).map(|(&metric, items)| {
                let mean = || {
                    let sum: f64 = items.iter().map(|it| it.value).sum();
                    (!items.is_empty()).then(|| sum / items.len() as f64)
                };
                let value = if metric.pooled { metrics::pool(metric, items) } else { mean() };
                Total { set, metric, value, n: items.len() }
            })
        })
    }

    fn outcome(&self) -> Outcome {
        if self.failed { Outcome::Failed } else { Outcome::Done }
    }
}
