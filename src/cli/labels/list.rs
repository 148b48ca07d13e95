//! `jobctl labels list`: which files were imported.

use crate::cli::Outcome;
use crate::cli::lines::{plain, right, say, say_json, table};
use crate::config::Config;
use crate::database;
use crate::store::labels;

/// Show the files of labels that were imported.
///
/// Example: jobctl labels list
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &Args, config: &Config) -> anyhow::Result<Outcome> {
    let pool = database::open(config, 1).await?;
    let imports = labels::imports(&pool).await?;
    if args.json {
        say_json(&imports)?;
        return Ok(Outcome::Done);
    }
    if imports.is_empty() {
        say("no labels were imported; `jobctl labels import` does it");
        return Ok(Outcome::Done);
    }
    let mut rows = table(&["FILE", "IMPORTED", "ROWS", "RATINGS", "CHOICES", "RATERS"]);
    for it in imports {
        let at = crate::queue::calendar::timestamp(it.imported_at)?.strftime("%Y-%m-%d %H:%M UTC").to_string();
        let counts = [i64::from(it.n_rows), it.n_ratings, it.n_verdicts, it.n_raters];
        let names = [comfy_table::Cell::new(plain(&it.name)), comfy_table::Cell::new(at)];
        rows.add_row(names.into_iter().chain(counts.map(|it| right(it.to_string()))));
    }
    say(rows);
    Ok(Outcome::Done)
}
