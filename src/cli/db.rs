//! `jobctl db`: the database, above all the private one.

mod retention;

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::Context;
use clap::Subcommand;

use super::lines::say;
use super::{Outcome, block_on};
use crate::config::Config;
use crate::database::{self, private::Postgres};

/// The database: $DATABASE_URL, or a private Postgres under $JOBCTL_HOME.
///
/// Example: jobctl db psql -c 'select * from leaderboard'
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Print its address, with the password; starts the private one.
    Url,
    /// Open psql on it, with further arguments passed on.
    Psql {
        /// What psql is given.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Start the private one, and bring the tables up to date.
    Start,
    /// Stop the private one.
    Stop,
    /// Bring the tables up to date.
    Migrate,
    /// Take old months out of the history.
    Prune(retention::Args),
}

/// See [`Args`].
pub(super) fn run(args: &Args, config: &Config) -> anyhow::Result<Outcome> {
    match &args.action {
        Action::Url => say(database::url(config)?.reveal()),
        Action::Psql { args } => {
            block_on(migrate(config))?;
            let (url, password) = split(database::url(config)?.reveal())?;
            let mut psql = Command::new("psql");
            if !password.is_empty() {
                psql.env("PGPASSWORD", password);
            }
            let error = psql.arg(url).args(args).exec();
            return Err(error).context("run psql (`apt-get install postgresql-client`)");
        }
        Action::Start | Action::Migrate => {
            block_on(migrate(config))?;
            say("the database is up, its tables up to date");
        }
        Action::Prune(args) => return block_on(retention::run(args, config)),
        Action::Stop if config.database_url.is_some() => {
            eprintln!("error: DATABASE_URL is set: that Postgres is not ours to stop");
            return Ok(Outcome::Misused);
        }
        Action::Stop if Postgres::new(&config.home).stop()? => say("the private Postgres is stopped"),
        Action::Stop => say("the private Postgres does not run"),
    }
    Ok(Outcome::Done)
}

async fn migrate(config: &Config) -> anyhow::Result<Outcome> {
    database::open(config, 1).await?;
    Ok(Outcome::Done)
}

/// The address without its password, and the password: arguments can be read by everyone on the machine.
fn split(url: &str) -> anyhow::Result<(String, String)> {
    let mut url = url::Url::parse(url).context("DATABASE_URL is no Postgres address")?;
    let password = percent_encoding::percent_decode_str(url.password().unwrap_or_default()).decode_utf8()?.into_owned();
    url.set_password(None).ok().context("DATABASE_URL is no Postgres address")?;
    Ok((url.into(), password))
}
