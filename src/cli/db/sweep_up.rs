//! `jobctl db prune` of the store: removes files that nothing names.

use std::time::Duration;

use crate::cli::Outcome;
use crate::cli::lines::{say, say_json};
use crate::config::Config;
use crate::database;
use crate::store::artifact::Artifacts;
use crate::store::sweep_up::{Amount, sweep_up};

/// How the store is swept; what is said and done of months, too.
#[derive(clap::Args, Debug)]
#[group(id = "files")]
pub struct Args {
    /// How long a file must have been nameless, such as 30min, 24h or 7d. Under an hour is refused while jobs run.
    #[arg(long, default_value = "24h", value_parser = humantime::parse_duration)]
    age: Duration,
    /// Say what would be removed, and remove nothing.
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Answer in JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// See [`Args`].
pub(super) async fn run(args: &Args, config: &Config) -> anyhow::Result<Outcome> {
    let pool = database::open(config, 2).await?;
    let artifacts = Artifacts::open(&config.store)?;
    let swept = sweep_up(&pool, &artifacts, args.age, args.dry_run).await?;
    if args.json {
        say_json(&swept)?;
        return Ok(Outcome::Done);
    }
    let amount = |it: Amount| format!("{} files, {}", it.files, bytes(it.bytes));
    say(format_args!("store    {}", artifacts.name()));
    say(format_args!("unnamed  {}: artifacts that no row names", amount(swept.unnamed)));
    say(format_args!("strays   {}: files that no artifact is of", amount(swept.strays)));
    if swept.young.files > 0 {
        let age = humantime::format_duration(args.age);
        say(format_args!("young    {} of these: known for less than {age}, and kept", amount(swept.young)));
    }
    if args.dry_run {
        say("nothing was removed (dry run)");
    } else {
        say(format_args!("removed  {}", amount(swept.removed)));
    }
    Ok(Outcome::Done)
}

fn bytes(n: u64) -> String {
    indicatif::HumanBytes(n).to_string()
}
