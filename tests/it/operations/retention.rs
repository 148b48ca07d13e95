//! Pruning: whole months go, and nothing that lives or may be asked for again is hurt.

use jobctl::plan::EdgeKind;

use crate::support::database::Database;
use crate::support::graph::{How, graph};
use crate::support::pictures::{pictures, sweep};

impl Database {
    /// Makes everything that has ended so far a thing of January 2025, a month with partitions of its own.
    async fn long_ago(&self) {
        for table in ["job_history", "score"] {
            let column = if table == "score" { "scored_at" } else { "ended_at" };
            for statement in [
                format!(
                    "create table if not exists {table}_2025_01 partition of {table}
                    for values from ('2025-01-01 00:00+00') to ('2025-02-01 00:00+00')"
                ),
                format!("update {table} set {column} = '2025-01-15 12:00+00'"),
            ] {
                sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&self.pool).await.unwrap();
            }
        }
    }

    fn prune(&self, more: &[&str]) -> String {
        self.jobctl([&["db", "prune", "--older-than", "180d"][..], more].concat(), 0).out
    }
}

/// A sweep with five jobs: done, failed, skipped for it, cancelled, and a pool over the failed one.
async fn mixed(db: &Database) {
    let plan = graph(
        "mixed",
        &["done", "failed", "skipped", "pool", "last"],
        &[(1, 2, EdgeKind::Needs), (0, 3, EdgeKind::After), (1, 3, EdgeKind::After)],
    );
    db.submit(&plan).await;
    let worker = db.worker().await;
    db.work_on(worker, "done", How::Finish).await;
    db.work_on(worker, "failed", How::Fail).await;
    db.work_on(worker, "pool", How::Finish).await;
    db.work_on(worker, "last", How::Finish).await;
    assert_eq!(db.number("select count(*) from job").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn done_work_goes_and_what_may_be_retried_stays() {
    let db = Database::new().await;
    mixed(&db).await;
    db.long_ago().await;
    let before = db.text("select jobs::text from sweep_status").await;
    let dump = db.dump().await;
    assert!(db.prune(&["--dry-run"]).contains("nothing was changed"));
    assert_eq!(db.dump().await, dump, "a dry run changes something");
    assert!(db.jobctl(["db", "prune", "--older-than", "180d"], 2).err.contains("--yes"));
    assert_eq!(db.dump().await, dump, "it did not ask");
    let said = db.prune(&["--yes"]);
    assert!(said.contains("gone     2 jobs"), "{said}");
    // The failed one, the one skipped for it, and the pool that a retry makes pool again.
    for (label, is_there) in [("done", false), ("last", false), ("failed", true), ("skipped", true), ("pool", true)] {
        let query = format!("select exists (select from every_job where id = {})::int::bigint", db.job(label).await.0);
        let n: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(query)).fetch_one(&db.pool).await.unwrap();
        assert_eq!(n == 1, is_there, "{label}");
    }
    assert_eq!(db.number("select count(*) from job_key").await, 5, "a key is gone");
    assert_eq!(db.text("select jobs::text from sweep_status").await, before, "the sweep's counts have changed");
    assert_eq!(db.number("select count(*) from attempt").await, 2);
    assert_eq!(db.number("select count(*) from pg_class where relname like '%2025_01%' and relname like '%job_history%' and relkind = 'r'").await, 0);
    // What is done is not done again, and what failed can be tried again, with what hangs on it.
    assert_eq!(db.number("select count(*) from job").await, 0);
    db.jobctl(["retry", "mixed"], 0);
    assert_eq!(db.state("failed").await, "ready");
    assert_eq!(db.state("skipped").await, "waiting");
    assert_eq!(db.state("pool").await, "waiting");
    let worker = db.worker().await;
    db.all_due().await;
    for label in ["failed", "skipped", "pool"] {
        db.work_on(worker, label, How::Finish).await;
    }
    assert_eq!(db.text("select jobs::text from sweep_status").await, "{\"done\": 5}");
    // A second prune finds nothing more.
    assert!(db.prune(&["--yes"]).contains("no month is that old"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_month_that_a_live_sweep_wants_stays() {
    let db = Database::new().await;
    db.submit(&graph("live", &["a", "b"], &[])).await;
    let worker = db.worker().await;
    db.work_on(worker, "a", How::Finish).await;
    db.long_ago().await;
    let said = db.prune(&["--yes", "--json"]);
    assert!(said.is_empty(), "{said}");
    let dry: serde_json::Value = serde_json::from_str(db.prune(&["--dry-run", "--json"]).trim()).unwrap();
    assert!(dry["kept_because"].as_str().unwrap().contains("is not over"), "{dry}");
    assert_eq!(db.state("a").await, "done");
    db.work_on(worker, "b", How::Finish).await;
    db.prune(&["--yes"]);
    assert_eq!(db.number("select count(*) from job_history where ended_at < '2025-02-01'").await, 0);
    db.check_sums().await;
}

impl Database {
    /// Every sweep's counts add up to what it once had.
    async fn check_sums(&self) {
        assert_eq!(self.text("select jobs::text from sweep_status").await, "{\"done\": 2}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prune_that_was_cut_off_is_ended_by_the_next() {
    let db = Database::new().await;
    mixed(&db).await;
    db.long_ago().await;
    // As it stands between the two steps: counted and detached, its attempts and edges still there.
    db.execute("insert into pruned select sweep_id, kind, state, count(*) from job_history_2025_01 join sweep_job on job_id = id where state = 'done' group by 1, 2, 3").await;
    db.execute("alter table job_history detach partition job_history_2025_01").await;
    db.execute("insert into job_history select * from job_history_2025_01 where state <> 'done'").await;
    db.execute("delete from job_history_2025_01 where state <> 'done'").await;
    db.execute("alter table job_history_2025_01 rename to pruning_job_history_2025_01").await;
    db.prune(&["--yes"]);
    assert_eq!(db.number("select count(*) from pg_class where relname like 'pruning%'").await, 0);
    assert_eq!(db.number("select count(*) from attempt").await, 1);
    assert_eq!(db.number("select count(*) from sweep_job").await, 2);
    assert_eq!(db.text("select jobs::text from sweep_status").await, "{\"done\": 3, \"failed\": 1, \"skipped\": 1}");
}

#[tokio::test(flavor = "multi_thread")]
async fn scores_go_only_when_asked_for_and_can_be_computed_again() {
    let db = Database::new().await;
    let folder = db.home.path().join("photos");
    pictures(&folder, 2);
    let path = sweep(&folder, "small", "", &["glcm_score"]);
    let path = path.to_str().unwrap();
    db.jobctl(["run", path], 0);
    db.long_ago().await;
    db.prune(&["--yes"]);
    assert_eq!(db.number("select count(*) from score").await, 2);
    assert_eq!(db.jobctl(["enqueue", path, "--json"], 0).json()["new"], serde_json::json!({}));
    let said = db.prune(&["--yes", "--scores"]);
    assert!(said.contains("2 scores"), "{said}");
    assert_eq!(db.number("select count(*) from score").await, 0);
    let ran = db.jobctl(["run", path], 0);
    assert_eq!(db.number("select count(*) from score").await, 2, "{} {}", ran.out, ran.err);
    assert_eq!(db.number("select count(*) from sweep where slug like '%.pruned-%'").await, 1);
}
