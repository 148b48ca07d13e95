//! `jobctl db roles`: makes the roles of owner, worker, enqueuer and reader.

use crate::cli::Outcome;
use crate::cli::lines::say;
use crate::config::Config;
use crate::database::{self, roles};

/// Make the roles and give them the least that they need. Can be run again, and should be after an update.
///
/// jobctl_owner changes tables; jobctl_worker claims jobs and writes results; jobctl_enqueuer enqueues, cancels, retries
/// and pauses; jobctl_reader reads. Nobody logs in as one of them: people and machines are made members.
///
/// Example: jobctl db roles && jobctl db psql -c "create role gpu01 login password '…' in role jobctl_worker"
#[derive(clap::Args, Debug)]
pub struct Args {}

/// See [`Args`].
pub(super) async fn run(config: &Config) -> anyhow::Result<Outcome> {
    let pool = database::open(config, 1).await?;
    roles::make(&pool).await?;
    for (role, what) in roles::ROLES {
        say(format_args!("{role:16} {what}"));
    }
    say("members: create role NAME login password '…' in role jobctl_worker");
    Ok(Outcome::Done)
}
