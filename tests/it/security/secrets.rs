//! Planted secrets are nowhere: not in what is printed, stored, rendered, nor in what the machine shows of processes.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use crate::support::database::Database;
use crate::support::pictures::{pictures, pictures_of, sweep};
use crate::support::process::Running;
use crate::support::s3::{S3, SECRET};
use crate::support::wait_until;

const LONG: Duration = Duration::from_secs(120);

/// What programs around it may have in their environment.
const PLANTED: [(&str, &str); 4] = [
    ("HF_TOKEN", "planted-hub-token"),
    ("SMTP_PASSWORD", "planted-mail-password"),
    ("OPENAI_API_KEY", "planted-judge-key"),
    ("https_proxy", "http://someone:planted-proxy@127.0.0.1:1"),
];

fn password(db: &Database) -> String {
    url::Url::parse(&db.url).unwrap().password().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn planted_secrets_are_nowhere() {
    let db = Database::new().await;
    let server = S3::start();
    let environment = server.environment(&S3::bucket());
    let folder = db.home.path().join("photos");
    pictures_of(&folder, 2, 2000, 2000);
    fs::write(folder.join("bad.png"), b"no picture").unwrap();
    let path = sweep(&folder, "quiet", "", &["glcm_score", "glcm_texture"]);
    let secrets: Vec<String> =
        PLANTED.iter().map(|it| it.1.to_owned()).chain([password(&db), SECRET.to_owned()]).collect();
    let command = |arguments: &[&str]| {
        let mut command = db.command(arguments);
        command.envs(PLANTED).envs(environment.iter().map(|it| (it.0, &it.1))).env("JOBCTL_LOG", "trace");
        command
    };
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    let enqueued = command(&["enqueue", path.to_str().unwrap()]).output().unwrap();
    seen.insert("enqueue".to_owned(), format!("{enqueued:?}"));
    assert!(enqueued.status.success(), "{enqueued:?}");

    let mut worker = Running::start(command(&["worker", "--slots", "1", "--until-idle"]));
    wait_until("a job runs", LONG, async || db.number("select count(*) from job where state = 'running'").await > 0)
        .await;
    let slots = worker.slots();
    assert_eq!(slots.len(), 1);
    for pid in slots.iter().chain([&worker.pid()]) {
        let read = |name: &str| {
            String::from_utf8_lossy(&fs::read(format!("/proc/{}/{name}", pid.as_raw_nonzero())).unwrap()).into_owned()
        };
        seen.insert(format!("command line of {pid:?}"), read("cmdline"));
        if *pid != worker.pid() {
            let environment = read("environ");
            assert!(
                environment.contains("PATH=") && !environment.contains("DATABASE_URL") && !environment.contains("AWS_"),
                "{environment}"
            );
            seen.insert(format!("environment of {pid:?}"), environment);
        }
    }
    seen.insert("worker".to_owned(), worker.ends_with(0, LONG));
    assert_eq!(db.number("select count(*) from failure").await, 1, "one of the jobs was to fail");
    for verb in [
        &["status"][..],
        &["jobs"],
        &["report", "quiet"],
        &["show", "1"],
        &["logs", "1"],
        &["db", "check"],
        &["--help"],
        &["worker", "--help"],
    ] {
        seen.insert(verb.join(" "), format!("{:?}", command(verb).output().unwrap()));
    }
    seen.insert("database".to_owned(), db.dump().await);
    for entry in walkdir::WalkDir::new(db.home.path()).into_iter().flatten().filter(|it| it.file_type().is_file()) {
        let text = String::from_utf8_lossy(&fs::read(entry.path()).unwrap()).into_owned();
        seen.insert(entry.path().display().to_string(), text);
    }
    assert!(seen.keys().any(|it| it.ends_with("report.html")));
    for (place, text) in &seen {
        for secret in &secrets {
            assert!(!text.contains(secret.as_str()), "{secret} is in {place}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_connections_name_no_password() {
    let db = Database::new().await;
    let folder = db.home.path().join("photos");
    pictures(&folder, 1);
    let url = url::Url::parse(&db.url).unwrap();
    let secret = "planted-password";
    let (host, port, base) = (url.host_str().unwrap(), url.port().unwrap(), url.path());
    for (wrong, words) in [
        (format!("postgres://jobctl:{secret}@{host}:{port}{base}"), "password authentication failed"),
        (format!("postgres://jobctl:{secret}@{host}:1{base}"), "connect to Postgres at"),
        (format!("postgres://jobctl:{secret}@{host}:{port}/none"), "connect to Postgres at"),
        (format!("postgres://jobctl:{secret}@{host}:notaport/x"), "no Postgres address"),
        (format!("postgres//jobctl:{secret}"), "no Postgres address"),
        (format!("postgres://jobctl:{secret}@{host}:{port}{base}?sslmode={secret}"), "no Postgres address"),
    ] {
        let output = db.command(["status"]).env("DATABASE_URL", &wrong).env("JOBCTL_LOG", "trace").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success() && said.contains(words), "{said}");
        assert!(!said.contains(secret), "{said}");
    }
    for store in [format!("s3://key:{secret}@bucket"), "s3://b".to_owned()] {
        let mut command = db.command(["db", "check"]);
        command.env("JOBCTL_STORE", store).env("AWS_ENDPOINT_URL", format!("https://me:{secret}@127.0.0.1:1"));
        let said = format!("{:?}", command.output().unwrap());
        assert!(said.contains("takes no key") && !said.contains(secret), "{said}");
    }
}
