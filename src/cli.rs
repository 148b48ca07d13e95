//! The command line: one arm per verb, each in a file of its own.

mod bench;
mod cancel;
mod correlate;
mod dataset;
mod db;
mod enqueue;
mod generate;
mod jobs;
mod judge;
mod labels;
mod limit;
mod lines;
pub mod log;
mod logs;
mod mail;
mod model;
mod named;
mod pause;
mod picture;
mod priority;
mod report;
mod retry;
mod run;
mod schedule;
mod score;
mod show;
mod slot;
mod status;
mod top;
mod worker;

use std::process::ExitCode;

pub use lines::plain;

use anyhow::Context;
use clap::{Parser, Subcommand};

use crate::config::Config;
use crate::job::JobId;
use crate::queue::look;

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
///
/// Exit status: 0 done, 1 some work failed, 2 wrong use.
/// State lives in $JOBCTL_HOME (default ./.jobctl); the database is $DATABASE_URL, or a private Postgres there.
#[derive(Parser, Debug)]
#[command(name = "jobctl", version, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// What log lines look like; else $JOBCTL_LOG_FORMAT, else text. $JOBCTL_LOG (or $RUST_LOG) says what is logged.
    #[arg(long, global = true, value_enum, value_name = "FORMAT")]
    pub log_format: Option<log::Format>,
}

#[derive(Subcommand, Debug)]
enum Command {
    Run(run::Args),
    Enqueue(enqueue::Args),
    Plan(enqueue::PlanArgs),
    Worker(worker::Args),
    Schedule(schedule::Args),
    Status(status::Args),
    Top(top::Args),
    Jobs(jobs::Args),
    Show(show::Args),
    Logs(logs::Args),
    Cancel(cancel::Args),
    Retry(retry::Args),
    Pause(pause::PauseArgs),
    Resume(pause::ResumeArgs),
    Limit(limit::Args),
    Priority(priority::Args),
    Judge(judge::Args),
    Report(report::Args),
    Mail(mail::Args),
    Score(score::Args),
    Correlate(correlate::Args),
    Labels(labels::Args),
    Generate(generate::Args),
    Dataset(dataset::Args),
    Model(model::Args),
    Bench(bench::Args),
    Db(db::Args),
    Slot(slot::Args),
}

/// Runs the verb that the command line names.
///
/// # Errors
/// Whatever kept the verb from doing its work; [`Outcome::Failed`] instead where it did the rest.
pub fn run(cli: &Cli, config: &Config) -> anyhow::Result<Outcome> {
    match &cli.command {
        Command::Run(args) => block_on(run::run(args, config)),
        Command::Enqueue(args) => block_on(enqueue::run(args, config)),
        Command::Plan(args) => block_on(enqueue::plan_only(args, config)),
        Command::Worker(args) => block_on(worker::run(args, config)),
        Command::Schedule(args) => block_on(schedule::run(args, config)),
        Command::Status(args) => block_on(status::run(args, config)),
        Command::Top(args) => block_on(top::run(args, config)),
        Command::Jobs(args) => block_on(jobs::run(args, config)),
        Command::Show(args) => block_on(show::run(args, config)),
        Command::Logs(args) => block_on(logs::run(args, config)),
        Command::Cancel(args) => block_on(cancel::run(args, config)),
        Command::Retry(args) => block_on(retry::run(args, config)),
        Command::Pause(args) => block_on(pause::pause(args, config)),
        Command::Resume(args) => block_on(pause::resume(args, config)),
        Command::Limit(args) => block_on(limit::run(args, config)),
        Command::Priority(args) => block_on(priority::run(args, config)),
        Command::Judge(args) => block_on(judge::run(args, config)),
        Command::Report(args) => block_on(report::run(args, config)),
        Command::Mail(args) => block_on(mail::run(args, config)),
        Command::Score(args) => score::run(args),
        Command::Correlate(args) => correlate::run(args),
        Command::Labels(args) => block_on(labels::run(args, config)),
        Command::Generate(args) => generate::run(args),
        Command::Dataset(args) => dataset::run(args),
        Command::Model(args) => model::run(args, config),
        Command::Bench(args) => bench::run(args, config),
        Command::Db(args) => db::run(args, config),
        Command::Slot(args) => slot::run(args),
    }
}

fn block_on(verb: impl Future<Output = anyhow::Result<Outcome>>) -> anyhow::Result<Outcome> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("start the asynchronous runtime")?
        .block_on(verb)
}

/// What a verb is about: a sweep, or jobs by their numbers.
enum Target {
    Sweep(i32),
    Jobs(Vec<i64>),
}

async fn target(pool: &sqlx::PgPool, words: &[String]) -> anyhow::Result<Target> {
    if let Ok(jobs) = words.iter().map(|it| it.parse()).collect::<Result<Vec<i64>, _>>() {
        for job in &jobs {
            look::has_ended(pool, JobId(*job)).await?;
        }
        return Ok(Target::Jobs(jobs));
    }
    let [word] = words else { anyhow::bail!("give one sweep, or the numbers of jobs") };
    Ok(Target::Sweep(look::find_sweep(pool, word).await?.0))
}
