//! Parses the command line, runs the verb, turns its outcome into an exit status.

use std::process::ExitCode;

use clap::Parser;
use jobctl::config::{Config, LogWishes};

fn main() -> ExitCode {
    let cli = jobctl::cli::Cli::parse();
    if let Err(error) = jobctl::cli::log::start(cli.log_format, &LogWishes::from_env()) {
        eprintln!("error: {error:#}");
        return ExitCode::from(2);
    }
    match Config::from_env().and_then(|config| jobctl::cli::run(&cli, &config)) {
        Ok(outcome) => outcome.into(),
        Err(error) => {
            eprintln!("error: {}", jobctl::cli::plain(&format!("{error:#}")));
            ExitCode::from(1)
        }
    }
}
