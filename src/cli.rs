//! The command line: one arm per verb, each in a file of its own.

pub mod bench;
pub mod dataset;
pub mod score;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// How a command ended, and with which exit status.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Status 0.
    Done,
    /// Status 1: some of the work failed.
    Failed,
    /// Status 2: wrong use; what is wrong has been printed.
    Misused,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done => Self::SUCCESS,
            Outcome::Failed => Self::from(1),
            Outcome::Misused => Self::from(2),
        }
    }
}

/// A batch system that makes and judges ultra-high-resolution images.
#[derive(Parser, Debug)]
#[command(name = "jobctl", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Score(score::Args),
    Dataset(dataset::Args),
    Bench(bench::Args),
}

/// Runs the verb that the command line names.
///
/// # Errors
/// Whatever kept the verb from doing its work; [`Outcome::Failed`] instead where it did the rest.
pub fn run(cli: &Cli) -> anyhow::Result<Outcome> {
    match &cli.command {
        Command::Score(args) => score::run(args),
        Command::Dataset(args) => dataset::run(args),
        Command::Bench(args) => bench::run(args),
    }
}
