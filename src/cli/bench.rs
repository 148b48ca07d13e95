//! `jobctl bench`: how long this machine takes.

mod attention;
mod coverage;
mod enqueue;
mod generate;
mod metrics;
mod queue;
mod stats;
mod train;
mod watch;

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
        What::Train(args) => train::run(args),
    }
}
