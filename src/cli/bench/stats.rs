//! `jobctl bench stats`: how long intervals take.

use std::time::Instant;

use crate::cli::Outcome;
use crate::cli::lines::say;
use crate::stats::bootstrap::Bootstrap;
use crate::stats::study::{Rows, coefficients};

/// Time a bootstrap of a mean difference, and the coefficients of a table.
///
/// Example: jobctl bench stats
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Pairs.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(5..))]
    pairs: u32,
    /// Resamples.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    samples: u32,
}

/// Times both once and prints seconds.
///
/// # Errors
/// None.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let bootstrap = Bootstrap { n_resamples: args.samples as usize, ..Bootstrap::default() };
    let x: Vec<f64> =
        (0..args.pairs).map(|it| f64::from(it.wrapping_mul(2_654_435_761) >> 8) / f64::from(1 << 24)).collect();
    let y: Vec<f64> = x.iter().enumerate().map(|(idx, it)| it + x[(idx * 7 + 3) % x.len()]).collect();
    let differences: Vec<f64> = x.iter().zip(&y).map(|(x, y)| x - y).collect();
    let started = Instant::now();
    let interval = bootstrap.bca_of_mean(&differences);
    say(format_args!("mean difference  {:.3} s  {interval:?}", started.elapsed().as_secs_f64()));
    let started = Instant::now();
    let four = coefficients(&Rows { x, y, clusters: None }, &bootstrap);
    say(format_args!("four coefficients  {:.3} s  SRCC {:?}", started.elapsed().as_secs_f64(), four.srcc.value));
    Ok(Outcome::Done)
}
