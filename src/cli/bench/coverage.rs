//! `jobctl bench coverage`: how often intervals hold the truth, simulated.

use crate::cli::Outcome;
use crate::cli::lines::say;
use crate::stats::bootstrap::Bootstrap;
use crate::stats::coverage::Study;

/// Simulate studies with a known correlation and count how often each kind of interval holds it.
///
/// Example: jobctl bench coverage --n 20,50,150 --rho 0,0.75
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Pairs of each study.
    #[arg(long, value_delimiter = ',', default_values_t = [20, 50, 150], value_parser = clap::value_parser!(u32).range(5..))]
    n: Vec<u32>,
    /// The true correlations.
    #[arg(long, value_delimiter = ',', default_values_t = [0.0, 0.75], value_parser = rho)]
    rho: Vec<f64>,
    /// Studies.
    #[arg(long, default_value_t = 2_000)]
    studies: u32,
    /// Resamples of each interval.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(100..))]
    samples: u32,
    /// Seed of the first study's data.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn rho(text: &str) -> Result<f64, String> {
    let rho = text.parse::<f64>().ok().filter(|it| it.abs() < 1.0);
    rho.ok_or_else(|| "it lies between −1 and 1".to_owned())
}

/// Runs the studies and prints a table in Markdown.
///
/// # Errors
/// None.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let bootstrap = Bootstrap { n_resamples: args.samples as usize, ..Bootstrap::default() };
    say(
        "| n | ρ | SRCC, percentile | PLCC, Fisher's z | PLCC after the fit, percentile | KRCC, percentile | mean, BCa |",
    );
    say("|---|---|---|---|---|---|---|");
    for n in &args.n {
        for rho in &args.rho {
            let study = Study { n: *n as usize, rho: *rho, n_studies: args.studies as usize, seed: args.seed };
            let it = study.run(&bootstrap);
            let shares = [it.srcc, it.plcc, it.plcc_fit, it.krcc, it.mean].map(|it| format!("{:.1} %", it * 100.0));
            say(format_args!("| {n} | {rho} | {} |", shares.join(" | ")));
        }
    }
    Ok(Outcome::Done)
}
