//! `jobctl report`: renders what a sweep has found, or what a definition asks for, now or at a past time.

pub mod night;

use std::path::{Path, PathBuf};

use sqlx::PgPool;

use self::night::{Wanted, moment, tell};
use super::Outcome;
use super::lines::{plain, say, say_json};
use crate::config::Config;
use crate::database;
use crate::job::Hash;
use crate::queue::{look, schedule};
use crate::report::definition::Definition;
use crate::report::{self, Written};
use crate::store::artifact::Artifacts;
use crate::store::nights;
use crate::store::read::findings_at;

/// Render the report of a sweep, ended or not; or the one that a definition asks for, now or at a past time.
///
/// Example: jobctl report demo; jobctl report reports/nightly.toml --at 2026-11-22
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The sweep: its id, the beginning of it, or its name; or a definition: a file that ends in .toml.
    what: String,
    /// As it was then: 2026-11-22T07:00:00Z, "2026-11-22 07:00" (UTC), 2026-11-22 (its end), or 3days (ago).
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Keep the night of a definition: later ones are compared with it if it is good.
    #[arg(long)]
    keep: bool,
    /// Keep it, and mail it as the definition says.
    #[arg(long)]
    mail: bool,
    /// Take the last night that was kept as good, whatever was found: later ones are compared with it. Renders nothing.
    #[arg(long, conflicts_with_all = ["at", "keep", "mail", "out"])]
    accept: bool,
    /// The folder to write to; the default is $JOBCTL_HOME/reports/ID, of a definition $JOBCTL_HOME/reports/NAME/TIME.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

/// See [`Args`].
pub(super) async fn run(args: &Args, config: &Config) -> anyhow::Result<Outcome> {
    if Path::new(&args.what).extension().is_some_and(|it| it == "toml") {
        return by_definition(args, config).await;
    }
    if args.keep || args.mail || args.accept {
        eprintln!("error: --keep, --mail and --accept are about a definition, a file that ends in .toml");
        return Ok(Outcome::Misused);
    }
    let pool = database::open(config, 4).await?;
    let (sweep, slug) = look::find_sweep(&pool, &args.what).await?;
    let Some(at) = past(&pool, args.at.as_deref()).await? else { return Ok(Outcome::Misused) };
    let at = args.at.as_ref().map(|_| at);
    let written = render_at(&pool, config, sweep, args.out.as_deref(), at).await?;
    if args.json {
        say_json(&serde_json::json!({ "sweep": slug, "report": written.html, "json": written.json }))?;
    } else {
        say(written.html.display());
    }
    Ok(Outcome::Done)
}

/// The moment that `--at` means, by the database's clock; none if it means none, which has been said then.
async fn past(pool: &PgPool, at: Option<&str>) -> anyhow::Result<Option<time::OffsetDateTime>> {
    let now = schedule::clock(pool).await?;
    match at.map_or(Ok(now), |it| moment(it, now)) {
        Ok(at) => Ok(Some(at)),
        Err(error) => {
            eprintln!("error: {error:#}");
            Ok(None)
        }
    }
}

/// Reads a definition; none if it has mistakes, which have been printed then.
///
/// # Errors
/// The file cannot be read.
pub fn load(path: &Path) -> anyhow::Result<Option<(Definition, String)>> {
    let Some(text) = super::named::text_of(path, "report", "reports/")? else { return Ok(None) };
    match Definition::parse(&text, &path.display().to_string()) {
        Ok(definition) => Ok(Some((definition, text))),
        Err(faults) => {
            super::named::print(&faults);
            Ok(None)
        }
    }
}

async fn by_definition(args: &Args, config: &Config) -> anyhow::Result<Outcome> {
    let Some((definition, text)) = load(Path::new(&args.what))? else { return Ok(Outcome::Misused) };
    if args.mail && definition.mail.is_none() {
        eprintln!("error: {} has no [mail]", args.what);
        return Ok(Outcome::Misused);
    }
    let pool = database::open(config, 4).await?;
    if args.accept {
        let run = nights::accept(&pool, &definition.name).await?;
        if args.json {
            say_json(&serde_json::json!({ "report": definition.name, "run": run.id, "at": run.at.to_string() }))?;
        } else {
            say(format_args!("{}: later nights are compared with that of {}", definition.name, run.at));
        }
        return Ok(Outcome::Done);
    }
    let Some(at) = past(&pool, args.at.as_deref()).await? else { return Ok(Outcome::Misused) };
    let told = tell(&pool, definition, text, at).await?;
    let rendered = told.render(&pool, config, args.out.as_deref()).await?;
    let done = if args.keep || args.mail {
        let wanted = if args.mail { Wanted::Mail } else { Wanted::Nothing };
        Some(told.keep(&pool, config, &rendered, wanted, None).await?)
    } else {
        None
    };
    let mail = done.as_ref().and_then(|it| it.mail.as_deref());
    if args.json {
        say_json(&serde_json::json!({
            "report": told.definition.name, "at": told.found.at, "verdict": told.found.verdict(), "good": told.found.good,
            "html": rendered.page.html, "json": rendered.page.json, "summary": rendered.summary, "text": rendered.text,
            "found": rendered.found, "run": done.as_ref().map(|it| it.run), "mail": mail,
        }))?;
        return Ok(Outcome::Done);
    }
    say(format_args!("{}: {}", plain(&told.found.title), plain(&told.found.verdict())));
    say(rendered.page.html.display());
    say(rendered.summary.display());
    match (mail, args.mail) {
        (Some(mail), _) => say(format_args!("mail {mail} is in the outbox: a worker sends it, or `jobctl mail send`")),
        (None, true) => say("no mail: the definition asks for one on regressions alone"),
        (None, false) => {}
    }
    Ok(Outcome::Done)
}

/// Renders the report of a sweep into `out`, or where reports are.
pub(super) async fn render(pool: &PgPool, config: &Config, sweep: i32, out: Option<&Path>) -> anyhow::Result<Written> {
    render_at(pool, config, sweep, out, None).await
}

async fn render_at(
    pool: &PgPool,
    config: &Config,
    sweep: i32,
    out: Option<&Path>,
    at: Option<time::OffsetDateTime>,
) -> anyhow::Result<Written> {
    let artifacts = Artifacts::open(&config.store)?;
    let findings = findings_at(pool, &artifacts, sweep, at).await?;
    let folder = out.map_or_else(|| config.reports().join(&findings.sweep), Path::to_path_buf);
    let files = Library { artifacts, runtime: tokio::runtime::Handle::current() };
    let write = move || report::write_from(&findings, &folder, &report::Options::default(), &files);
    tokio::task::spawn_blocking(write).await?
}

/// Pictures on this machine's disks, and artifacts wherever they are.
pub(super) struct Library {
    pub(super) artifacts: Artifacts,
    pub(super) runtime: tokio::runtime::Handle,
}

impl report::Files for Library {
    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        let hash = path.file_name().and_then(|it| it.to_str()).and_then(|it| it.parse::<Hash>().ok());
        match hash.filter(|it| self.artifacts.path(it) == path) {
            // The threads that render are none of the runtime's.
            Some(hash) => self.runtime.block_on(self.artifacts.get(&hash)).map_err(std::io::Error::other),
            None => std::fs::read(path),
        }
    }
}
