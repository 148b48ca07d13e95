//! What is made again lives as what is enqueued now: whatever kind it is of, behind the limits in force, in its turn.

use jobctl::plan::EdgeKind::Needs;
use jobctl::queue::claim::Claimed;
use jobctl::queue::limit::{self, Of};
use jobctl::queue::{control, order, remake};

use crate::support::database::Database;
use crate::support::graph::{How, graph};

impl Database {
    /// Writes that a job has made an artifact.
    async fn made(&self, label: &str) {
        for statement in [
            "insert into artifact (hash, bytes, media) select sha256(key), 1, 'text/plain' from job_key where job_id = $1",
            "insert into job_output (key, job_id, artifact) select key, job_id, sha256(key) from job_key where job_id = $1",
        ] {
            sqlx::query(statement).bind(self.job(label).await.0).execute(&self.pool).await.unwrap();
        }
    }

    /// Says that what `maker` has made is gone, and that this job needs it.
    async fn remake(&self, job: &Claimed, maker: &str) {
        let mut tx = self.begin().await;
        let makers = [self.job(maker).await];
        assert!(remake::remake(&mut tx, job.id, job.lease, &makers, "it is gone").await.unwrap());
        tx.commit().await.unwrap();
        self.check_laws().await;
        self.all_due().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_has_made_an_artifact_makes_it_again() {
    let db = Database::new().await;
    let worker = db.worker().await;
    for kind in ["prepare", "finetune", "encode"] {
        let [maker, user] = [format!("{kind} a"), format!("{kind} b")];
        db.submit(&graph(kind, &[&maker, &user], &[(0, 1, Needs)])).await;
        db.work_on(worker, &maker, How::Finish).await;
        db.made(&maker).await;
        sqlx::query("update job_history set kind = $1 where id = $2")
            .bind(kind)
            .bind(db.job(&maker).await.0)
            .execute(&db.pool)
            .await
            .unwrap();
        // A worker finds that it is gone.
        let job = db.claim(worker).await.unwrap();
        db.remake(&job, &maker).await;
        assert_eq!(
            (db.state(&maker).await, db.state(&user).await),
            ("ready".to_owned(), "waiting".to_owned()),
            "{kind}"
        );
        db.work_on(worker, &maker, How::Finish).await;
        // What needed it has failed for want of it, and a person asks for it again.
        db.work_on(worker, &user, How::Fail).await;
        let mut tx = db.begin().await;
        assert_eq!(control::redo(&mut tx, &[db.job(&maker).await.0]).await.unwrap(), 2, "{kind}");
        tx.commit().await.unwrap();
        db.work_on(worker, &maker, How::Finish).await;
        db.work_on(worker, &user, How::Finish).await;
    }
    // What has made none is done for good.
    db.submit(&graph("scores", &["scored"], &[])).await;
    db.work_on(worker, "scored", How::Finish).await;
    let mut tx = db.begin().await;
    assert_eq!(control::redo(&mut tx, &[db.job("scored").await.0]).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lane_of_a_sweep_that_is_over_keeps_nothing_that_is_made_again() {
    let db = Database::new().await;
    let worker = db.worker().await;
    let mut limited = graph("limited", &["a"], &[]);
    limited.max_running = Some(1);
    db.submit(&limited).await;
    db.work_on(worker, "a", How::Finish).await;
    db.made("a").await;
    // As it is done where there are many.
    db.execute("update lane set closed_at = now() where sweep_gate <> 0").await;
    db.submit(&graph("free", &["a", "b"], &[(0, 1, Needs)])).await;
    let job = db.claim(worker).await.unwrap();
    db.remake(&job, "a").await;
    db.work_on(worker, "a", How::Finish).await;
    db.work_on(worker, "b", How::Finish).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_again_keeps_to_the_limits_and_priorities_of_now() {
    let db = Database::new().await;
    let worker = db.worker().await;
    let sweep = db.submit(&graph("s", &["a", "c", "b", "d"], &[(0, 2, Needs), (1, 3, Needs)])).await.unwrap().sweep;
    for maker in ["a", "c"] {
        db.work_on(worker, maker, How::Finish).await;
        db.made(maker).await;
    }
    let (b, d) = (db.claim(worker).await.unwrap(), db.claim(worker).await.unwrap());
    let mut tx = db.begin().await;
    limit::set(&mut tx, Of::Sweep(sweep), Some(1)).await.unwrap();
    order::set_priority(&mut tx, sweep, 7).await.unwrap();
    tx.commit().await.unwrap();
    db.remake(&b, "a").await;
    assert!(db.claim(worker).await.is_none(), "one runs, and one may");
    db.remake(&d, "c").await;
    assert_eq!(db.number("select count(*) from job where priority = 7").await, 4);
    assert!(db.claim(worker).await.is_some());
    assert!(db.claim(worker).await.is_none(), "one runs, and one may");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_paused_sweep_wants_is_made_again_later() {
    let db = Database::new().await;
    let worker = db.worker().await;
    let sweep = db.submit(&graph("s", &["a", "b"], &[(0, 1, Needs)])).await.unwrap().sweep;
    db.work_on(worker, "a", How::Finish).await;
    db.made("a").await;
    let job = db.claim(worker).await.unwrap();
    let mut tx = db.begin().await;
    control::set_paused(&mut tx, sweep, true).await.unwrap();
    tx.commit().await.unwrap();
    db.remake(&job, "a").await;
    assert_eq!(db.state("a").await, "held");
    assert!(db.claim(worker).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_again_takes_its_turn() {
    let db = Database::new().await;
    let worker = db.worker().await;
    db.submit(&graph("s", &["a", "b"], &[(0, 1, Needs)])).await;
    db.work_on(worker, "a", How::Finish).await;
    db.made("a").await;
    let job = db.claim(worker).await.unwrap();
    let labels: Vec<String> = (0..40).map(|it| format!("other {it}")).collect();
    db.submit(&graph("others", &labels.iter().map(String::as_str).collect::<Vec<_>>(), &[])).await;
    for _ in 0..20 {
        let other = db.claim(worker).await.unwrap();
        db.settle(&other, How::Finish).await.unwrap();
    }
    let now = db.number("select turn_now(0::smallint, 0::smallint)").await;
    assert!(now >= 20);
    db.remake(&job, "a").await;
    assert_eq!(db.number("select turn from job where state = 'ready' order by id limit 1").await, now);
}
