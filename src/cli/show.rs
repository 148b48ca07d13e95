//! `jobctl show`: everything known of one job.

use super::Outcome;
use super::lines::{plain, say, say_json, table};
use crate::config::Config;
use crate::database;
use crate::job::JobId;
use crate::queue::{look, why};
use crate::store::training;

/// Show everything known of a job: its task, its place in the graph, every attempt.
///
/// Example: jobctl show 17
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The job's number.
    job: i64,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

/// See [`Args`].
pub(super) async fn run(args: &Args, config: &Config) -> anyhow::Result<Outcome> {
    let pool = database::open(config, 4).await?;
    let mut whole = look::show(&pool, JobId(args.job)).await?;
    whole.job.waits_for = why::why(&pool, JobId(args.job), config.times.stale).await?.map(|it| it.words);
    let curves = training::latest(&pool, JobId(args.job)).await?;
    if args.json {
        let mut value = serde_json::to_value(&whole)?;
        if let (Some(value), false) = (value.as_object_mut(), curves.is_empty()) {
            value.insert("curves".to_owned(), serde_json::to_value(&curves)?);
        }
        say_json(&value)?;
        return Ok(Outcome::Done);
    }
    let job = &whole.job;
    say(format_args!("job       {} ({})", job.job, job.kind));
    say(format_args!("state     {}", job.state));
    for (name, text) in
        [("source", &job.source), ("sample", &job.sample), ("waits", &job.waits_for), ("error", &job.error)]
    {
        if let Some(text) = text {
            say(format_args!("{name:<9} {}", plain(text)));
        }
    }
    say(format_args!("sweeps    {}", plain(&whole.sweeps.join(", "))));
    for (name, jobs) in [("parents", &whole.parents), ("children", &whole.children)] {
        if !jobs.is_empty() {
            let shown: Vec<String> = jobs.iter().take(20).map(ToString::to_string).collect();
            let more = if jobs.len() > 20 { format!(" and {} more", jobs.len() - 20) } else { String::new() };
            say(format_args!("{name:<9} {}{more}", shown.join(" ")));
        }
    }
    for it in &curves {
        let value = it.value.map_or_else(|| "not finite".to_owned(), |it| format!("{it:.6}"));
        say(format_args!("curve     {} {value} after step {}", plain(&it.name), it.step));
    }
    say(format_args!("task      {}", plain(&serde_json::to_string_pretty(&whole.task)?)));
    if !whole.attempts.is_empty() {
        let mut rows = table(&["TRY", "LEASE", "HOST", "SLOT", "SECONDS", "OUTCOME", "CAUSE", ""]);
        for it in &whole.attempts {
            rows.add_row([
                it.number.to_string(),
                it.lease.to_string(),
                plain(&it.host),
                plain(&it.slot),
                format!("{:.1}", it.seconds),
                it.outcome.clone().unwrap_or_else(|| "running".to_owned()),
                it.cause.clone().unwrap_or_default(),
                plain(it.error.as_deref().unwrap_or_default()),
            ]);
        }
        say(rows);
    }
    Ok(Outcome::Done)
}
