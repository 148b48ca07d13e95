//! Parses the command line, runs the verb, turns its outcome into an exit status.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use jobctl::config::Config;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = jobctl::cli::Cli::parse();
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_env("JOBCTL_LOG").unwrap_or_else(|_| EnvFilter::new("info,sqlx=error")))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    match Config::from_env().and_then(|config| jobctl::cli::run(&cli, &config)) {
        Ok(outcome) => outcome.into(),
        Err(error) => {
            eprintln!("error: {}", jobctl::cli::plain(&format!("{error:#}")));
            ExitCode::from(1)
        }
    }
}
