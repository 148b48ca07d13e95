//! Machines without a shared disk: two homes, one bucket, one sweep.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::database::Database;
use crate::support::pictures::{pictures, sweep};
use crate::support::process::{Printed, Running};
use crate::support::s3::{S3, SECRET};
use crate::support::{golden, wait_until};

const LONG: Duration = Duration::from_secs(180);

/// The program on the test's database, at a home of its own, with the bucket as its store.
fn at(db: &Database, home: &Path, environment: &[(&str, String)], arguments: &[&str]) -> Command {
    let mut command = db.command(arguments);
    command.env("JOBCTL_HOME", home).envs(environment.iter().map(|it| (it.0, &it.1)));
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn two_machines_without_a_shared_disk_run_one_sweep() {
    let db = Database::new().await;
    let mut server = S3::start();
    let environment = server.environment(&S3::bucket());
    let people = tempfile::tempdir().unwrap();
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let folder = people.path().join("photos");
    let files = pictures(&folder, 4);
    let path = sweep(&folder, "shared", "", &["glcm_score", "compression_ratio"]);
    let made = format!(
        "[[generate]]\nname = \"tiny\"\nmodel = {:?}\nprompts = [\"a fox\", \"an owl\"]\nsize = 64\nsteps = 2\nseed = [0, 1]\n\
         t5_tokens = 16\ndtype = \"f32\"\n\n[evaluate]",
        golden("sd3/tiny")
    );
    fs::write(&path, fs::read_to_string(&path).unwrap().replace("[evaluate]", &made)).unwrap();
    let path = path.to_str().unwrap();
    let said = Printed::of(at(&db, one.path(), &environment, &["enqueue", path]).output().unwrap(), 0);
    assert!(!said.err.contains(SECRET) && !said.out.contains(SECRET));
    assert_eq!(db.number("select count(*) from sweep_file").await, 4);
    // No other machine has the pictures.
    for file in &files {
        fs::remove_file(file).unwrap();
    }

    // Each takes a part: one makes what the other reads, whichever comes first.
    let worker = |home: &Path| Running::start(at(&db, home, &environment, &["worker", "--slots", "1"]));
    let mut first = worker(one.path());
    wait_until("a latent is there", LONG, async || {
        db.number("select count(*) from job_history where kind = 'denoise' and state = 'done'").await > 0
    })
    .await;
    first.signal(rustix::process::Signal::TERM);
    first.ends_with(0, LONG);
    let mut second = worker(two.path());
    wait_until("the other one goes on", LONG, async || {
        db.number("select count(distinct worker_id) from attempt where outcome = 'done'").await == 2
    })
    .await;
    // A store that is away is waited for, and no attempt is charged.
    server.stop();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(second.is_running());
    server.restart();
    wait_until("all is done", LONG, async || db.number("select count(*) from job").await == 0).await;
    second.signal(rustix::process::Signal::TERM);
    let said = second.ends_with(0, LONG);
    assert!(!said.contains(SECRET));
    db.check_laws().await;
    assert_eq!(db.number("select count(*) from job_history where state <> 'done'").await, 0);
    assert_eq!(db.number("select count(*) from attempt where outcome not in ('done', 'released')").await, 0);
    assert_eq!(db.number("select count(*) from image").await, 8);
    for home in [&one, &two] {
        assert!(!home.path().join("artifacts").exists(), "something was stored beside the bucket");
    }

    // A third machine renders the report, with pictures of both.
    let third = tempfile::tempdir().unwrap();
    let said = Printed::of(at(&db, third.path(), &environment, &["report", "shared"]).output().unwrap(), 0);
    let html = fs::read_to_string(said.out.trim()).unwrap();
    assert!(html.matches("data:image/jpeg").count() > 8 && !html.contains("cannot be shown"), "pictures are missing");
    let said = Printed::of(at(&db, third.path(), &environment, &["db", "check", "--deep"]).output().unwrap(), 0);
    assert!(said.out.contains("laws hold"), "{}", said.out);
}
