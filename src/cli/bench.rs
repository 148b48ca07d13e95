//! `jobctl bench`: how long this machine takes.

mod attention;
mod coverage;
mod enqueue;
mod generate;
mod metrics;
mod queue;
mod stats;
mod report;
mod train;

use super::{Outcome, block_on};
use crate::config::Config;

/// Time this machine's work.
///
/// Example: jobctl bench enqueue
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand, Debug)]
enum What {
    Attention(attention::Args),
    Coverage(coverage::Args),
    Metrics(metrics::Args),
    Enqueue(enqueue::Args),
    Generate(generate::Args),
    Queue(queue::Args),
    Stats(stats::Args),
    Report(report::Args),
    Train(train::Args),
}

/// Runs what is to be timed.
///
/// # Errors
/// Whatever kept it from running.
pub fn run(args: &Args, config: &Config) -> anyhow::Result<Outcome> {
    match &args.what {
        What::Attention(args) => attention::run(args),
        What::Coverage(args) => coverage::run(args),
        What::Metrics(args) => metrics::run(args),
        What::Enqueue(args) => block_on(enqueue::run(args)),
        What::Generate(args) => generate::run(args),
        What::Queue(args) => block_on(queue::run(args, config)),
        What::Stats(args) => stats::run(args),
        What::Report(args) => block_on(report::run(args)),
        What::Train(args) => train::run(args),
    }
}

/// Largest resident size of this process in MiB; none where the kernel does not tell.
fn peak_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<f64>().ok()? / 1024.0)
}

/// Seconds that all threads of this process have computed for so far; none where the kernel does not tell.
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name may hold anything but ends at the last parenthesis; then come states and counts: utime is the 14th field.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system) = (fields.next()?.parse::<f64>().ok()?, fields.next()?.parse::<f64>().ok()?);
    Some((user + system) / rustix::param::clock_ticks_per_second() as f64)
}
