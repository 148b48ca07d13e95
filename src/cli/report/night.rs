//! A report by its definition: a night is read, analysed, rendered, kept and mailed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use lettre::message::Mailbox;
use serde::Serialize;
use serde_json::Value;
use sqlx::PgPool;
use time::OffsetDateTime;
use uuid::Uuid;

use super::Library;
use crate::config::Config;
use crate::mail::compose::{Content, Full, compose};
use crate::mail::letter::{self, Envelope};
use crate::queue::schedule::firing::{Held, finish};
use crate::report::definition::{Attach, Definition, Take};
use crate::report::history::{Found, Kept, Nights, analyse};
use crate::report::merge::merge;
use crate::report::{self, Written};
use crate::store::artifact::Artifacts;
use crate::store::nights::{self, NewRun, Night, Run};
use crate::store::outbox::{self, Draft};
use crate::store::read::findings_at;
use crate::worker::machine;

/// A night, read and analysed.
pub struct Told {
    /// The definition.
    pub definition: Definition,
    /// Its text.
    pub text: String,
    /// The moment.
    pub at: OffsetDateTime,
    /// What was found.
    pub found: Found,
    /// The nights before, the latest first.
    past: Vec<Kept>,
}

/// Reads and analyses the night that `definition` asks for, as of `at`.
///
/// # Errors
/// Postgres is out of reach.
pub async fn tell(pool: &PgPool, definition: Definition, text: String, at: OffsetDateTime) -> anyhow::Result<Told> {
    // What the database keeps has microseconds.
    let at = at.replace_nanosecond(at.nanosecond() / 1000 * 1000)?;
    let sweeps = chosen(pool, &definition, at).await?;
    let night = nights::read(pool, &sweeps, at).await?;
    let limit = i64::try_from(definition.history.nights).unwrap_or(i64::MAX);
    let past = nights::past(pool, &definition.name, at, limit).await?;
    let past: Vec<Kept> = past.into_iter().filter_map(kept).collect();
    let good = nights::last_good(pool, &definition.name, at).await?.and_then(kept);
    let before = match &good {
        Some(kept) => stored(pool, &kept.found).await?,
        None => None,
    };
    let told = tokio::task::spawn_blocking(move || {
        let base = good.as_ref().map(|it| (it, before.as_ref()));
        let found = analyse(&definition, &night, base, &past);
        Told { definition, text, at, found, past }
    });
    Ok(told.await?)
}

/// A kept night; none where an older or newer program has kept it in another form.
fn kept(run: Run) -> Option<Kept> {
    let found = serde_json::from_value(run.found)
        .inspect_err(|error| tracing::warn!(run = run.id, %error, "cannot read what a report found; it is left out"))
        .ok()?;
    Some(Kept { run: run.id, good: run.good, found })
}

/// What was stored on the night that `found` tells of, where its sweeps are still there.
async fn stored(pool: &PgPool, found: &Found) -> anyhow::Result<Option<Night>> {
    let at = OffsetDateTime::parse(&found.at, &time::format_description::well_known::Rfc3339)?;
    let known = nights::candidates(pool, at, None).await?;
    let rows: Vec<i32> = found.sweeps.iter().map(|it| it.row).collect();
    if rows.iter().all(|row| known.iter().any(|it| it.id == *row)) {
        Ok(Some(nights::read(pool, &rows, at).await?))
    } else {
        Ok(None)
    }
}

/// The sweeps that the definition asks for, in its order; those of one name from the oldest on.
async fn chosen(pool: &PgPool, definition: &Definition, at: OffsetDateTime) -> anyhow::Result<Vec<i32>> {
    let known = nights::candidates(pool, at, definition.sweeps.window).await?;
    let mut rows: Vec<i32> = Vec::new();
    for pattern in &definition.sweeps.names {
        let mut seen: Vec<&str> = Vec::new();
        let mut of_pattern: Vec<i32> = Vec::new();
        for it in known.iter().filter(|it| pattern.is(&it.name)) {
            let is_latest = !seen.contains(&it.name.as_str());
            seen.push(&it.name);
            if (is_latest || definition.sweeps.take == Take::All) && !rows.contains(&it.id) {
                of_pattern.push(it.id);
            }
        }
        of_pattern.reverse();
        rows.extend(of_pattern);
    }
    Ok(rows)
}

/// The files of a night.
#[derive(Debug)]
pub struct Rendered {
    /// The full report.
    pub page: Written,
    /// What the mail says, as a page of its own.
    pub summary: PathBuf,
    /// The same as text.
    pub text: PathBuf,
    /// What was found, as JSON.
    pub found: PathBuf,
    /// The folder's name, which links name.
    run: String,
}

impl Told {
    /// Renders the full report and the summary into `out`, or where reports are.
    ///
    /// # Errors
    /// Postgres is out of reach, or the folder cannot be written.
    pub async fn render(&self, pool: &PgPool, config: &Config, out: Option<&Path>) -> anyhow::Result<Rendered> {
        let artifacts = Artifacts::open(&config.store)?;
        let mut all = Vec::with_capacity(self.found.sweeps.len());
        for sweep in &self.found.sweeps {
            all.push(findings_at(pool, &artifacts, sweep.row, Some(self.at)).await?);
        }
        let merged = merge(&self.definition, &self.text, &self.found.at, all);
        let run = format!("{}/{}", self.definition.name, self.found.at.replace(':', ""));
        let folder = out.map_or_else(|| config.reports().join(&run), Path::to_path_buf);
        let files = Library { artifacts, runtime: tokio::runtime::Handle::current() };
        let full = Full::Said("The full report is report.html beside this.".to_owned());
        let content = self.compose(full, Uuid::nil()).await?;
        let found = serde_json::to_vec_pretty(&self.found)?;
        let nights = Nights::of(&self.found, &self.past, self.definition.history.nights);
        let write = move || -> anyhow::Result<Rendered> {
            let page = report::write_night(&merged, nights, &folder, &report::Options::default(), &files)?;
            let summary = report::write_file(&folder, "summary.html", standing_alone(&content).as_bytes())?;
            let text = report::write_file(&folder, "summary.txt", content.text.as_bytes())?;
            let found = report::write_file(&folder, "found.json", &found)?;
            Ok(Rendered { page, summary, text, found, run })
        };
        tokio::task::spawn_blocking(write).await?
    }

    /// On a thread of its own: drawing charts must not keep a firing from being held.
    async fn compose(&self, full: Full, id: Uuid) -> anyhow::Result<Content> {
        let (definition, found, past) = (self.definition.clone(), self.found.clone(), self.past.clone());
        tokio::task::spawn_blocking(move || compose(&definition, &found, &past, &full, id)).await?
    }

    /// Keeps the night and puts its mail into the outbox, in one transaction, with the end of `firing` where a schedule
    /// asked for it. `mail` says whether there is to be one at all; nights that the definition passes over have none.
    ///
    /// # Errors
    /// The mail cannot be written; the firing was lost; Postgres or the store is out of reach. Nothing is kept then.
    pub async fn keep(
        &self,
        pool: &PgPool,
        config: &Config,
        rendered: &Rendered,
        mail: Wanted,
        firing: Option<Held>,
    ) -> anyhow::Result<Done> {
        let letter = match &self.definition.mail {
            Some(it) if mail == Wanted::Mail && !(it.only_on_regression && self.found.good) => {
                Some(self.letter(config, rendered).await?)
            }
            _ => None,
        };
        let found: Value = serde_json::to_value(&self.found)?;
        let mut tx = pool.begin().await.context("begin a transaction")?;
        let new = NewRun {
            name: &self.definition.name,
            at: self.at,
            good: self.found.good,
            found: &found,
            definition: &self.text,
            program: &machine::program(),
            firing: firing.map(Held::key),
        };
        let run = nights::record(&mut tx, &new).await?;
        if let Some(letter) = &letter {
            let recipients: Vec<String> = letter.to.iter().map(|it| it.email.to_string()).collect();
            let draft = Draft {
                id: letter.id,
                report_run: Some(run),
                sender: letter.from.email.as_ref(),
                recipients: &recipients,
                subject: &letter.subject,
                message: letter.message,
                n_bytes: letter.n_bytes,
            };
            outbox::put(&mut tx, &draft).await?;
        }
        let done = Done {
            report: self.definition.name.clone(),
            run,
            verdict: self.found.verdict(),
            good: self.found.good,
            mail: letter.as_ref().map(|it| it.id.to_string()),
            html: rendered.page.html.display().to_string(),
        };
        if let Some(held) = firing {
            finish(&mut tx, held, &done).await?;
        }
        tx.commit().await.context("keep the night")?;
        Ok(done)
    }

    /// Writes the message and stores it.
    async fn letter(&self, config: &Config, rendered: &Rendered) -> anyhow::Result<Letter> {
        let mail = self.definition.mail.as_ref().context("the report has no [mail]")?;
        let from = sender(mail.from.as_ref(), config)?;
        let (full, files) = self.full(rendered)?;
        let id = Uuid::now_v7();
        let content = self.compose(full, id).await?;
        let envelope = Envelope { id, from: from.clone(), to: mail.to.clone(), at: OffsetDateTime::now_utc() };
        let subject = content.subject.clone();
        let bytes = tokio::task::spawn_blocking(move || letter::write(&envelope, &content, &files)).await??;
        let n_bytes = bytes.len() as u64;
        let artifacts = Artifacts::open(&config.store)?;
        artifacts.prepare()?;
        let message = artifacts.put(bytes).await?;
        Ok(Letter { id, from, to: mail.to.clone(), subject, message, n_bytes })
    }

    /// Where the mail says that the full report is, and what goes with it.
    fn full(&self, rendered: &Rendered) -> anyhow::Result<(Full, Vec<letter::File>)> {
        let mail = self.definition.mail.as_ref().context("the report has no [mail]")?;
        let here = || format!("The full report is {} on {}.", rendered.page.html.display(), machine::host());
        Ok(match &mail.report {
            Attach::Left => (Full::Said(here()), Vec::new()),
            Attach::Linked(to) => (Full::Linked(to.replace("{run}", &rendered.run)), Vec::new()),
            Attach::Attached => {
                let bytes = std::fs::read(&rendered.page.html).context("read the report")?;
                if bytes.len() > mail.max_bytes {
                    let megabytes = bytes.len() as f64 / 1e6;
                    (Full::Said(format!("{} It has {megabytes:.1} MB, too much to attach.", here())), Vec::new())
                } else {
                    let name = format!("{}-{}.html", self.definition.name, &self.found.at[..10]);
                    (Full::Attached(name.clone()), vec![letter::File { name, media: "text/html", bytes }])
                }
            }
        })
    }
}

/// A message that is in the store.
struct Letter {
    id: Uuid,
    from: Mailbox,
    to: Vec<Mailbox>,
    subject: String,
    message: crate::job::Hash,
    n_bytes: u64,
}

/// Whether a night is to be mailed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wanted {
    /// As the definition says.
    Mail,
    /// It is only kept.
    Nothing,
}

/// What keeping a night came to; a firing's result.
#[derive(Debug, Serialize)]
pub struct Done {
    /// The report.
    pub report: String,
    /// The night's row.
    pub run: i64,
    /// The night in a few words.
    pub verdict: String,
    /// Whether nothing got worse and nothing broke.
    pub good: bool,
    /// The mail in the outbox.
    pub mail: Option<String>,
    /// The full report on the machine that rendered it.
    pub html: String,
}

/// Who mails are from.
///
/// # Errors
/// Nobody says it, or it is no address.
pub fn sender(own: Option<&Mailbox>, config: &Config) -> anyhow::Result<Mailbox> {
    if let Some(own) = own {
        return Ok(own.clone());
    }
    let text = config.mail.from.as_deref();
    let text = text.context("nobody says who the mail is from: set JOBCTL_MAIL_FROM, or `from` in [mail]")?;
    text.parse().with_context(|| format!("JOBCTL_MAIL_FROM is `{text}`, no mail address"))
}

/// The mail's page with its charts in it, for a browser.
fn standing_alone(content: &Content) -> String {
    use base64::Engine as _;
    let mut html = content.html.clone();
    for chart in &content.charts {
        let data = base64::engine::general_purpose::STANDARD.encode(&chart.png);
        html = html.replace(&format!("cid:{}", chart.id), &format!("data:image/png;base64,{data}"));
    }
    html
}

/// Reads `2026-11-22T07:00:00Z`, `2026-11-22 07:00` (UTC), `2026-11-22` (its end, UTC), or a time ago: `3days`.
///
/// # Errors
/// Text that is none of these, a time that is not past.
pub fn moment(text: &str, now: OffsetDateTime) -> anyhow::Result<OffsetDateTime> {
    use time::macros::format_description;
    let minutes = format_description!("[year]-[month]-[day] [hour]:[minute]");
    let days = format_description!("[year]-[month]-[day]");
    let rfc3339 = OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok();
    let read = rfc3339
        .or_else(|| Some(time::PrimitiveDateTime::parse(&text.replace('T', " "), minutes).ok()?.assume_utc()))
        .or_else(|| {
            let day = time::Date::parse(text, days).ok()?;
            let end = day.next_day()?.midnight().assume_utc() - Duration::from_micros(1);
            // Today's end is now.
            Some(if day <= now.date() { end.min(now) } else { end })
        })
        .or_else(|| Some(now - humantime::parse_duration(text).ok()?));
    let read = read.with_context(|| {
        format!(
            "`{text}` is no time; write 2026-11-22T07:00:00Z, \"2026-11-22 07:00\" (UTC), 2026-11-22 or 3days (ago)"
        )
    })?;
    ensure!(read <= now, "`{text}` is not past: a report tells of what is stored");
    Ok(read)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::moment;

    #[test]
    fn times_are_read_as_people_write_them() {
        let now = datetime!(2026-11-23 07:00 UTC);
        let check = |text: &str, expected| assert_eq!(moment(text, now).unwrap(), expected, "{text}");
        check("2026-11-22T07:00:00+01:00", datetime!(2026-11-22 06:00 UTC));
        check("2026-11-22 07:30", datetime!(2026-11-22 07:30 UTC));
        check("2026-11-22", datetime!(2026-11-22 23:59:59.999999 UTC));
        check("2026-11-23", now);
        check("3days", datetime!(2026-11-20 07:00 UTC));
        assert!(moment("2026-11-24 00:00", now).is_err());
        assert!(moment("2026-11-24", now).is_err());
        assert!(moment("yesterday", now).is_err());
    }
}
