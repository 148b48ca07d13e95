//! The database as people query it: README's examples, the views, the reader.

use std::fs;

use sqlx::AssertSqlSafe;

use crate::support::database::Database;
use crate::support::pictures::{LADDER, pictures, sweep};
use crate::support::{golden, root};

async fn finished() -> Database {
    let db = Database::new().await;
    let folder = db.home.path().join("photos");
    pictures(&folder, 3);
    fs::copy(golden("images/truncated.jpg"), folder.join("bad.jpg")).unwrap();
    fs::copy(golden("images/63x64.png"), folder.join("small.png")).unwrap();
    let path = sweep(&folder, "small", LADDER, &["glcm_score", "compression_ratio", "psnr", "ssim"]);
    db.jobctl(["run", path.to_str().unwrap()], 1);
    db
}

/// The ```sql blocks of a text.
fn examples(text: &str) -> Vec<String> {
    let mut examples = Vec::new();
    let mut lines = text.lines();
    while lines.any(|it| it.trim() == "```sql") {
        examples.push(lines.by_ref().take_while(|it| it.trim() != "```").collect::<Vec<_>>().join("\n"));
    }
    examples
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_of_the_readme_runs_and_answers() {
    let db = finished().await;
    let made = format!(
        "name = \"made\"\n[[generate]]\nname = \"tiny\"\nmodel = {:?}\nprompts = [\"a fox\"]\nsize = 64\nsteps = 1\n\
         t5_tokens = 16\ndtype = \"f32\"\n[evaluate]\nmetrics = [\"glcm_score\"]\n",
        golden("sd3/tiny")
    );
    let path = db.home.path().join("made.toml");
    fs::write(&path, made).unwrap();
    db.jobctl(["run", path.to_str().unwrap()], 0);
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let examples = examples(&readme);
    assert!(examples.len() >= 3, "README.md has {} queries", examples.len());
    for example in examples {
        for statement in example.split(';').filter(|it| !it.trim().is_empty()) {
            let rows = sqlx::query(AssertSqlSafe(statement.to_owned()))
                .fetch_all(&db.pool)
                .await
                .unwrap_or_else(|error| panic!("{error}\n{statement}"));
            assert!(!rows.is_empty(), "this gives no row on a sweep with everything in it:\n{statement}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_views_agree_with_the_tables() {
    let db = finished().await;
    // Three good pictures and a small one, undamaged and on four levels of blur; two metrics need a reference.
    assert_eq!(db.number("select count(*) from metric_history").await, 20 * 2 + 16 * 2);
    assert_eq!(
        db.number("select count(*) from metric_history where why is not null and metric = 'glcm_score'").await,
        5
    );
    let leaderboard = "select count(*) from leaderboard
        where metric = 'glcm_score' and n = 3 and n_undefined = 1 and mean between lowest and highest and sd > 0";
    assert_eq!(db.number(leaderboard).await, 5);
    assert_eq!(
        db.number("select count(*) from set_score_history where metric = 'compression_ratio' and n = 4").await,
        5
    );
    assert_eq!(db.text("select state from sweep_status").await, "ended");
    assert_eq!(db.number("select (jobs ->> 'failed')::bigint from sweep_status").await, 5);
    assert_eq!(db.number("select count(*) from failure where error like '%truncated%' and sample = 'bad'").await, 5);
    let mean = "select count(*) from leaderboard where abs(mean - (
            select avg(value) from metric_history as it
            where it.source = leaderboard.source and it.metric = leaderboard.metric and it.variant = leaderboard.variant
        )) > 1e-12 * abs(mean)";
    assert_eq!(db.number(mean).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_explains_itself() {
    let db = Database::new().await;
    let silent: Vec<String> = sqlx::query_scalar(
        "select relname::text from pg_class
        where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v') and not relispartition
            and relname <> '_sqlx_migrations' and obj_description(oid, 'pg_class') is null",
    )
    .fetch_all(&db.pool)
    .await
    .unwrap();
    assert!(silent.is_empty(), "no comment on {silent:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reader_reads_everything_and_writes_nothing() {
    let db = finished().await;
    let tables: Vec<String> = sqlx::query_scalar(
        "select relname::text from pg_class
        where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v') and relname <> '_sqlx_migrations'",
    )
    .fetch_all(&db.pool)
    .await
    .unwrap();
    assert!(tables.len() > 15);
    let as_reader = async |statement: String| {
        let mut tx = db.begin().await;
        sqlx::query("set local role jobctl_reader").execute(&mut *tx).await.unwrap();
        sqlx::query(AssertSqlSafe(statement)).execute(&mut *tx).await.map(drop)
    };
    for table in tables {
        as_reader(format!("select * from {table} limit 1")).await.unwrap_or_else(|error| panic!("{table}: {error}"));
        for statement in [format!("delete from {table}"), format!("insert into {table} default values")] {
            let error = as_reader(statement).await.unwrap_err();
            let code =
                error.as_database_error().and_then(sqlx::error::DatabaseError::code).map(std::borrow::Cow::into_owned);
            // Denied, or a view that nobody writes.
            assert!(matches!(code.as_deref(), Some("42501" | "55000" | "42809")), "{table}: {error}");
        }
    }
    for statement in ["create table mine (x int)", "select setval('job_id_seq', 1)", "drop table score"] {
        assert!(as_reader(statement.to_owned()).await.is_err(), "{statement}");
    }
    // Partitions that are made later are read too.
    sqlx::query("select ensure_months(24)").execute(&db.pool).await.unwrap();
    as_reader("select * from score_rest, job_history_rest".to_owned()).await.unwrap();
    let latest: String =
        sqlx::query_scalar("select max(relname)::text from pg_class where relname ~ '^score_20[0-9]{2}_[0-9]{2}$'")
            .fetch_one(&db.pool)
            .await
            .unwrap();
    as_reader(format!("select * from {latest}")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_opens_the_database() {
    let db = Database::new().await;
    let said = db.jobctl(["db", "psql", "--no-psqlrc", "-Atc", "select count(*) from sweep"], 0);
    assert_eq!(said.out.trim(), "0");
    assert_eq!(db.jobctl(["db", "url"], 0).out.trim(), db.url);
    assert!(db.jobctl(["db", "stop"], 2).err.contains("DATABASE_URL is set"));
}
