//! TBD

use super::Outcome;
use crate::config::Config;

/// TBD
#[derive(clap::Args, Debug)]
pub struct Args {}

/// See [`Args`].
pub(super) fn run(_args: &Args, _config: &Config) -> anyhow::Result<Outcome> {
    Ok(Outcome::Done)
}
