//! `jobctl status`: sweeps with their jobs by state, and the workers that live.

use super::Outcome;
use super::lines::{plain, say, say_json, table};
use crate::config::Config;
use crate::database;
use crate::job::State;
use crate::queue::why::{Why, waits};
use crate::queue::{devices, limit, look};
use crate::store::asking::spending;
use crate::store::training::{self, Live};

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
    let gpus = devices::gpus(&pool).await?;
    let underway = devices::underway(&pool, sweep).await?;
    let training = training::live(&pool, sweep).await?;
    let waits = waits(&pool, sweep, config.times.stale).await?;
    let limits = limit::list(&pool).await?;
    let asking = spending(&pool, sweep, None).await?;
    let mut tx = pool.begin().await?;
    let n_for_cuda = devices::n_for_cuda(&mut tx, sweep).await?;
    let has_cuda = devices::has_cuda(&mut tx, config.times.stale).await?;
    tx.rollback().await?;
    if args.json {
        let value = serde_json::json!({
            "sweeps": sweeps, "workers": workers, "underway": underway, "need_cuda": n_for_cuda, "has_cuda": has_cuda,
            "gpus": gpus, "waits": waits, "limits": limits, "asking": asking,
            "training": training,
        });
        say_json(&value)?;
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
    if !waits.is_empty() {
        say("");
    }
    for wait in &waits {
        say(plain(&wait.words));
        if wait.why == Why::Unmatched && n_for_cuda > 0 && !has_cuda {
            say(
                "  start `jobctl worker` on a machine with a GPU; `dtype = \"f32\"` in a sweep runs on processors, if nothing \
                 else asks for a GPU",
            );
        }
    }
    if !underway.is_empty() {
        let mut rows = table(&["JOB", "KIND", "STEP", "FOR", "SLOT"]);
        for it in underway {
            let step = |key: &str| it.progress.get(key).and_then(serde_json::Value::as_u64).unwrap_or(0);
            rows.add_row([
                it.job.to_string(),
                plain(&it.kind),
                format!("{} of {}", step("done"), step("of")),
                format!("{:.0} s", it.seconds),
                plain(&format!("{} {}", it.host, it.slot)),
            ]);
        }
        say(format_args!("\n{rows}"));
    }
    for it in &training {
        say(told(it));
    }
    super::judge::tell_spending(&asking);
    if workers.is_empty() {
        say("\nno worker is alive; start one with `jobctl worker`");
        return Ok(Outcome::Done);
    }
    let mut rows = table(&["WORKER", "PID", "RUNS", "SLOTS", "GPUS", "LABELS", "LAST BEAT", "MACHINE"]);
    for it in &workers {
        rows.add_row([
            plain(&it.host),
            it.pid.to_string(),
            it.n_running.to_string(),
            it.n_slots.to_string(),
            gpus.iter().filter(|gpu| gpu.worker == it.id).count().to_string(),
            plain(&it.labels.join(" ")),
            format!("{:.0} s ago", it.silent_s),
            plain(&it.machine),
        ]);
    }
    say(format_args!("\n{rows}"));
    if !gpus.is_empty() {
        let mut rows = table(&["WORKER", "SLOT", "GPU", "MODEL", "MEMORY", "IN USE"]);
        for it in &gpus {
            rows.add_row([
                plain(&it.host),
                plain(&it.slot),
                plain(&it.device),
                plain(&it.model),
                if it.memory_gib > 0 { format!("{} GiB", it.memory_gib) } else { "unknown".to_owned() },
                it.used_mib.map_or_else(|| "unknown".to_owned(), |mib| format!("{:.1} GiB", f64::from(mib) / 1024.0)),
            ]);
        }
        say(format_args!("\n{rows}"));
    }
    Ok(Outcome::Done)
}

/// How a model that is being trained stands, in a line.
fn told(it: &Live) -> String {
    let mut said = vec![format!("job {} trains {}", it.job, plain(&it.model))];
    match (it.loss, it.step) {
        (Some(loss), Some(step)) => said.push(format!("loss {loss:.5} after step {step}")),
        _ => said.push("no step is done yet".to_owned()),
    }
    said.extend(it.images_per_s.map(|it| format!("{it:.2} images a second")));
    said.extend(it.held_out.map(|it| format!("held-out loss {it:.5}")));
    said.join(", ")
}
