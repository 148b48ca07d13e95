//! Each role does its work, and nothing else.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sqlx::AssertSqlSafe;

use crate::support::database::Database;
use crate::support::golden;
use crate::support::pictures::{pictures, sweep};
use crate::support::process::Printed;

/// A login of this test's own, a member of `role` if it has a name.
struct Login {
    name: String,
    url: String,
}

impl Login {
    async fn new(db: &Database, role: &str) -> Self {
        static N: AtomicUsize = AtomicUsize::new(0);
        let name = format!("it_login_{}_{}", std::process::id(), N.fetch_add(1, Ordering::Relaxed));
        let member = if role.is_empty() { String::new() } else { format!(" in role {role}") };
        let statement = format!("create role {name} login password 'pass'{member}");
        sqlx::query(AssertSqlSafe(statement)).execute(&db.pool).await.unwrap();
        let mut url = url::Url::parse(&db.url).unwrap();
        url.set_username(&name).unwrap();
        url.set_password(Some("pass")).unwrap();
        Self { name, url: url.into() }
    }

    fn jobctl(&self, db: &Database, arguments: &[&str], status: i32) -> Printed {
        Printed::of(db.command(arguments).env("DATABASE_URL", &self.url).output().unwrap(), status)
    }

    /// Which of the statements it may do, each in a transaction that is rolled back.
    async fn may(&self, statements: &[&'static str]) -> Vec<&'static str> {
        let pool = jobctl::database::connect(&jobctl::config::Secret::new(self.url.as_str()), 1).await.unwrap();
        let mut allowed = Vec::new();
        for statement in statements {
            let mut tx = pool.begin().await.unwrap();
            match sqlx::query(*statement).execute(&mut *tx).await {
                Ok(_) => allowed.push(*statement),
                Err(error) => {
                    let code = error.as_database_error().and_then(|it| it.code().map(std::borrow::Cow::into_owned));
                    assert!(matches!(code.as_deref(), Some("42501")), "{statement}: {error}");
                }
            }
            tx.rollback().await.unwrap();
        }
        pool.close().await;
        allowed
    }

    async fn drop(self, db: &Database) {
        // A connection of a program that has just ended may linger.
        tokio::time::sleep(Duration::from_millis(100)).await;
        sqlx::query(AssertSqlSafe(format!("drop role {}", self.name))).execute(&db.pool).await.unwrap();
    }
}

/// What no role but the owner may do.
const NOBODYS: [&str; 12] = [
    "drop table score",
    "alter table job add column mine int",
    "create table mine (x int)",
    "truncate attempt",
    "delete from attempt",
    "delete from score",
    "update score set value = 0",
    "update job_key set job_id = 0",
    "delete from artifact",
    "select rolpassword from pg_authid",
    "copy job to program 'cat'",
    "set role jobctl_owner",
];

#[tokio::test(flavor = "multi_thread")]
async fn each_role_does_its_work_and_nothing_else() {
    let db = Database::new().await;
    for _ in 0..2 {
        assert!(db.jobctl(["db", "roles"], 0).out.contains("jobctl_worker"));
    }
    let folder = db.home.path().join("photos");
    pictures(&folder, 2);
    let path = sweep(&folder, "roles", "", &["glcm_score", "compression_ratio"]);
    let made = format!(
        "[[generate]]\nname = \"tiny\"\nmodel = {:?}\nprompts = [\"a fox\"]\nsize = 64\nsteps = 1\nt5_tokens = 16\n\
         dtype = \"f32\"\n\n[[reconstruct]]\nname = \"again\"\nmodel = {:?}\nof = \"photos\"\ndtype = \"f32\"\n\n[evaluate]",
        golden("sd3/tiny"),
        golden("sd3/tiny")
    );
    std::fs::write(&path, std::fs::read_to_string(&path).unwrap().replace("[evaluate]", &made)).unwrap();
    let path = path.to_str().unwrap();
    let worker = Login::new(&db, "jobctl_worker").await;
    let enqueuer = Login::new(&db, "jobctl_enqueuer").await;
    let reader = Login::new(&db, "jobctl_reader").await;
    let nobody = Login::new(&db, "").await;

    reader.jobctl(&db, &["enqueue", path], 1);
    worker.jobctl(&db, &["enqueue", path], 1);
    assert_eq!(db.number("select count(*) from sweep").await, 0);
    enqueuer.jobctl(&db, &["enqueue", path], 0);
    for verb in ["pause", "resume", "cancel", "retry"] {
        enqueuer.jobctl(&db, &[verb, "roles"], 0);
    }

    let said = reader.jobctl(&db, &["worker", "--until-idle"], 1).err;
    assert!(said.contains("insert on job_history") && said.contains("update (cancelled_at) on sweep"), "{said}");
    assert!(said.contains(&format!("grant jobctl_worker to {}", reader.name)), "{said}");
    let said = nobody.jobctl(&db, &["worker", "--until-idle"], 1).err;
    assert!(said.contains("`jobctl db roles`") && said.contains(&nobody.name), "{said}");
    enqueuer.jobctl(&db, &["worker", "--until-idle"], 1);
    assert_eq!(db.number("select count(*) from attempt").await, 0);

    worker.jobctl(&db, &["worker", "--until-idle", "--slots", "2"], 0);
    db.check_laws().await;
    assert_eq!(db.number("select count(*) from job_history where state <> 'done'").await, 0);
    assert!(db.number("select count(*) from score").await >= 5);
    // It may have made again what is gone, though it may not touch what has ended.
    let hash = db.text("select encode(artifact, 'hex') from generation").await;
    std::fs::remove_file(db.home.path().join("artifacts").join(&hash[..2]).join(&hash)).unwrap();
    let text = std::fs::read_to_string(path)
        .unwrap()
        .replace("\"glcm_score\"", "\"glcm_entropy\"")
        .replace("\"roles\"", "\"more\"");
    let more = db.home.path().join("more.toml");
    std::fs::write(&more, text).unwrap();
    enqueuer.jobctl(&db, &["enqueue", more.to_str().unwrap()], 0);
    worker.jobctl(&db, &["worker", "--until-idle", "--slots", "2"], 0);
    assert_eq!(db.number("select count(*) from job_history where state <> 'done'").await, 0);
    for who in [&reader, &enqueuer] {
        for verb in [&["status"][..], &["jobs"], &["report", "roles"], &["db", "check"]] {
            who.jobctl(&db, verb, 0);
        }
    }

    let nothing: [&str; 0] = [];
    for who in [&worker, &enqueuer, &reader, &nobody] {
        assert_eq!(who.may(&NOBODYS).await, nothing, "{}", who.url);
    }
    let history = [
        "delete from job_history",
        "update job_history set state = 'failed', error = 'x'",
        "insert into sweep (slug) values ('x')",
        "update sweep set definition = 'x'",
        "insert into job_key values ('\\x00', 1)",
        "update image set recipe = '{}'",
        "update generation set prompt = 'x'",
    ];
    assert_eq!(worker.may(&history).await, nothing);
    let results =
        ["insert into score default values", "update image set preview = null", "insert into attempt default values"];
    assert_eq!(enqueuer.may(&results).await, nothing);
    for login in [worker, enqueuer, reader, nobody] {
        login.drop(&db).await;
    }
}
