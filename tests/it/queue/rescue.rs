//! Rescuing: no orphan hides another, and the loss of the connection to Postgres makes none.

use std::time::Duration;

use jobctl::plan::EdgeKind;
use jobctl::queue::rescue::rescue;

use crate::support::database::Database;
use crate::support::graph::graph;

const STALE: Duration = Duration::from_secs(45);
const GRACE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_orphans_that_somebody_holds_hides_no_others() {
    let db = Database::new().await;
    let worker = db.worker().await;
    let labels: Vec<String> = (0..130).map(|it| it.to_string()).collect();
    db.submit(&graph("many", &labels.iter().map(String::as_str).collect::<Vec<_>>(), &[])).await;
    while db.claim(worker).await.is_some() {}
    db.execute("update worker set beat_at = now() - interval '1 hour'").await;
    let mut holder = db.begin().await;
    sqlx::query("select from job where id in (select id from job order by id limit 120) for update")
        .execute(&mut *holder)
        .await
        .unwrap();
    assert_eq!(rescue(&db.pool, STALE, GRACE).await.unwrap(), 10);
    holder.rollback().await.unwrap();
    assert_eq!(rescue(&db.pool, STALE, GRACE).await.unwrap(), 120);
    db.check_laws().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphan_that_cannot_be_rescued_keeps_no_other_from_it() {
    let db = Database::new().await;
    let worker = db.worker().await;
    db.submit(&graph("three", &["a", "b", "c"], &[])).await;
    while db.claim(worker).await.is_some() {}
    db.execute("update worker set beat_at = now() - interval '1 hour'").await;
    // Something is wrong with the first: its attempt may not be closed.
    db.execute(
        "create function refuse() returns trigger language plpgsql as $$
        begin
            if old.job_id = (select min(id) from job) then raise exception 'no'; end if;
            return new;
        end $$",
    )
    .await;
    db.execute("create trigger refuse before update on attempt for each row execute function refuse()").await;
    assert_eq!(rescue(&db.pool, STALE, GRACE).await.unwrap(), 2);
    assert_eq!(db.states().await, [("ready".to_owned(), 2), ("running".to_owned(), 1)].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_have_stopped_cost_a_rescue_nothing() {
    let db = Database::new().await;
    let worker = db.worker().await;
    db.execute(
        "insert into worker (id, host, pid, program, machine, n_slots, stopped_at)
        select gen_random_uuid(), 'host', 1, 'test', 'machine', 1, now() from generate_series(1, 5000)",
    )
    .await;
    db.execute("analyze worker").await;
    // As rescue asks.
    let plan: Vec<String> = sqlx::query_scalar(
        "explain select id from worker where stopped_at is null and beat_at < now() - make_interval(secs => 45)
        order by id for update skip locked",
    )
    .fetch_all(&db.pool)
    .await
    .unwrap();
    let plan = plan.join("\n");
    assert!(plan.contains("worker_alive") && !plan.contains("Seq Scan"), "{plan}");
    // And a beat still changes no index.
    let mut tx = db.begin().await;
    sqlx::query("update worker set beat_at = now() where id = $1 and stopped_at is null")
        .bind(worker)
        .execute(&mut *tx)
        .await
        .unwrap();
    let n_hot: i64 = sqlx::query_scalar("select pg_stat_get_xact_tuples_hot_updated('worker'::regclass)")
        .fetch_one(&mut *tx)
        .await
        .unwrap();
    assert_eq!(n_hot, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_databases_clock_counts() {
    let db = Database::new().await;
    let worker = db.worker().await;
    db.submit(&graph("one", &["a"], &[])).await;
    db.claim(worker).await.unwrap();
    // Half a minute ago by the database's clock, whatever clocks elsewhere say.
    db.execute("update worker set beat_at = now() - interval '30 s'").await;
    assert_eq!(rescue(&db.pool, STALE, GRACE).await.unwrap(), 0);
    assert_eq!(rescue(&db.pool, Duration::from_secs(29), GRACE).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphan_whose_dependant_somebody_holds_keeps_no_other_waiting() {
    let db = Database::new().await;
    let worker = db.worker().await;
    db.submit(&graph("some", &["first", "second", "third", "child"], &[(0, 3, EdgeKind::Needs)])).await;
    while db.claim(worker).await.is_some() {}
    db.execute("update worker set beat_at = now() - interval '1 hour'").await;
    let mut holder = db.begin().await;
    sqlx::query("select from job where id = $1 for update")
        .bind(db.job("child").await.0)
        .execute(&mut *holder)
        .await
        .unwrap();
    let rescued = tokio::time::timeout(Duration::from_secs(10), rescue(&db.pool, STALE, GRACE)).await;
    assert_eq!(rescued.expect("it does not wait for the holder").unwrap(), 2);
    assert_eq!(db.state("first").await, "running");
    holder.rollback().await.unwrap();
    assert_eq!(rescue(&db.pool, STALE, GRACE).await.unwrap(), 1);
    db.check_laws().await;
}
