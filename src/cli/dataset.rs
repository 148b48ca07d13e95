//! `jobctl dataset`: what a folder of images is like.

mod stats;

use std::io;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use rayon::prelude::*;
use serde::Serialize;

use self::stats::{Bin, Side, Stats};
use super::Outcome;
use super::lines::{Lines, ended, right, table};
use crate::image::files::{self, Unreadable};

/// Looks into folders of images.
///
/// Example: jobctl dataset stats photos --json
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Sizes of the images of a folder, read from their headers alone.
    ///
    /// Median, mean, least and greatest height and width after the turn that EXIF asks for, and how many images fall
    /// into each bin. Every folder is a set of its own. Status 1 if a file could not be read.
    #[command(after_help = "Example:
  jobctl dataset stats Aesthetic-Train Aesthetic-Eval --json > sizes.jsonl")]
    Stats(StatsArgs),
}

#[derive(clap::Args, Debug)]
struct StatsArgs {
    /// Folders of images, which are searched at any depth
    #[arg(value_name = "DIR", required = true)]
    folders: Vec<PathBuf>,
    /// Width of the bins of height and width, in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    bin: u32,
    /// Print JSON lines
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
///
/// # Errors
/// Standard output cannot be written.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let Verb::Stats(args) = &args.command;
    ended(args.folders.iter().try_fold(Outcome::Done, |outcome, folder| {
        let (sizes, unreadable) = measure(folder);
        let stats = Stats::of(&sizes, args.bin);
        let of_folder = if args.json { print_json } else { print_text };
        of_folder(&folder.to_string_lossy(), stats.as_ref(), &unreadable)?;
        Ok(if unreadable.is_empty() { outcome } else { Outcome::Failed })
    }))
}

/// Width and height of every image, and what could not be read.
fn measure(folder: &Path) -> (Vec<(u32, u32)>, Vec<Unreadable>) {
    let (images, mut unreadable) = files::under(folder);
    if images.is_empty() && unreadable.is_empty() {
        let error = io::Error::other("there is no .jpg, .jpeg, .png or .webp file in the folder").into();
        unreadable.push(Unreadable { path: folder.to_owned(), error });
    }
    let headers: Vec<_> = images.par_iter().map(|it| files::header_of(it)).collect();
    let mut sizes = Vec::with_capacity(images.len());
    for (path, header) in images.into_iter().zip(headers) {
        match header {
            Ok(header) => sizes.push((header.width, header.height)),
            Err(error) => unreadable.push(Unreadable { path, error }),
        }
    }
    (sizes, unreadable)
}

#[derive(Serialize)]
struct FaultLine<'a> {
    path: &'a str,
    error: String,
}

#[derive(Serialize)]
struct StatsLine<'a> {
    set: &'a str,
    n: usize,
    unreadable: usize,
    #[serde(flatten)]
    stats: Option<&'a Stats>,
}

fn print_json(set: &str, stats: Option<&Stats>, unreadable: &[Unreadable]) -> io::Result<()> {
    let mut out = Lines::new();
    for Unreadable { path, error } in unreadable {
        out.json(&FaultLine { path: &path.to_string_lossy(), error: error.to_string() })?;
    }
    out.json(&StatsLine { set, n: stats.map_or(0, |it| it.n), unreadable: unreadable.len(), stats })
}

fn print_text(set: &str, stats: Option<&Stats>, unreadable: &[Unreadable]) -> io::Result<()> {
    for Unreadable { path, error } in unreadable {
        eprintln!("error: {}: {error}", path.display());
    }
    let mut out = Lines::new();
    let n = stats.map_or(0, |it| it.n);
    out.text(&format!("{set}: {n} images, {} unreadable", unreadable.len()))?;
    let Some(stats) = stats else { return Ok(()) };
    let mut sides = table(&["", "median", "mean", "least", "greatest"]);
    for (name, side) in [("height", &stats.height), ("width", &stats.width)] {
        let Side { median, mean, min, max } = *side;
        let cells = [median.round(), mean.round(), f64::from(min), f64::from(max)];
        sides.add_row([name.into()].into_iter().chain(cells.map(|it| right(format!("{it}")))));
    }
    out.text(&sides.to_string())?;
    let histograms = &stats.histograms;
    for (name, bins, digits) in [
        ("height", &histograms.height, 0),
        ("width", &histograms.width, 0),
        ("megapixels", &histograms.megapixels, 0),
        ("aspect (width / height)", &histograms.aspect, 2),
    ] {
        out.text(&format!("\n{name}"))?;
        for line in bars(bins, digits) {
            out.text(&line)?;
        }
    }
    out.text("")
}

/// A line a bin: its range, its count, a bar.
fn bars(bins: &[Bin], digits: usize) -> Vec<String> {
    const LONGEST: usize = 40;
    let most = bins.iter().map(|it| it.n).max().unwrap_or(0).max(1);
    let line = |bin: &Bin| {
        // A bin that is not empty shows.
        let bar = "█".repeat((bin.n * LONGEST).div_ceil(most));
        format!("{:>8.digits$} to {:<8.digits$} {:>6} {bar}", bin.from, bin.to, bin.n)
    };
    bins.iter().map(|it| line(it).trim_end().to_owned()).collect()
}
