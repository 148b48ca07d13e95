//! `jobctl db prune`: takes months that are long over out of the history; without `--older-than` it sweeps the store.

use std::io::{IsTerminal, Write};

use anyhow::Context;

use super::sweep_up;
use crate::cli::Outcome;
use crate::cli::lines::{say, say_json, table};
use crate::config::Config;
use crate::database;
use crate::store::retention::{Gone, Month, finish, months, prune};

/// Remove from the store what nothing names; with --older-than, take old months out of the database instead.
///
/// What nothing names is what was stored by an attempt that lost its lease, and artifacts whose last use is gone. A file
/// is removed when it has been known as nameless for --age, by the database's clock: the first prune finds it, a later
/// one removes it, unless equal work has stored it again in between.
///
/// Of the database whole months of ended jobs go, with their attempts and logs, and none that a sweep with unfinished jobs
/// wants. Jobs that did not end well stay, so that `retry` works, and those that made a file, so that it can be made again;
/// keys and scores stay, so that nothing is done again. It may be cut off: the next one goes on.
///
/// Examples: jobctl db prune --dry-run, jobctl db prune --age 0s, jobctl db prune --older-than 180d --dry-run
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    files: sweep_up::Args,
    /// Months of the database that have been over for so many days, instead of files of the store.
    #[arg(long, value_name = "DAYS", value_parser = days, conflicts_with = "age")]
    older_than: Option<i32>,
    /// Take scores out as well; their sweeps are marked, and enqueueing such a file again computes all of it anew.
    #[arg(long, requires = "older_than")]
    scores: bool,
    /// Do it without asking.
    #[arg(long, short, requires = "older_than")]
    yes: bool,
}

/// `180d`, `26w` or `180`.
fn days(text: &str) -> Result<i32, String> {
    let (number, unit) = match text.strip_suffix('w') {
        Some(number) => (number, 7),
        None => (text.strip_suffix('d').unwrap_or(text), 1),
    };
    let days = number.parse::<i32>().ok().and_then(|it| it.checked_mul(unit)).filter(|it| (1..=36_500).contains(it));
    days.ok_or_else(|| format!("`{text}` is no number of days, such as 180d or 26w"))
}

/// See [`Args`].
pub(super) async fn run(args: &Args, config: &Config) -> anyhow::Result<Outcome> {
    let Some(days) = args.older_than else { return sweep_up::run(&args.files, config).await };
    let pool = database::open(config, 2).await?;
    let months = months(&pool, days, args.scores).await?;
    let going: Vec<&Month> = months.iter().filter(|it| it.kept_because.is_none()).collect();
    if !args.files.json {
        show(&months);
    }
    if args.files.dry_run {
        if args.files.json {
            months.iter().try_for_each(say_json)?;
        } else {
            say("nothing was changed (dry run)");
        }
        return Ok(Outcome::Done);
    }
    if !going.is_empty() && !args.yes && !is_meant(going.len())? {
        return Ok(Outcome::Misused);
    }
    // Whatever an earlier one has left.
    finish(&pool).await?;
    let mut all = Gone::default();
    let mut outcome = Outcome::Done;
    for month in going {
        match prune(&pool, month).await {
            Ok(gone) => {
                if args.files.json {
                    say_json(&serde_json::json!({ "partition": month.partition, "gone": gone }))?;
                }
                all.n_jobs += gone.n_jobs;
                all.n_kept += gone.n_kept;
                all.n_attempts += gone.n_attempts;
                all.n_scores += gone.n_scores;
                all.freed_bytes += gone.freed_bytes;
            }
            Err(error) => {
                eprintln!("error: {}: {error:#}", month.partition);
                outcome = Outcome::Failed;
            }
        }
    }
    if !args.files.json {
        let Gone { n_jobs, n_kept, n_attempts, n_scores, freed_bytes } = all;
        say(format_args!("freed    {} and {n_attempts} attempts' rows", size(freed_bytes)));
        say(format_args!("gone     {n_jobs} jobs, {n_scores} scores"));
        say(format_args!("kept     {n_kept} jobs of those months, which did not end well or hang on such"));
    }
    Ok(outcome)
}

fn show(months: &[Month]) {
    if months.is_empty() {
        say("no month is that old");
        return;
    }
    let mut rows = table(&["MONTH", "TABLE", "ROWS", "SIZE", "GOES"]);
    for it in months {
        rows.add_row([
            it.month.clone(),
            it.table.clone(),
            if it.n_rows < 0 { "?".to_owned() } else { format!("~{}", it.n_rows) },
            size(it.bytes),
            it.kept_because.as_ref().map_or_else(|| "yes".to_owned(), |why| format!("no: {why}")),
        ]);
    }
    say(rows);
}

fn is_meant(n: usize) -> anyhow::Result<bool> {
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        eprintln!("error: this deletes {n} months for good; say --yes if that is meant. Nothing was changed");
        return Ok(false);
    }
    eprint!("Delete {n} months for good? [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("read the answer")?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

fn size(bytes: i64) -> String {
    let mut size = bytes as f64;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if size < 1024.0 {
            break;
        }
        (size, unit) = (size / 1024.0, larger);
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{size:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::{days, size};

    #[test]
    fn ages_and_sizes_are_read_and_written() {
        assert_eq!((days("180d"), days("26w"), days("7")), (Ok(180), Ok(182), Ok(7)));
        for wrong in ["", "0d", "-1", "1y", "99999999w"] {
            assert!(days(wrong).is_err(), "{wrong}");
        }
        assert_eq!([0, 1023, 1536, 3 << 40].map(size), ["0 B", "1023 B", "1.5 KiB", "3.0 TiB"]);
    }
}
