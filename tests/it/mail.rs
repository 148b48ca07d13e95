//! Mails: what is in them, and that each is sent once.

mod dying;
mod letter;
mod scheduled;
mod sending;

use std::process::Command;

use crate::support::database::Database;
use crate::support::process::Printed;
use crate::support::smtp::Smtp;

impl Smtp {
    /// Runs the program on this server to its end, which must have `status`.
    #[track_caller]
    fn jobctl<'a>(&self, db: &Database, arguments: impl IntoIterator<Item = &'a str>, status: i32) -> Printed {
        Printed::of(self.patient(db, arguments).output().unwrap(), status)
    }
}

/// Writes a mail that nobody sends: where it should go is closed. Returns its id.
fn write(db: &Database, to: &str) -> String {
    let mut command: Command = db.command(["mail", "test", "--to", to, "--from", "jobctl@example.org", "--json"]);
    command.env("JOBCTL_SMTP_URL", "smtp://127.0.0.1:1?tls=none").env("JOBCTL_MAIL_RETRY_MS", "1");
    let said = Printed::of(command.output().unwrap(), 1).json();
    assert_eq!(said["state"], "waiting", "{said}");
    said["id"].as_str().unwrap().to_owned()
}

/// The state of the only mail.
async fn state(db: &Database) -> String {
    db.text("select state from mail").await
}
