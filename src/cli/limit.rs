//! `jobctl limit`: how many jobs of a sweep or of a kind run at a time.

use anyhow::Context;

use super::Outcome;
use super::lines::{plain, say, say_json, table};
use crate::config::Config;
use crate::database;
use crate::job::task::Task;
use crate::queue::limit::{self, Of};
use crate::queue::look;

/// Limit how many jobs of a sweep, or of a kind over all sweeps, run at a time; without arguments, list the limits.
///
/// What runs goes on, even if it is more than the new limit. A job that several sweeps want counts for the first of them, and
/// for none if one of them has no limit.
///
/// Examples: jobctl limit demo 4, jobctl limit --kind denoise 2, jobctl limit demo none
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A sweep (its id, the beginning of it, or its name) unless --kind is given, and a number or `none`.
    #[arg(num_args = 0..=2, value_name = "SWEEP N")]
    what: Vec<String>,
    /// A kind of jobs, such as `denoise`.
    #[arg(long)]
    kind: Option<String>,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

/// See [`Args`].
pub(super) async fn run(args: &Args, config: &Config) -> anyhow::Result<Outcome> {
    let (sweep, number) = match (&args.kind, args.what.as_slice()) {
        (None, []) => return list(args.json, config).await,
        (Some(_), [number]) => (None, number),
        (None, [sweep, number]) => (Some(sweep), number),
        _ => {
            eprintln!("error: say `jobctl limit SWEEP N`, `jobctl limit --kind KIND N`, or `none` in the place of N");
            return Ok(Outcome::Misused);
        }
    };
    let max_running = match number.as_str() {
        "none" => None,
        text => match text.parse::<i32>().ok().filter(|it| *it > 0) {
            Some(n) => Some(n),
            None => {
                eprintln!("error: `{}` is no limit: say a whole number of at least 1, or `none`", plain(text));
                eprintln!("help: `jobctl pause SWEEP` lets none start");
                return Ok(Outcome::Misused);
            }
        },
    };
    if let Some(kind) = args.kind.as_deref().filter(|it| !Task::KINDS.contains(it)) {
        eprintln!("error: no kind is called `{}`; kinds are {}", plain(kind), Task::KINDS.join(", "));
        return Ok(Outcome::Misused);
    }
    let pool = database::open(config, 2).await?;
    let (of, name) = match (sweep, &args.kind) {
        (Some(word), _) => {
            let (id, slug) = look::find_sweep(&pool, word).await?;
            (Of::Sweep(id), slug)
        }
        (None, kind) => {
            let kind = kind.as_deref().context("a limit is of a sweep or of a kind")?;
            (Of::Kind(kind), format!("kind {kind}"))
        }
    };
    let mut tx = pool.begin().await?;
    limit::set(&mut tx, of, max_running).await?;
    tx.commit().await?;
    if args.json {
        say_json(&limit::list(&pool).await?)?;
    } else {
        match max_running {
            Some(n) => say(format_args!("{name}: at most {n} run at a time")),
            None => say(format_args!("{name}: no limit")),
        }
    }
    Ok(Outcome::Done)
}

async fn list(json: bool, config: &Config) -> anyhow::Result<Outcome> {
    let pool = database::open(config, 2).await?;
    let limits = limit::list(&pool).await?;
    if json {
        say_json(&limits)?;
        return Ok(Outcome::Done);
    }
    if limits.is_empty() {
        say("there are no limits; see `jobctl limit --help`");
        return Ok(Outcome::Done);
    }
    let mut rows = table(&["LIMIT OF", "RUNNING", "AT MOST"]);
    for it in &limits {
        let of = it.sweep.clone().unwrap_or_else(|| format!("kind {}", it.kind.as_deref().unwrap_or_default()));
        rows.add_row([plain(&of), it.n_running.to_string(), it.max_running.to_string()]);
    }
    say(rows);
    Ok(Outcome::Done)
}
