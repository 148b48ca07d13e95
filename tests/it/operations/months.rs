//! The partitions of the months to come are made beside whoever reads and works.

use std::time::Duration;

use jobctl::database::migrate;
use tokio::time::timeout;

use crate::support::database::Database;
use crate::support::graph::{How, graph};

const N_MONTHS: &str = "select count(*) from pg_inherits
    where inhparent in ('job_history'::regclass, 'score'::regclass) and inhrelid::regclass::text !~ 'rest'";

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_who_stays_keeps_nobody_from_working() {
    let db = Database::new().await;
    db.submit(&graph("two", &["a", "b"], &[])).await;
    let worker = db.worker().await;
    db.work_on(worker, "a", How::Finish).await;
    let n_months = db.number(N_MONTHS).await;
    let mut reader = db.begin().await;
    sqlx::query("select count(*) from job_history").fetch_one(&mut *reader).await.unwrap();

    // A month is missing; a job ends while somebody tries to make it.
    let pool = db.pool.clone();
    let making = tokio::spawn(async move { sqlx::query("select ensure_months(4)").execute(&pool).await });
    let waits = "select count(*) from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock' and query like '%ensure_months(4)%'";
    while !making.is_finished() && db.number(waits).await == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    timeout(Duration::from_secs(20), db.work_on(worker, "b", How::Finish)).await.expect("the job's end waits");
    timeout(Duration::from_secs(20), making).await.expect("it waits for the reader").unwrap().unwrap();
    assert_eq!(db.number(N_MONTHS).await, n_months, "none was made under the reader's eyes");

    reader.commit().await.unwrap();
    db.execute("select ensure_months(4)").await;
    assert_eq!(db.number(N_MONTHS).await, n_months + 2);
    // As the others are: with the parent's indexes and constraints, and no more.
    let unlike = "with part as (
            select left(relname, -8) as parent,
                (select array_agg(regexp_replace(pg_get_indexdef(indexrelid), '^.* USING', '') order by indkey::text, indisprimary)
                    from pg_index where indrelid = pg_class.oid)::text as indexes,
                (select array_agg(pg_get_constraintdef(oid) order by pg_get_constraintdef(oid)) from pg_constraint where conrelid = pg_class.oid)::text as laws
            from pg_class where relispartition and relkind = 'r' and relname ~ '_[0-9]{4}_[0-9]{2}$'
        )
        select count(distinct (indexes, laws)) - count(distinct parent) from part";
    assert_eq!(db.number(unlike).await, 0);
    assert_eq!(db.number("select count(*) from pg_index where not indisvalid").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn months_that_are_there_are_not_locked() {
    let db = Database::new().await;
    let mut holder = db.begin().await;
    sqlx::query("lock table job_history, score in access exclusive mode").execute(&mut *holder).await.unwrap();
    sqlx::query("select pg_advisory_xact_lock(hashtext('jobctl months'))").execute(&mut *holder).await.unwrap();
    timeout(Duration::from_secs(20), migrate(&db.pool)).await.expect("it waits").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_month_that_has_begun_in_the_rest_stays_there() {
    let db = Database::new().await;
    let n_months = db.number(N_MONTHS).await;
    db.submit(&graph("one", &["a"], &[])).await;
    let worker = db.worker().await;
    db.work_on(worker, "a", How::Finish).await;
    db.execute("update job_history set ended_at = date_trunc('month', now()) + interval '4 months 10 days'").await;
    db.execute("select ensure_months(5)").await;
    assert_eq!(db.number(N_MONTHS).await, n_months + 3, "two of scores, one of jobs");
    assert_eq!(db.number("select count(*) from job_history_rest").await, 1);
}
