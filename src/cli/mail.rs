//! `jobctl mail`: the outbox, and whether mails go at all.

pub mod postman;

use anyhow::Context;
use clap::Subcommand;
use lettre::message::Mailbox;
use time::OffsetDateTime;
use uuid::Uuid;

use super::Outcome;
use super::lines::{plain, say, say_json, table};
use super::report::night::sender;
use crate::config::{Config, MailSettings};
use crate::database;
use crate::mail::compose::Content;
use crate::mail::letter::{self, Envelope};
use crate::mail::send::Sender;
use crate::queue::calendar::timestamp;
use crate::store::artifact::Artifacts;
use crate::store::outbox::{self, Draft, Mail};
use crate::worker::machine;

/// Look at the mails that reports have written, send them, try whether mails go.
///
/// They go through $JOBCTL_SMTP_URL (smtps://USER@HOST, or smtp://USER@HOST with STARTTLS; the password in
/// $JOBCTL_SMTP_PASSWORD), or into the folder $JOBCTL_MAIL_DIR. Workers with such a setting send what is due.
///
/// Example: jobctl mail test --to me@example.org
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    action: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Show the latest mails and what became of them.
    List {
        /// At most so many.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..))]
        limit: u16,
        /// Answer in JSON: a line each.
        #[arg(long)]
        json: bool,
    },
    /// Have a mail sent again that failed, waits, or is doubtful: the same message, under the same Message-ID.
    Retry {
        /// Its id, or the beginning of it.
        id: String,
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
    },
    /// Send what is due now, without a worker.
    Send {
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
    },
    /// Write a mail to see whether one arrives, and send it.
    Test {
        /// Who gets it. Can be given several times.
        #[arg(long, required = true)]
        to: Vec<String>,
        /// Who it is from; else $JOBCTL_MAIL_FROM.
        #[arg(long)]
        from: Option<String>,
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
    },
}

/// See [`Args`].
pub(super) async fn run(args: &Args, config: &Config) -> anyhow::Result<Outcome> {
    match &args.action {
        Verb::List { limit, json } => {
            let pool = database::open(config, 1).await?;
            list(&outbox::list(&pool, None, i64::from(*limit)).await?, &config.mail, *json)?;
            Ok(Outcome::Done)
        }
        Verb::Retry { id, json } => {
            let pool = database::open(config, 1).await?;
            let id = outbox::retry(&pool, id).await?;
            if *json {
                say_json(&serde_json::json!({ "mail": id.to_string(), "is": "waiting" }))?;
            } else {
                say(format_args!("{id}: waiting; a worker sends it, or `jobctl mail send`"));
            }
            Ok(Outcome::Done)
        }
        Verb::Send { json } => send(config, *json).await,
        Verb::Test { to, from, json } => test(to, from.as_deref(), config, *json).await,
    }
}

/// What is said where no way is set.
const NO_WAY: &str = "nobody says how mails go: set JOBCTL_SMTP_URL, such as smtps://USER@HOST, or JOBCTL_MAIL_DIR";

async fn send(config: &Config, json: bool) -> anyhow::Result<Outcome> {
    if config.mail.way.is_none() {
        eprintln!("error: {NO_WAY}");
        return Ok(Outcome::Misused);
    }
    let pool = database::open(config, 2).await?;
    let artifacts = Artifacts::open(&config.store)?;
    let host = machine::host();
    let sender =
        Sender { pool: &pool, artifacts: &artifacts, settings: &config.mail, times: config.times, host: &host };
    let (n_sent, n_kept) = sender.send_due().await?;
    if json {
        say_json(&serde_json::json!({ "sent": n_sent, "not_sent": n_kept }))?;
    } else {
        say(format_args!("{n_sent} sent, {n_kept} not; `jobctl mail list` says why"));
    }
    Ok(if n_kept == 0 { Outcome::Done } else { Outcome::Failed })
}

async fn test(to: &[String], from: Option<&str>, config: &Config, json: bool) -> anyhow::Result<Outcome> {
    let Some(way) = &config.mail.way else {
        eprintln!("error: {NO_WAY}");
        return Ok(Outcome::Misused);
    };
    let read = |it: &str| it.parse::<Mailbox>().with_context(|| format!("`{}` is no mail address", plain(it)));
    let parsed = to.iter().map(|it| read(it)).collect::<anyhow::Result<Vec<Mailbox>>>();
    let from = from.map(read).transpose().and_then(|it| sender(it.as_ref(), config));
    let (to, from) = match parsed.and_then(|to| Ok((to, from?))) {
        Ok(both) => both,
        Err(error) => {
            eprintln!("error: {error:#}");
            return Ok(Outcome::Misused);
        }
    };
    let pool = database::open(config, 2).await?;
    let artifacts = Artifacts::open(&config.store)?;
    artifacts.prepare()?;
    let id = Uuid::now_v7();
    let envelope = Envelope { id, from: from.clone(), to: to.clone(), at: OffsetDateTime::now_utc() };
    let host = machine::host();
    let bytes = letter::write(&envelope, &trial(&host), &[])?;
    let n_bytes = bytes.len() as u64;
    let message = artifacts.put(bytes).await?;
    let recipients: Vec<String> = to.iter().map(|it| it.email.to_string()).collect();
    let (sender, subject) = (from.email.to_string(), SUBJECT);
    let mut tx = pool.begin().await.context("begin a transaction")?;
    let draft = Draft { id, report_run: None, sender: &sender, recipients: &recipients, subject, message, n_bytes };
    outbox::put(&mut tx, &draft).await?;
    tx.commit().await.context("put the mail into the outbox")?;
    let sender =
        Sender { pool: &pool, artifacts: &artifacts, settings: &config.mail, times: config.times, host: &host };
    sender.send_one(id).await?;
    let mail = outbox::list(&pool, Some(&id.to_string()), 1).await?.pop().context("the mail is in the outbox")?;
    if json {
        say_json(&mail)?;
    } else {
        say(format_args!("{}: {} through {way}", mail.id, mail.state));
        for text in [&mail.reply, &mail.error].into_iter().flatten() {
            say(format_args!("  {}", plain(text)));
        }
    }
    Ok(if mail.state == "sent" { Outcome::Done } else { Outcome::Failed })
}

const SUBJECT: &str = "A mail from jobctl";

fn trial(host: &str) -> Content {
    let text = format!("This is `jobctl mail test` on {host}. Mails of reports take the same way.");
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{SUBJECT}</title></head><body><p>{}</p></body></html>",
        text.replace('&', "&amp;").replace('<', "&lt;")
    );
    Content { subject: SUBJECT.to_owned(), html, text: format!("{text}\n"), charts: Vec::new() }
}

fn list(mails: &[Mail], settings: &MailSettings, json: bool) -> anyhow::Result<()> {
    if json {
        return mails.iter().try_for_each(say_json);
    }
    if mails.is_empty() {
        say("the outbox is empty");
        return Ok(());
    }
    let mut rows = table(&["MAIL", "WRITTEN", "TO", "SUBJECT", "STATE", "TRIES", "WHAT WAS SAID"]);
    for it in mails {
        let said = it.error.as_deref().or(it.reply.as_deref()).unwrap_or("-");
        rows.add_row([
            it.id.to_string(),
            timestamp(it.created_at)?.strftime("%Y-%m-%d %H:%M UTC").to_string(),
            plain(&it.recipients.join(", ")),
            plain(&it.subject),
            it.state.clone(),
            it.n_attempts.to_string(),
            plain(said),
        ]);
    }
    say(rows);
    if settings.way.is_none() && mails.iter().any(|it| it.state == "waiting") {
        say(format_args!("here {NO_WAY}"));
    }
    if mails.iter().any(|it| it.state == "doubtful") {
        say("doubtful: the server may have it or not; `jobctl mail retry ID` sends it again");
    }
    Ok(())
}
