//! `jobctl status`: sweeps with their jobs by state, and the workers that live.

use super::Outcome;
use super::lines::{plain, say, say_json, table};
use crate::config::Config;
use crate::database;
use crate::job::State;
use crate::queue::look;

/// Show the sweeps, their jobs by state, and the workers.
///
/// Example: jobctl status demo
#[derive(clap::Args, Debug)]
pub struct Args {
    /// One sweep: its id, the beginning of it, or its name.
    sweep: Option<String>,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

/// See [`Args`].
pub(super) async fn run(args: &Args, config: &Config) -> anyhow::Result<Outcome> {
    let pool = database::open(config, 4).await?;
    let sweep = match &args.sweep {
        Some(word) => Some(look::find_sweep(&pool, word).await?.0),
        None => None,
    };
    let sweeps = look::sweeps(&pool, sweep).await?;
    let workers = look::workers(&pool).await?;
    if args.json {
        say_json(&serde_json::json!({ "sweeps": sweeps, "workers": workers }))?;
        return Ok(Outcome::Done);
    }
    if sweeps.is_empty() {
        say("no sweep has been enqueued yet; try `jobctl run jobs/demo.toml`");
    } else {
        let mut rows =
            table(&["SWEEP", "STATE", "WAITING", "READY", "RUNNING", "DONE", "FAILED", "CANCELLED", "SKIPPED"]);
        for sweep in sweeps {
            let n = |word: &str| sweep.jobs.get(word).and_then(serde_json::Value::as_u64).unwrap_or(0);
            let mut row = vec![plain(&sweep.sweep), sweep.state.clone()];
            for state in State::ALL {
                let held = if state == State::Ready { n("held") } else { 0 };
                row.push((n(state.word()) + held).to_string());
            }
            rows.add_row(row);
        }
        say(rows);
    }
    if workers.is_empty() {
        say("\nno worker is alive; start one with `jobctl worker`");
    } else {
        let mut rows = table(&["WORKER", "PID", "RUNS", "SLOTS", "LAST BEAT", "MACHINE"]);
        for it in workers {
            rows.add_row([
                plain(&it.host),
                it.pid.to_string(),
                it.n_running.to_string(),
                it.n_slots.to_string(),
                format!("{:.0} s ago", it.silent_s),
                plain(&it.machine),
            ]);
        }
        say(format_args!("\n{rows}"));
    }
    Ok(Outcome::Done)
}
