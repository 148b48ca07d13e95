//! `jobctl labels agreement`: how far raters agree.

use crate::cli::Outcome;
use crate::cli::lines::{plain, right, say, say_json, table};
use crate::config::Config;
use crate::database;
use crate::labels::agreement::{Agreement, agreement, counted};
use crate::labels::{Rating, Verdict};
use crate::queue::look;
use crate::stats::bootstrap::Bootstrap;
use crate::stats::{Defined, Interval};
use crate::store::labels;

/// Show how far raters agree, aspect by aspect: Krippendorff's α, Fleiss' and Cohen's κ, attention checks.
///
/// Example: jobctl labels agreement --sweep demo
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Only labels of this sweep's pictures.
    #[arg(long)]
    sweep: Option<String>,
    /// Leave out raters who failed more than half of their attention checks, and those whom the screening of BT.500 rejects.
    #[arg(long)]
    screen: bool,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &Args, config: &Config) -> anyhow::Result<Outcome> {
    let pool = database::open(config, 1).await?;
    let labels = match &args.sweep {
        Some(word) => labels::of_sweep(&pool, look::find_sweep(&pool, word).await?.0, None).await?,
        None => labels::all(&pool).await?,
    };
    let mut ratings: Vec<Rating> = labels.ratings.into_iter().map(|it| it.label).collect();
    let verdicts: Vec<Verdict> = labels.verdicts.into_iter().map(|it| it.label).collect();
    if args.screen {
        let checks = ratings.iter().filter(|it| it.attention.is_some()).cloned();
        ratings = counted(&ratings, &verdicts, true).into_iter().cloned().chain(checks).collect();
    }
    let found = agreement(&ratings, &verdicts, &Bootstrap::default());
    if args.json {
        say_json(&found)?;
    } else {
        show(&found);
    }
    Ok(Outcome::Done)
}

fn show(found: &Agreement) {
    if found.ratings.is_empty() && found.choices.is_empty() {
        say("there are no labels; `jobctl labels import` brings them in");
        return;
    }
    if !found.ratings.is_empty() {
        let mut rows =
            table(&["RATINGS OF", "BY", "N", "PICTURES", "RATERS", "α ORDINAL", "α INTERVAL", "SCREENED OUT"]);
        for it in &found.ratings {
            let screened: Vec<String> = it.screened.iter().map(|it| plain(&it.rater)).collect();
            let screened = if screened.is_empty() { "nobody".to_owned() } else { screened.join(", ") };
            let counts = [it.n, it.n_pictures, it.n_raters].map(|it| it.to_string());
            let cells = [plain(&it.aspect), it.judge.word().to_owned()].into_iter().chain(counts);
            let alphas = [with_interval(&it.alpha_ordinal, it.interval), number(&it.alpha_interval), screened];
            rows.add_row(cells.chain(alphas).map(right));
        }
        say(rows);
    }
    if !found.choices.is_empty() {
        let mut rows = table(&["CHOICES ON", "BY", "N", "PAIRS", "RATERS", "α NOMINAL", "FLEISS κ"]);
        for it in &found.choices {
            let counts = [it.n, it.n_pairs, it.n_raters].map(|it| it.to_string());
            let cells = [plain(&it.aspect), it.judge.word().to_owned()].into_iter().chain(counts);
            rows.add_row(cells.chain([with_interval(&it.alpha, it.interval), number(&it.kappa)]).map(right));
        }
        say(rows);
    }
    if !found.human_machine.is_empty() {
        let mut rows = table(&["PEOPLE AND", "ON", "PAIRS", "AGREE", "COHEN κ"]);
        for it in &found.human_machine {
            let cells = [plain(&it.machine), plain(&it.aspect), it.n.to_string(), number(&it.agree), number(&it.kappa)];
            rows.add_row(cells.map(right));
        }
        say(rows);
    }
    for it in &found.attention {
        say(format_args!("attention checks of {}: {} passed, {} failed", plain(&it.rater), it.passed, it.failed));
    }
}

fn number(value: &Defined) -> String {
    match value {
        Ok(value) => format!("{value:.3}"),
        Err(why) => why.to_string(),
    }
}

fn with_interval(value: &Defined, interval: Option<Interval>) -> String {
    let interval = interval.map_or_else(String::new, |it| format!(" [{:.3}, {:.3}]", it.low, it.high));
    number(value) + &interval
}
