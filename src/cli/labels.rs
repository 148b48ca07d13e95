//! `jobctl labels`: what people say of pictures, from files into the database and on sheets to fill in.

mod agreement;
mod import;
mod list;
mod sheet;
mod template;

use super::Outcome;
use crate::config::Config;

/// Bring in what people say of pictures, see how far they agree, and make sheets for them to fill in.
///
/// Example: jobctl labels import ratings.csv --aspect quality --scale 1,5
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    action: Verb,
}

#[derive(clap::Subcommand, Debug)]
enum Verb {
    Import(import::Args),
    Agreement(agreement::Args),
    Template(template::Args),
    List(list::Args),
}

/// See [`Args`].
pub(super) async fn run(args: &Args, config: &Config) -> anyhow::Result<Outcome> {
    match &args.action {
        Verb::Import(args) => import::run(args, config).await,
        Verb::Agreement(args) => agreement::run(args, config).await,
        Verb::Template(args) => template::run(args, config).await,
        Verb::List(args) => list::run(args, config).await,
    }
}
