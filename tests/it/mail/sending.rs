//! A real server with TLS and a password: what it takes, refuses, and takes later.

use std::time::Duration;

use super::{state, write};
use crate::support::database::Database;
use crate::support::process::{Printed, Running};
use crate::support::smtp::{SECRET, Smtp};
use crate::support::wait_until;

const LONG: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_goes_through_tls_and_a_password() {
    let db = Database::new().await;
    for mode in ["tls", "starttls"] {
        let smtp = Smtp::start(mode);
        let words = ["mail", "test", "--to", "Team <team@example.org>", "--to", "me@example.org", "--json"];
        let said = smtp.jobctl(&db, words, 0).json();
        assert_eq!((&said["state"], &said["reply"]), (&"sent".into(), &"2.0.0 queued as 0".into()), "{said}");
        let events = smtp.events();
        let taken = events.iter().find(|it| it["step"] == "taken").unwrap();
        assert_eq!(taken["to"], serde_json::json!(["team@example.org", "me@example.org"]));
        assert_eq!((&taken["tls"], &taken["user"]), (&true.into(), &"reporter".into()));
        let message = &smtp.taken()[0];
        assert!(message.contains(&format!("Message-ID: <{}@example.org>", said["id"].as_str().unwrap())), "{message}");
        assert!(message.contains("Auto-Submitted: auto-generated"), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_said_to_a_server_that_nobody_vouches_for_or_that_does_not_encrypt() {
    let db = Database::new().await;
    let smtp = Smtp::start("tls");
    let mut command = smtp.command(&db, ["mail", "test", "--to", "me@example.org", "--json"]);
    let said = Printed::of(command.env_remove("JOBCTL_SMTP_CA").output().unwrap(), 1).json();
    assert_eq!(said["state"], "waiting");
    assert!(said["error"].as_str().unwrap().contains("ertificate"), "{said}");
    let plain = Smtp::start("plain");
    let mut command = plain.command(&db, ["mail", "test", "--to", "me@example.org", "--json"]);
    command.env("JOBCTL_SMTP_URL", plain.url().replace("?tls=none", ""));
    let said = Printed::of(command.output().unwrap(), 1).json();
    assert!(said["error"].as_str().unwrap().contains("it offers no STARTTLS"), "{said}");
    assert_eq!((smtp.n("auth"), plain.n("mail")), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_tried_again_and_never_shown() {
    let db = Database::new().await;
    let smtp = Smtp::start("tls");
    let mut command = smtp.command(&db, ["mail", "test", "--to", "me@example.org"]);
    command.env("JOBCTL_SMTP_URL", smtp.wrong_url()).env("JOBCTL_LOG", "trace");
    let said = Printed::of(command.output().unwrap(), 1);
    assert!(said.out.contains("waiting") && said.out.contains("535"), "{}", said.out);
    let mut command = smtp.command(&db, ["mail", "send"]);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let sent = Printed::of(command.env("JOBCTL_LOG", "trace").output().unwrap(), 0);
    assert_eq!(state(&db).await, "sent");
    for text in [said.out, said.err, sent.out, sent.err, db.dump().await] {
        assert!(!text.contains(SECRET) && !text.contains("%C3%A9same"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_takes_later_is_sent_then_and_what_it_refuses_ends() {
    let db = Database::new().await;
    let smtp = Smtp::start("plain");
    for step in ["mail", "rcpt", "data", "body"] {
        smtp.order(&format!("{step} 451 4.3.0 come back once"));
        let said = smtp.jobctl(&db, ["mail", "test", "--to", "me@example.org", "--json"], 1).json();
        assert_eq!(said["state"], "waiting", "{step}: {said}");
        assert!(said["error"].as_str().unwrap().contains("come back"), "{step}: {said}");
        tokio::time::sleep(Duration::from_millis(150)).await;
        smtp.jobctl(&db, ["mail", "send"], 0);
    }
    assert_eq!(smtp.taken().len(), 4);
    for step in ["mail", "rcpt", "data", "body"] {
        smtp.order(&format!("{step} 554 5.7.1 we will not have it"));
        let said = smtp.jobctl(&db, ["mail", "test", "--to", "me@example.org", "--json"], 1).json();
        assert_eq!(said["state"], "failed", "{step}: {said}");
        assert!(said["error"].as_str().unwrap().contains("we will not have it"), "{step}: {said}");
        smtp.order("");
        smtp.jobctl(&db, ["mail", "send"], 0);
    }
    assert_eq!(smtp.taken().len(), 4);
    // People have mended it: then it goes.
    let failed = db.text("select id::text from mail where state = 'failed' order by id limit 1").await;
    smtp.jobctl(&db, ["mail", "retry", &failed], 0);
    smtp.jobctl(&db, ["mail", "send"], 0);
    assert!(smtp.taken()[4].contains(&failed));
    let said = smtp.jobctl(&db, ["mail", "retry", &failed], 1).err;
    assert!(said.contains("nothing is sent twice"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_recipient_gets_it_once_whatever_becomes_of_the_others() {
    let db = Database::new().await;
    let smtp = Smtp::start("plain");
    let to = ["a@example.org", "nobody@example.org", "full@example.org"];
    let words = ["mail", "test", "--to", to[0], "--to", to[1], "--to", to[2], "--json"];
    let said = smtp.jobctl(&db, words, 1).json();
    assert_eq!(said["state"], "waiting", "{said}");
    assert_eq!(db.text("select array_to_string(pending, ',') from mail").await, to[2]);
    std::fs::write(smtp.folder.path().join("emptied"), "").unwrap();
    tokio::time::sleep(Duration::from_millis(150)).await;
    smtp.jobctl(&db, ["mail", "send"], 0);
    let taken: Vec<String> =
        smtp.events().iter().filter(|it| it["step"] == "taken").map(|it| it["to"].to_string()).collect();
    assert_eq!(taken, ["[\"a@example.org\"]", "[\"full@example.org\"]"]);
    let mail = smtp.jobctl(&db, ["mail", "list", "--json"], 0).json();
    assert_eq!(mail["state"], "sent");
    assert!(mail["refused"][0].as_str().unwrap().contains("no such mailbox"), "{mail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_is_told_apart_by_what_the_server_can_have() {
    let db = Database::new().await;
    let smtp = Smtp::start("plain");
    for step in ["ehlo", "mail", "rcpt", "data"] {
        smtp.order(&format!("{step} cut once"));
        let said = smtp.jobctl(&db, ["mail", "test", "--to", "me@example.org", "--json"], 1).json();
        assert_eq!(said["state"], "waiting", "{step}: {said}");
        tokio::time::sleep(Duration::from_millis(150)).await;
        smtp.jobctl(&db, ["mail", "send"], 0);
    }
    assert_eq!(smtp.taken().len(), 4);
    // After the message nobody can know, whether it took it or not.
    for order in ["body cut once", "body keep-cut once"] {
        smtp.order(order);
        let said = smtp.jobctl(&db, ["mail", "test", "--to", "me@example.org", "--json"], 1).json();
        assert_eq!(said["state"], "doubtful", "{order}: {said}");
        smtp.jobctl(&db, ["mail", "send"], 0);
    }
    assert_eq!(smtp.taken().len(), 5);
    let listed = smtp.jobctl(&db, ["mail", "list"], 0).out;
    assert!(listed.contains("jobctl mail retry ID"), "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_in_the_middle_of_a_long_message_is_tried_again() {
    let db = Database::new().await;
    let smtp = Smtp::start("plain");
    let id = write(&db, "me@example.org");
    let artifacts = jobctl::store::artifact::Artifacts::new(db.home.path().join("artifacts"));
    let long =
        format!("Subject: long\r\nMessage-ID: <{id}@example.org>\r\n\r\n{}", "0123456789abcdef\r\n".repeat(1_500_000));
    let hash = artifacts.put(long.clone().into_bytes()).await.unwrap();
    sqlx::query("with one as (insert into artifact (hash, bytes, media) values ($1, 1, 'x')) update mail set message = $1, run_at = now()")
        .bind(&hash.0[..])
        .execute(&db.pool)
        .await
        .unwrap();
    smtp.order("data 354-cut once");
    smtp.jobctl(&db, ["mail", "send"], 1);
    assert_eq!(state(&db).await, "waiting", "{}", db.text("select error from mail").await);
    assert!(db.text("select error from mail").await.contains("in the middle of the message"));
    tokio::time::sleep(Duration::from_millis(300)).await;
    smtp.jobctl(&db, ["mail", "send"], 0);
    // The protocol ends it with a line of its own.
    assert_eq!(smtp.taken()[0].trim_end(), long.trim_end());
}

#[tokio::test(flavor = "multi_thread")]
async fn three_workers_send_each_mail_once() {
    let db = Database::new().await;
    let smtp = Smtp::start("starttls");
    for n in 0..8 {
        write(&db, &format!("me{n}@example.org"));
    }
    db.execute("update mail set run_at = now()").await;
    let workers = [0; 3].map(|_| Running::start(smtp.patient(&db, ["worker", "--slots", "1"])));
    let n_sent = async || db.number("select count(*) from mail where state = 'sent'").await;
    wait_until("all are sent", LONG, async || n_sent().await == 8).await;
    for mut worker in workers {
        worker.signal(rustix::process::Signal::TERM);
        worker.ends_with(0, LONG);
    }
    let mut to: Vec<String> =
        smtp.events().iter().filter(|it| it["step"] == "taken").map(|it| it["to"][0].to_string()).collect();
    to.sort();
    assert_eq!(to, (0..8).map(|n| format!("\"me{n}@example.org\"")).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stops_finishes_the_mail_in_hand() {
    let db = Database::new().await;
    let smtp = Smtp::start("plain");
    write(&db, "me@example.org");
    db.execute("update mail set run_at = now()").await;
    smtp.order("rcpt hang");
    let mut command = smtp.command(&db, ["worker", "--slots", "1"]);
    command.env("JOBCTL_GRACE_MS", "300");
    let mut worker = Running::start(command);
    wait_until("it is under way", LONG, async || smtp.n("rcpt") == 1).await;
    wait_until("it lives", LONG, async || !worker.slots().is_empty()).await;
    worker.signal(rustix::process::Signal::TERM);
    // The server does not answer: the worker does not wait for ever, and the mail is not in doubt.
    worker.ends_with(0, LONG);
    smtp.order("");
    let send = async || {
        smtp.jobctl(&db, ["mail", "send"], 0);
        state(&db).await == "sent"
    };
    wait_until("another sends it", LONG, send).await;
    assert_eq!(smtp.taken().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn mails_wait_until_somebody_says_how_they_go() {
    let db = Database::new().await;
    let said = db.jobctl(["mail", "test", "--to", "me@example.org"], 2).err;
    assert!(said.contains("set JOBCTL_SMTP_URL"), "{said}");
    write(&db, "me@example.org");
    assert!(db.jobctl(["mail", "list"], 0).out.contains("nobody says how mails go"));
    assert!(db.jobctl(["mail", "send"], 2).err.contains("JOBCTL_MAIL_DIR"));
    db.execute("update mail set run_at = now()").await;
    let folder = db.home.path().join("mails");
    let mut command = db.command(["mail", "send", "--json"]);
    let sent = Printed::of(command.env("JOBCTL_MAIL_DIR", &folder).output().unwrap(), 0).json();
    assert_eq!(sent, serde_json::json!({ "sent": 1, "not_sent": 0 }));
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
    let mut command = db.command(["mail", "test", "--to", "me at example", "--from", "x@y.z"]);
    assert!(Printed::of(command.env("JOBCTL_MAIL_DIR", &folder).output().unwrap(), 2).err.contains("no mail address"));
}
