//! `jobctl db`: the database, above all the private one.

mod check;
mod retention;
mod roles;
mod sweep_up;

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::Context;
use clap::Subcommand;

use super::lines::say;
use super::{Outcome, block_on};
use crate::config::Config;
use crate::database::{self, private::Postgres};
use crate::store::artifact::Artifacts;
use crate::store::mark;

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
    Roles(roles::Args),
    Check(check::Args),
    /// Take the store of the settings for this database's, after its own was lost. Results that are not in it are made
    /// again where jobs want them.
    AdoptStore,
    Prune(retention::Args),
}

/// See [`Args`].
pub(super) fn run(args: &Args, config: &Config) -> anyhow::Result<Outcome> {
    match &args.action {
        Action::Url => say(database::url(config)?.reveal()),
        Action::Psql { args } => {
            block_on(migrate(config))?;
            let address = Address::of(database::url(config)?.reveal())?;
            let mut psql = Command::new("psql");
            psql.envs(address.secrets);
            let url = address.url;
            let error = psql.arg(url).args(args).exec();
            return Err(error).context("run psql (`apt-get install postgresql-client`)");
        }
        Action::Start | Action::Migrate => {
            block_on(migrate(config))?;
            say("the database is up, its tables up to date");
        }
        Action::Roles(_) => return block_on(roles::run(config)),
        Action::AdoptStore => return block_on(adopt_store(config)),
        Action::Check(args) => return block_on(check::run(args, config)),
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

async fn adopt_store(config: &Config) -> anyhow::Result<Outcome> {
    let pool = database::open(config, 1).await?;
    let artifacts = Artifacts::open(&config.store)?;
    mark::adopt(&pool, &artifacts).await?;
    say(format_args!("{} is the store of this database now; workers find out when they start", artifacts.name()));
    Ok(Outcome::Done)
}

async fn migrate(config: &Config) -> anyhow::Result<Outcome> {
    database::open(config, 1).await?;
    Ok(Outcome::Done)
}

/// The address without what is secret in it, and that as variables: arguments can be read by everyone on the machine.
struct Address {
    url: String,
    secrets: Vec<(&'static str, String)>,
}

impl Address {
    fn of(text: &str) -> anyhow::Result<Self> {
        let mut url = url::Url::parse(text).ok().context("DATABASE_URL is no Postgres address")?;
        let mut secrets = Vec::new();
        if let Some(password) = url.password() {
            let password = percent_encoding::percent_decode_str(password).decode_utf8()?.into_owned();
            secrets.push(("PGPASSWORD", password));
        }
        url.set_password(None).ok().context("DATABASE_URL is no Postgres address")?;
        let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        if !pairs.is_empty() {
            // Without a variable of psql's own, the certificate's password stays behind.
            let is_secret = |it: &&(String, String)| it.0 == "password" || it.0 == "sslpassword";
            secrets.extend(pairs.iter().filter(|it| it.0 == "password").map(|it| ("PGPASSWORD", it.1.clone())));
            let rest: Vec<_> = pairs.iter().filter(|it| !is_secret(it)).collect();
            if rest.is_empty() {
                url.set_query(None);
            } else {
                url.query_pairs_mut().clear().extend_pairs(rest);
                // psql takes a plus for what it is.
                let query = url.query().unwrap_or_default().replace('+', "%20");
                url.set_query(Some(&query));
            }
        }
        Ok(Self { url: url.into(), secrets })
    }
}

#[cfg(test)]
mod tests {
    use super::Address;

    #[test]
    fn no_secret_is_left_in_what_ps_shows() {
        let address =
            Address::of("postgres://u:pl%40nted@h:5/d?sslmode=verify-full&password=other&sslrootcert=%2Fa%20b")
                .unwrap();
        assert_eq!(address.url, "postgres://u@h:5/d?sslmode=verify-full&sslrootcert=%2Fa%20b");
        assert_eq!(address.secrets, [("PGPASSWORD", "pl@nted".to_owned()), ("PGPASSWORD", "other".to_owned())]);
        assert_eq!(Address::of("postgres://u@h/d?password=x").unwrap().url, "postgres://u@h/d");
        let error = format!("{:#}", Address::of("planted not an address").err().unwrap());
        assert!(!error.contains("planted"));
    }
}
