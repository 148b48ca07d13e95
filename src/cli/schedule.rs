//! `jobctl schedule`: what is done again and again, by cron lines in time zones.

pub mod keeper;

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Subcommand;

use super::Outcome;
use super::enqueue::load;
use super::lines::{plain, say, say_json, table};
use super::report::night::sender;
use crate::config::Config;
use crate::database;
use crate::queue::calendar::{Calendar, timestamp};
use crate::queue::schedule::{self, Action, Fired, Firing, Missed, New, Schedule};

/// Have sweeps enqueued, or reports mailed, again and again, by a cron line in a time zone.
///
/// Workers do it, whichever comes first, each firing once; what is done already is not done again, so a sweep whose
/// files have not changed adds nothing. Only the database's clock counts.
///
/// Example: jobctl schedule add nightly --cron "0 3 * * *" --tz Europe/Berlin jobs/nightly.toml;
/// jobctl schedule add morning --cron "0 8 * * *" --tz Europe/Berlin --report reports/nightly.toml
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    action: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Make a schedule. The file is kept as it is now; a sweep's paths go on starting from its folder.
    Add(AddArgs),
    /// Show the schedules, when they come due and how their last firings went.
    List {
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
    },
    /// Take a schedule away; what it has fired stays on record.
    Remove(NameArgs),
    /// Let a schedule wait; what comes due meanwhile counts as missed.
    Pause(NameArgs),
    /// Let a paused schedule go on, with what it has missed as `--missed` says.
    Resume(NameArgs),
    /// Make a schedule come due now.
    Fire(NameArgs),
    /// Show when a schedule comes due next.
    Next {
        /// The schedule.
        name: String,
        /// So many times.
        #[arg(long, short, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
        n: u16,
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show the latest firings, of one schedule or of all.
    History {
        /// The schedule, which may have been removed.
        name: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..))]
        limit: u16,
        /// Answer in JSON: a line each.
        #[arg(long)]
        json: bool,
    },
}

#[derive(clap::Args, Debug)]
struct AddArgs {
    /// What to call it.
    name: String,
    /// When: minute, hour, day of the month, month, day of the week; or @daily, @weekly and the like.
    #[arg(long)]
    cron: String,
    /// The time zone that it is read in.
    #[arg(long, default_value = "UTC")]
    tz: String,
    /// What becomes of firings that nobody was there for: none, the last or all of them are made up for.
    #[arg(long, value_enum, default_value = "once")]
    missed: Missed,
    /// The sweep file that is enqueued.
    #[arg(required_unless_present = "report")]
    sweep: Option<PathBuf>,
    /// The definition of a report that is rendered, kept and mailed.
    #[arg(long, value_name = "FILE", conflicts_with = "sweep")]
    report: Option<PathBuf>,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args, Debug)]
struct NameArgs {
    /// The schedule.
    name: String,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

/// See [`Args`].
pub(super) async fn run(args: &Args, config: &Config) -> anyhow::Result<Outcome> {
    match &args.action {
        Verb::Add(args) => return add(args, config).await,
        Verb::List { json } => {
            let pool = database::open(config, 1).await?;
            list(&schedule::list(&pool, None).await?, *json)?;
        }
        Verb::Remove(args) => {
            let pool = database::open(config, 1).await?;
            let found = schedule::find(&pool, &args.name).await?;
            schedule::remove(&pool, found.id).await?;
            done(args, "removed", None)?;
        }
        Verb::Pause(args) => set(args, Firing::Paused, config).await?,
        Verb::Resume(args) => set(args, Firing::On, config).await?,
        Verb::Fire(args) => {
            let pool = database::open(config, 1).await?;
            let found = schedule::find(&pool, &args.name).await?;
            let due_at = timestamp(schedule::fire(&pool, found.id).await?)?;
            done(args, "due now: the next free worker takes it", Some(due_at))?;
        }
        Verb::Next { name, n, json } => next(name, usize::from(*n), *json, config).await?,
        Verb::History { name, limit, json } => {
            let pool = database::open(config, 1).await?;
            history(&schedule::history(&pool, name.as_deref(), i64::from(*limit)).await?, *json)?;
        }
    }
    Ok(Outcome::Done)
}

async fn add(args: &AddArgs, config: &Config) -> anyhow::Result<Outcome> {
    let calendar = match check_name(&args.name).and_then(|()| Calendar::parse(&args.cron, &args.tz)) {
        Ok(calendar) => calendar,
        Err(error) => {
            eprintln!("error: {error:#}");
            return Ok(Outcome::Misused);
        }
    };
    let Some(action) = action(args, config)? else { return Ok(Outcome::Misused) };
    let pool = database::open(config, 1).await?;
    let new = New { name: &args.name, cron: &args.cron, zone: &args.tz, missed: args.missed, action: &action };
    let due_at = timestamp(schedule::add(&pool, &new).await?)?;
    if args.json {
        say_json(&serde_json::json!({ "schedule": args.name, "due_at": due_at.to_string() }))?;
    } else {
        say(format_args!("{}: {}", args.name, calendar.describe()));
        say(format_args!("  first    {}", calendar.local(due_at)));
        say(format_args!("  missed   {}", args.missed.word()));
    }
    Ok(Outcome::Done)
}

/// What the schedule is to do; none if the file has mistakes, which have been printed then.
fn action(args: &AddArgs, config: &Config) -> anyhow::Result<Option<Action>> {
    let words =
        |path: &Path| path.to_str().map(str::to_owned).with_context(|| format!("{} is not UTF-8", path.display()));
    let whole = |path: &Path| path.canonicalize().with_context(|| format!("find {}", path.display()));
    if let Some(path) = &args.report {
        let Some((definition, text)) = super::report::load(path)? else { return Ok(None) };
        if let Some(mail) = &definition.mail {
            sender(mail.from.as_ref(), config).context("the report could not be mailed")?;
        }
        return Ok(Some(Action::Report { file: words(&whole(path)?)?, text }));
    }
    let path = args.sweep.as_deref().context("there is no file")?;
    let Some(loaded) = load(path)? else { return Ok(None) };
    Ok(Some(Action::Enqueue { file: words(&whole(path)?)?, base: words(&loaded.base)?, text: loaded.text }))
}

fn check_name(name: &str) -> anyhow::Result<()> {
    let is_plain = |it: char| it.is_alphanumeric() || "-_.".contains(it);
    anyhow::ensure!(
        !name.is_empty() && name.chars().count() <= 100 && name.chars().all(is_plain),
        "`{}` is no name for a schedule: letters, digits, `-`, `_` and `.`, at most 100 of them",
        plain(name)
    );
    Ok(())
}

async fn set(args: &NameArgs, firing: Firing, config: &Config) -> anyhow::Result<()> {
    let pool = database::open(config, 1).await?;
    let found = schedule::find(&pool, &args.name).await?;
    schedule::set_firing(&pool, found.id, firing).await?;
    done(args, if firing == Firing::Paused { "paused" } else { "resumed" }, None)
}

fn done(args: &NameArgs, what: &str, due_at: Option<jiff::Timestamp>) -> anyhow::Result<()> {
    if args.json {
        let due_at = due_at.map(|it| it.to_string());
        return say_json(&serde_json::json!({ "schedule": args.name, "is": what, "due_at": due_at }));
    }
    say(format_args!("{}: {what}", args.name));
    Ok(())
}

async fn next(name: &str, n: usize, json: bool, config: &Config) -> anyhow::Result<()> {
    let pool = database::open(config, 1).await?;
    let found = schedule::find(&pool, name).await?;
    let calendar = found.calendar()?;
    let mut last = timestamp(schedule::clock(&pool).await?)?;
    let mut times = Vec::new();
    while times.len() < n
        && let Some(next) = calendar.next(last)
    {
        times.push(next);
        last = next;
    }
    if json {
        let texts: Vec<String> = times.iter().map(ToString::to_string).collect();
        return say_json(&serde_json::json!({ "schedule": found.name, "paused": found.paused, "next": texts }));
    }
    for at in times {
        say(calendar.local(at));
    }
    if found.paused {
        say("(it is paused)");
    }
    Ok(())
}

fn list(schedules: &[Schedule], json: bool) -> anyhow::Result<()> {
    if json {
        return say_json(&schedules);
    }
    if schedules.is_empty() {
        say("there is no schedule; `jobctl schedule add` makes one");
        return Ok(());
    }
    let mut rows = table(&["SCHEDULE", "CRON", "ZONE", "NEXT", "LAST", "CAME TO"]);
    for it in schedules {
        let local = |at| anyhow::Ok(it.calendar()?.local(timestamp(at)?));
        let show =
            |at: Option<_>| at.map_or_else(|| "-".to_owned(), |at| local(at).unwrap_or_else(|error| error.to_string()));
        rows.add_row([
            it.name.clone(),
            plain(&it.cron),
            plain(&it.zone),
            if it.paused { "paused".to_owned() } else { show(it.due_at) },
            show(it.last_due_at),
            plain(&came_to(it.last_state.as_deref(), it.last_error.as_deref(), it.last_result.as_ref())),
        ]);
    }
    say(rows);
    Ok(())
}

fn history(firings: &[Fired], json: bool) -> anyhow::Result<()> {
    if json {
        return firings.iter().try_for_each(say_json);
    }
    let mut rows = table(&["SCHEDULE", "DUE", "BY", "MISSED BEFORE", "TRIES", "ON", "CAME TO"]);
    for it in firings {
        rows.add_row([
            plain(&it.schedule),
            timestamp(it.due_at)?.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
            if it.by_hand { "hand" } else { "clock" }.to_owned(),
            it.n_missed.to_string(),
            it.n_attempts.to_string(),
            plain(it.host.as_deref().unwrap_or("-")),
            plain(&came_to(Some(&it.state), it.error.as_deref(), it.result.as_ref())),
        ]);
    }
    say(rows);
    Ok(())
}

/// A firing's end in some words.
fn came_to(state: Option<&str>, error: Option<&str>, result: Option<&serde_json::Value>) -> String {
    let Some(state) = state else { return "-".to_owned() };
    if let (Some(result), "done") = (result, state) {
        if let (Some(report), Some(verdict)) = (result["report"].as_str(), result["verdict"].as_str()) {
            let mail = if result["mail"].is_null() { ", no mail" } else { "" };
            return format!("{report}: {verdict}{mail}");
        }
        let sweep = result["sweep"].as_str().unwrap_or("?");
        let new = result["new"].as_object();
        let n_new: u64 = new.into_iter().flat_map(|it| it.values()).filter_map(serde_json::Value::as_u64).sum();
        return if n_new == 0 { format!("{sweep}: nothing new") } else { format!("{sweep}: {n_new} new jobs") };
    }
    match error {
        Some(error) => format!("{state}: {}", error.lines().next().unwrap_or_default()),
        None => state.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{came_to, check_name};
    use crate::queue::calendar::{moment, timestamp};

    #[test]
    fn a_firing_says_what_it_came_to() {
        let result = serde_json::json!({ "sweep": "demo-1", "new": { "evaluate": 3, "pool": 1 } });
        assert_eq!(came_to(Some("done"), None, Some(&result)), "demo-1: 4 new jobs");
        let result = serde_json::json!({ "sweep": "demo-1", "new": {} });
        assert_eq!(came_to(Some("done"), None, Some(&result)), "demo-1: nothing new");
        let result = serde_json::json!({ "report": "nightly", "verdict": "1 regression", "mail": "018f" });
        assert_eq!(came_to(Some("done"), None, Some(&result)), "nightly: 1 regression");
        let result = serde_json::json!({ "report": "nightly", "verdict": "first night", "mail": null });
        assert_eq!(came_to(Some("done"), None, Some(&result)), "nightly: first night, no mail");
        assert_eq!(came_to(Some("due"), Some("no disk\nat all"), None), "due: no disk");
        assert_eq!(came_to(None, None, None), "-");
    }

    #[test]
    fn names_hold_nothing_that_a_terminal_obeys() {
        assert!(check_name("nightly-2.Ünder_way").is_ok());
        for name in ["", "a b", "a\u{1b}[2J", "../x"] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn moments_survive_the_way_there_and_back() {
        let at = jiff::Timestamp::from_nanosecond(1_793_512_345_678_901_000).unwrap();
        assert_eq!(timestamp(moment(at).unwrap()).unwrap(), at);
    }
}
