//! `jobctl labels import`: a file of ratings or choices into the database, once.

mod resolve;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use self::resolve::{Labels, Resolver};
use super::sheet;
use crate::cli::Outcome;
use crate::cli::lines::{plain, say, say_json};
use crate::config::Config;
use crate::database;
use crate::job::Hash;
use crate::labels::mapping::Mapping;
use crate::labels::rows::{Defaults, read};
use crate::labels::table::Table;
use crate::labels::{JudgeKind, Scale};
use crate::queue::look;
use crate::store::labels::{Added, From, Import, begin_import, write_ratings, write_verdicts};

/// So many faults are told one by one.
const MOST_TOLD: usize = 20;

/// Read ratings or choices from CSV, JSON or lines of JSON. The same file is imported once, the same label is one row.
///
/// Columns are guessed by their names and shown. A rating names a picture by its path (from the file's folder), by a
/// hash, or by sample and source of a sweep, a patch of it by x, y, width and height. A choice names two pictures, or
/// two models and a prompt.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  jobctl labels import ratings.csv --aspect quality --scale 1,5
  jobctl labels import likert.csv --sweep tifa --map worker_id=rater --map answer=value --aspect alignment --dry-run
  jobctl labels import sheet.csv --key sheet.key.jsonl")]
pub struct Args {
    /// The file.
    file: PathBuf,
    /// A column is this field, whatever its name looks like; `COL=-` leaves a column out
    #[arg(long = "map", value_name = "COL=FIELD", value_parser = pair)]
    told: Vec<(String, String)>,
    /// The aspect of rows that name none
    #[arg(long)]
    aspect: Option<String>,
    /// The rater of rows that name none
    #[arg(long)]
    rater: Option<String>,
    /// Who judges where no column says so
    #[arg(long, default_value = "human", value_parser = ["human", "machine"])]
    judge: String,
    /// The ends of the scale: a rating outside is a mistake
    #[arg(long, value_name = "LOW,HIGH", value_parser = scale)]
    scale: Option<(f64, f64)>,
    /// The sweep whose samples and sources are named
    #[arg(long)]
    sweep: Option<String>,
    /// The key of a sheet that `jobctl labels template` made
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Leave out rows whose pictures cannot be found
    #[arg(long)]
    skip_unknown: bool,
    /// Keep what was said before, where the file says something else of the same picture by the same rater
    #[arg(long)]
    keep: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (column, field) = text.rsplit_once('=').ok_or("write COLUMN=FIELD")?;
    Ok((column.to_owned(), field.to_owned()))
}

fn scale(text: &str) -> Result<(f64, f64), String> {
    let ends = text.split_once(',').and_then(|(low, high)| Some((low.trim().parse().ok()?, high.trim().parse().ok()?)));
    ends.filter(|it: &(f64, f64)| it.0 < it.1 && it.0.is_finite() && it.1.is_finite())
        .ok_or_else(|| "write the lower and the upper end, as 1,5".to_owned())
}

pub(super) async fn run(args: &Args, config: &Config) -> anyhow::Result<Outcome> {
    let read = match File::read(args) {
        Ok(file) => file,
        Err(error) => {
            eprintln!("error: {error:#}");
            return Ok(Outcome::Misused);
        }
    };
    let pool = database::open(config, 2).await?;
    let sweep = match &args.sweep {
        Some(word) => Some(look::find_sweep(&pool, word).await?.0),
        None => None,
    };
    let File { table, mapping, entries, mut faults, n_unanswered, content, items } = read;
    let base = args.file.parent().unwrap_or(Path::new(".")).to_path_buf();
    let resolver = Resolver::load(&pool, sweep, &base, items, &entries).await?;
    let resolved = resolver.labels(&entries);
    let names = mapping.names(&table);
    if !args.json {
        let shown: Vec<String> = names.iter().map(|it| format!("{} = {}", plain(it.1), it.0)).collect();
        say(format_args!("columns: {}", shown.join(", ")));
    }
    let n_unknown = resolved.faults.len();
    if args.skip_unknown {
        tell(&resolved.faults, "left out");
    } else {
        faults.extend(resolved.faults.iter().cloned());
    }
    if !faults.is_empty() {
        tell(&faults, "wrong");
        eprintln!("nothing was imported");
        return Ok(Outcome::Misused);
    }
    let import = Import {
        content,
        name: args.file.file_name().map_or_else(String::new, |it| it.to_string_lossy().into_owned()),
        mapping: serde_json::to_value(&names)?,
        n_rows: table.rows.len(),
    };
    let mut tx = pool.begin().await.context("begin a transaction")?;
    let Some(id) = begin_import(&mut tx, &import).await? else {
        if args.json {
            say_json(&serde_json::json!({ "rows": import.n_rows, "new": 0, "known": import.n_rows, "import": null }))?;
        } else {
            say("the same file was imported before: nothing new");
        }
        return Ok(Outcome::Done);
    };
    let Labels { ratings, rating_lines, verdicts, verdict_lines, .. } = &resolved;
    let of_ratings = write_ratings(&mut tx, From::Import(id), ratings).await?;
    let of_verdicts = write_verdicts(&mut tx, From::Import(id), verdicts).await?;
    let differing: Vec<String> = [(&of_ratings, rating_lines), (&of_verdicts, verdict_lines)]
        .into_iter()
        .flat_map(|(added, lines): (&Added, &Vec<u64>)| added.differing.iter().map(|it| lines[*it]))
        .map(|line| format!("line {line}: the same rater has said something else of the same picture"))
        .collect();
    if !differing.is_empty() && !args.keep {
        tell(&differing, "differ from what is known, or from another line");
        eprintln!("nothing was imported; `--keep` keeps what was said first");
        return Ok(Outcome::Misused);
    }
    if args.dry_run {
        tx.rollback().await.context("leave everything as it was")?;
    } else {
        tx.commit().await.context("import the labels")?;
    }
    let (n_new, n_known) = (of_ratings.n_new + of_verdicts.n_new, of_ratings.n_known + of_verdicts.n_known);
    if args.json {
        say_json(&serde_json::json!({
            "import": if args.dry_run { None } else { Some(id) }, "rows": import.n_rows, "ratings": ratings.len(),
            "choices": verdicts.len(), "new": n_new, "known": n_known, "kept": differing.len(), "unanswered": n_unanswered,
            "unknown": n_unknown, "mapping": names,
        }))?;
    } else {
        let would = if args.dry_run { "would be " } else { "" };
        say(format_args!(
            "{} rows: {} ratings, {} choices; {n_new} {would}new, {n_known} known, {} kept as they were, {n_unanswered} not answered, {n_unknown} of unknown pictures",
            import.n_rows,
            ratings.len(),
            verdicts.len(),
            differing.len(),
        ));
    }
    Ok(Outcome::Done)
}

/// What the file and the arguments come to, before the database is asked.
struct File {
    table: Table,
    mapping: Mapping,
    entries: Vec<crate::labels::rows::Entry>,
    faults: Vec<String>,
    n_unanswered: usize,
    content: Hash,
    items: BTreeMap<String, sheet::Item>,
}

impl File {
    fn read(args: &Args) -> anyhow::Result<Self> {
        let bytes = std::fs::read(&args.file).with_context(|| format!("read {}", args.file.display()))?;
        let table = Table::parse(&args.file, &bytes).with_context(|| args.file.display().to_string())?;
        let mapping = Mapping::of(&table, &args.told)?;
        let judge: JudgeKind = args.judge.parse()?;
        let defaults = Defaults {
            aspect: args.aspect.clone(),
            rater: args.rater.clone(),
            judge,
            scale: args.scale.map(|(low, high)| Scale { low, high }),
        };
        let read = read(&table, &mapping, &defaults);
        let items = match &args.key {
            Some(path) => sheet::read(path)?,
            None if mapping.has("item") => {
                bail!("the sheet names its items blindly: `--key FILE` says what they are")
            }
            None => BTreeMap::new(),
        };
        // All that decides what a row means; pictures that are found later than now make another import.
        let content = Hash::of_value(&(
            Hash::of(&bytes),
            mapping.names(&table),
            (&args.aspect, &args.rater, &args.judge, args.scale, &args.sweep),
            (&items, args.skip_unknown.then(std::time::SystemTime::now)),
        ));
        Ok(Self {
            table,
            mapping,
            entries: read.entries,
            faults: read.faults,
            n_unanswered: read.n_unanswered,
            content,
            items,
        })
    }
}

fn tell(faults: &[String], what: &str) {
    for it in faults.iter().take(MOST_TOLD) {
        eprintln!("{}", plain(it));
    }
    if faults.len() > MOST_TOLD {
        eprintln!("… and {} more", faults.len() - MOST_TOLD);
    }
    if !faults.is_empty() {
        eprintln!("{} rows {what}", faults.len());
    }
}
