//! Parses the command line, runs the verb, turns its outcome into an exit status.

use std::process::ExitCode;

use clap::Parser;
use jobctl::config::{Config, LogWishes};
use libmimalloc_sys::{mi_option_large_os_pages, mi_option_set_default, mi_option_t};
use mimalloc::MiMalloc;

/// Tensors of many megabytes come and go with every operation of a model. The system's allocator hands each back, and
/// the kernel clears its pages anew: that was a sixth of the time on the CPU.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// `mi_option_purge_delay` of mimalloc 2, which the crate does not name.
const PURGE_DELAY: mi_option_t = 15;

/// Lets the allocator take pages of 2 MB, and keep what is free for a second (`MIMALLOC_…` in the environment wins).
fn keep_large_blocks() {
    #[expect(unsafe_code, reason = "not to be called from several threads: main has started none")]
    unsafe {
        mi_option_set_default(mi_option_large_os_pages, 1);
        mi_option_set_default(PURGE_DELAY, 1000);
    }
}

fn main() -> ExitCode {
    keep_large_blocks();
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
