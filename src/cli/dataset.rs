//! TBD

use super::Outcome;

/// TBD
#[derive(clap::Args, Debug)]
pub struct Args {}

/// TBD
///
/// # Errors
/// TBD
pub fn run(_args: &Args) -> anyhow::Result<Outcome> {
    Ok(Outcome::Done)
}
