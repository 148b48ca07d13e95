//! `jobctl judge`: what asking machines will cost, and batch files for those who cannot ask from the cluster.

mod export;
mod import;

use std::collections::HashSet;
use std::path::PathBuf;

use serde::Serialize;

use super::Outcome;
use super::enqueue::{Ask, Confirm, enqueue, load};
use super::lines::{plain, say, say_json, table};
use crate::config::Config;
use crate::database;
use crate::job::Hash;
use crate::judge::cost::{PictureTokens, Prices, Tokens};
use crate::plan::Plan;
use crate::store::asking::Spending;

/// Estimate what judges and captioners will cost, or ask them through batch files.
///
/// Workers ask by themselves if JOBCTL_OPENAI_KEY (or OPENAI_API_KEY) or JOBCTL_OPENAI_URL is set for them.
///
/// Examples: jobctl judge estimate jobs/judge.toml, jobctl judge export judge --out requests.jsonl,
/// jobctl judge import results.jsonl
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand, Debug)]
enum Verb {
    Estimate(EstimateArgs),
    Export(export::Args),
    Import(import::Args),
}

/// Say how many requests a sweep would make, how many tokens they take and what they cost, and enqueue nothing.
///
/// Example: jobctl judge estimate jobs/judge.toml
#[derive(clap::Args, Debug)]
struct EstimateArgs {
    /// The sweep file.
    sweep: PathBuf,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

/// See [`Args`].
pub(super) async fn run(args: &Args, config: &Config) -> anyhow::Result<Outcome> {
    match &args.verb {
        Verb::Estimate(args) => estimate(args, config).await,
        Verb::Export(args) => export::run(args, config).await,
        Verb::Import(args) => import::run(args, config).await,
    }
}

async fn estimate(args: &EstimateArgs, config: &Config) -> anyhow::Result<Outcome> {
    let Some(sweep) = load(&args.sweep)? else { return Ok(Outcome::Misused) };
    let pool = database::open(config, 2).await?;
    let ask = Ask { confirm: Confirm::Assume, own: None, dry_run: true, upload: None, firing: None };
    let Some(summary) = enqueue(&pool, sweep, &ask).await? else { return Ok(Outcome::Misused) };
    if args.json {
        say_json(&summary.asking)?;
    } else if summary.asking.iter().all(|it| it.requests == 0) {
        say("it has nothing new to ask");
    } else {
        tell_estimates(&summary.asking);
    }
    Ok(Outcome::Done)
}

/// What the new requests of a block are likely to take.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Estimate {
    /// The block's name.
    pub name: String,
    /// `judge` or `caption`.
    pub kind: &'static str,
    /// Who is asked.
    pub model: String,
    /// How many requests, if every answer can be understood.
    pub requests: usize,
    /// Tokens that are read.
    pub tokens_in: u64,
    /// Tokens that are written.
    pub tokens_out: u64,
    /// US dollars; none where nobody knows the prices.
    pub cost: Option<f64>,
    /// US dollars if all of it is asked in batch files.
    pub batch_cost: Option<f64>,
    /// US dollars for 10^6 tokens.
    pub prices: Option<Prices>,
    /// Whether the prices are those of our own table, not the sweep's.
    pub prices_assumed: bool,
    /// The tokens that a picture counts as.
    pub picture_tokens: PictureTokens,
    /// Whether neither the sweep nor our own table says so.
    pub picture_tokens_assumed: bool,
    /// US dollars that it may cost.
    pub budget: Option<f64>,
}

/// What the requests of a plan's new jobs are likely to take, by block. A job that two blocks want is the first one's.
pub(super) fn estimates(plan: &Plan, is_new: &[bool]) -> Vec<Estimate> {
    let mut new: HashSet<Hash> = plan.jobs.iter().zip(is_new).filter(|it| *it.1).map(|it| it.0.key).collect();
    let of_block = |block: &crate::plan::Asking| {
        let fresh: Vec<Tokens> = block.requests.iter().filter(|it| new.remove(&it.0)).map(|it| it.1).collect();
        let sum = |of: fn(&Tokens) -> u32| fresh.iter().map(|it| u64::from(of(it))).sum();
        let cost: Option<f64> = block.prices.map(|prices| fresh.iter().map(|it| prices.of(*it)).sum());
        Estimate {
            name: block.name.clone(),
            kind: block.kind,
            model: block.model.clone(),
            requests: fresh.len(),
            tokens_in: sum(|it| it.input),
            tokens_out: sum(|it| it.output),
            cost,
            batch_cost: cost.map(|it| it * block.batch),
            prices: block.prices,
            prices_assumed: block.assumed,
            picture_tokens: block.pictures,
            picture_tokens_assumed: block.pictures_assumed,
            budget: block.budget,
        }
    };
    plan.asking.iter().map(of_block).collect()
}

/// Prints estimates; nothing where there are none.
pub(super) fn tell_estimates(estimates: &[Estimate]) {
    for it in estimates.iter().filter(|it| it.requests > 0) {
        let cost = it.cost.map_or_else(|| "of unknown price".to_owned(), |it| format!("about {}", dollars(it)));
        say(format_args!(
            "  asks     {} `{}`: {} requests to {}, {} tokens read and {} written, {cost}",
            it.kind,
            plain(&it.name),
            it.requests,
            plain(&it.model),
            it.tokens_in,
            it.tokens_out
        ));
        if let Some(batch) = it.batch_cost.filter(|batch| Some(*batch) != it.cost) {
            say(format_args!("           in batch files about {}", dollars(batch)));
        }
        if let Some(prices) = it.prices.filter(|_| it.prices_assumed) {
            say(format_args!(
                "           assumed: {} and {} for 10^6 tokens read and written; `prices` says otherwise",
                dollars(prices.input),
                dollars(prices.output)
            ));
        }
        if it.picture_tokens_assumed {
            let PictureTokens { base, tile } = it.picture_tokens;
            say(format_args!(
                "           assumed: {base} tokens a picture and {tile} more a tile, as GPT-4o; `picture_tokens` says otherwise"
            ));
        }
        if let (Some(cost), Some(budget)) = (it.cost, it.budget)
            && cost > budget
        {
            say(format_args!("           its budget of {} will not last", dollars(budget)));
        }
    }
}

/// Prints what blocks have spent; nothing where there are none.
pub(super) fn tell_spending(spending: &[Spending]) {
    if spending.is_empty() {
        return;
    }
    let head = ["ASKED BY", "BLOCK", "MODEL", "ANSWERS", "AGAIN", "LOST", "REFUSED", "TOKENS", "SPENT", "BUDGET"];
    let mut rows = table(&head);
    for it in spending {
        rows.add_row([
            plain(&it.sweep),
            plain(&it.name),
            plain(&it.model),
            it.answered.to_string(),
            it.again.to_string(),
            it.lost.to_string(),
            it.refused.to_string(),
            (it.tokens_in + it.tokens_out).to_string(),
            dollars(it.spent),
            it.budget.map_or_else(|| "none".to_owned(), dollars),
        ]);
    }
    say(format_args!("\n{rows}"));
}

fn dollars(it: f64) -> String {
    if it > 0.0 && it < 0.995 { format!("${it:.4}") } else { format!("${it:.2}") }
}
