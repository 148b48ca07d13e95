//! `jobctl db check`: whether what must hold of the database and the store holds.

use sqlx::PgPool;

use crate::cli::Outcome;
use crate::cli::lines::{plain, say, say_json};
use crate::config::Config;
use crate::database;
use crate::store::artifact::Artifacts;
use crate::store::check::{CHECKS, Finding, check};
use crate::store::sweep_up::look_over;

/// Check what must hold of the database and the store. Changes nothing; status 1 if anything is broken.
///
/// Example: jobctl db check --deep
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Read every artifact and compare its hash.
    #[arg(long, conflicts_with = "no_store")]
    deep: bool,
    /// Leave the store aside.
    #[arg(long)]
    no_store: bool,
    /// Answer in JSON, a line for each broken law.
    #[arg(long)]
    json: bool,
}

/// See [`Args`].
pub(super) async fn run(args: &Args, config: &Config) -> anyhow::Result<Outcome> {
    let pool = database::open(config, 2).await?;
    let mut findings = check(&pool).await?;
    let mut n_checks = CHECKS.len();
    let mut n_strays = 0;
    if !args.no_store {
        let artifacts = Artifacts::open(&config.store)?;
        let (lost, n) = store(&pool, &artifacts, args.deep).await?;
        findings.extend(lost);
        (n_checks, n_strays) = (n_checks + 1, n);
    }
    if args.json {
        findings.iter().try_for_each(say_json)?;
    } else {
        for it in &findings {
            tell(it);
        }
        let n = findings.len();
        if n == 0 {
            say(format_args!("{n_checks} laws hold"));
        } else {
            say(format_args!("{n} of {n_checks} laws are broken"));
        }
        if n_strays > 0 {
            say(format_args!(
                "{n_strays} files in the store are no artifact's (yet): `jobctl db prune` sweeps up old ones"
            ));
        }
    }
    Ok(if findings.is_empty() { Outcome::Done } else { Outcome::Failed })
}

async fn store(pool: &PgPool, artifacts: &Artifacts, deep: bool) -> anyhow::Result<(Option<Finding>, usize)> {
    let found = look_over(pool, artifacts, deep).await?;
    let lost = (!found.lost.is_empty()).then(|| {
        Finding::of(
            "store",
            "every artifact is in the store, whole",
            "a file is missing or damaged: jobs and reports that need it cannot read it",
            "nothing: a job that needs it has it made again; `jobctl retry` the job that made it does so now",
            &found.lost,
        )
    });
    Ok((lost, found.strays.len()))
}

fn tell(it: &Finding) {
    say(format_args!("broken: {} [{}]", it.law, it.check));
    for finding in &it.first {
        say(format_args!("  {}", plain(finding)));
    }
    if usize::try_from(it.n).is_ok_and(|n| n > it.first.len()) {
        say(format_args!("  … {} in all", it.n));
    }
    say(format_args!("  means: {}", it.means));
    say(format_args!("  mend:  {}", it.mend));
}
