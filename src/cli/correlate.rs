//! `jobctl correlate`: metrics of any table against opinions in it, without a database.

mod input;
mod show;

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use serde::Serialize;

use self::input::{Group, Input};
use super::Outcome;
use super::lines::{Lines, ended, plain};
use crate::stats::bootstrap::Bootstrap;
use crate::stats::study::{Coefficients, Differences, coefficients, differences, pooled_coefficients};

/// Correlate metrics with people's opinions, in any table; needs no database.
///
/// SRCC, PLCC raw and after the 4-parameter logistic fit, and KRCC (tau-b), each with its interval and p-value, for each
/// metric and group and pooled over the groups (`*`: tanh of the mean arctanh r). Rows without a number are left out and
/// counted on standard error.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  jobctl correlate scores.csv --metric glcm_score,musiq --human mos
  jobctl correlate tifa.json --metric clipscore_vitb32,meteor --human human_avg --group model --json
  jobctl correlate patches.csv --metric glcm,cr --human rating --cluster photo --against cr")]
pub struct Args {
    /// CSV with any delimiter, a JSON array, a JSON object of objects (whose keys become `id`), or lines of JSON
    table: PathBuf,
    /// The metrics' columns, separated by commas
    #[arg(long, value_name = "COL[,COL…]", required = true, value_delimiter = ',', value_parser = NonEmptyStringValueParser::new())]
    metric: Vec<String>,
    /// The column of opinions; of several, their mean in each row
    #[arg(long, value_name = "COL[,COL…]", required = true, value_delimiter = ',', value_parser = NonEmptyStringValueParser::new())]
    human: Vec<String>,
    /// The column that says which group a row is in
    #[arg(long, value_name = "COL")]
    group: Option<String>,
    /// The column that says which rows belong together, such as patches of one photograph: drawn whole by the bootstrap
    #[arg(long, value_name = "COL")]
    cluster: Option<String>,
    /// Test each metric's coefficients against this one's, over the same rows
    #[arg(long, value_name = "COL")]
    against: Option<String>,
    /// Resamples of the bootstrap
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    samples: u32,
    /// Seed of the bootstrap: equal seeds give equal intervals
    #[arg(long, value_name = "N", default_value_t = Bootstrap::default().seed)]
    seed: u64,
    /// What share of intervals should hold the truth
    #[arg(long, value_name = "P", default_value_t = 0.95, value_parser = level)]
    level: f64,
    /// Print JSON lines
    #[arg(long)]
    json: bool,
}

fn level(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(level) if level > 0.0 && level < 1.0 => Ok(level),
        _ => Err("it lies between 0 and 1, as 0.95 does".to_owned()),
    }
}

/// What one metric has in one group.
#[derive(Serialize)]
struct Line<'a> {
    metric: &'a str,
    human: &'a str,
    group: Option<&'a str>,
    n: usize,
    #[serde(flatten)]
    coefficients: Coefficients,
}

/// How much one metric has more than another.
#[derive(Serialize)]
struct DifferenceLine<'a> {
    metric: &'a str,
    against: &'a str,
    human: &'a str,
    group: Option<&'a str>,
    n: usize,
    difference: Differences,
}

/// Reads the table and prints as it goes.
///
/// # Errors
/// Standard output cannot be written.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let input = match Input::read(args) {
        Ok(input) => input,
        Err(error) => {
            eprintln!("error: {error:#}");
            return Ok(Outcome::Misused);
        }
    };
    let bootstrap = Bootstrap { n_resamples: args.samples as usize, seed: args.seed, level: args.level };
    ended(if args.json { print_json(args, &input, &bootstrap) } else { show::print(args, &input, &bootstrap) })
}

fn print_json(args: &Args, input: &Input, bootstrap: &Bootstrap) -> std::io::Result<Outcome> {
    let mut out = Lines::new();
    each(args, input, bootstrap, |line| out.json(&line))?;
    each_difference(args, input, bootstrap, |line| out.json(&line))?;
    Ok(Outcome::Done)
}

fn each(
    args: &Args,
    input: &Input,
    bootstrap: &Bootstrap,
    mut print: impl FnMut(Line) -> std::io::Result<()>,
) -> std::io::Result<()> {
    for (metric, name) in args.metric.iter().enumerate() {
        let groups = input.groups(metric);
        for Group { name: group, rows } in &groups {
            let n = rows.x.len();
            let coefficients = coefficients(rows, bootstrap);
            if args.group.is_some()
                && let Err(why) = coefficients.srcc.value
            {
                let group = group.as_deref().unwrap_or_default();
                eprintln!("{name}: group `{}` is pooled only where it has a value: {why}", plain(group));
            }
            print(Line { metric: name, human: &input.human, group: group.as_deref(), n, coefficients })?;
        }
        if args.group.is_some() {
            let rows: Vec<_> = groups.into_iter().map(|it| it.rows).collect();
            let n = rows.iter().map(|it| it.x.len()).sum();
            let coefficients = pooled_coefficients(&rows, bootstrap);
            print(Line { metric: name, human: &input.human, group: Some("*"), n, coefficients })?;
        }
    }
    Ok(())
}

fn each_difference(
    args: &Args,
    input: &Input,
    bootstrap: &Bootstrap,
    mut print: impl FnMut(DifferenceLine) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let Some(against) = &args.against else { return Ok(()) };
    for (metric, name) in args.metric.iter().enumerate().filter(|it| it.1 != against) {
        for (Group { name: group, rows }, second) in input.pairs(metric) {
            let difference = differences(&rows, &second, bootstrap);
            let n = rows.x.len();
            print(DifferenceLine {
                metric: name,
                against,
                human: &input.human,
                group: group.as_deref(),
                n,
                difference,
            })?;
        }
    }
    Ok(())
}
