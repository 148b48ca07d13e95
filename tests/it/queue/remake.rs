//! What is made again lives as what is enqueued now: whatever kind it is of, behind the limits in force, in its turn.

use jobctl::plan::EdgeKind::Needs;
use jobctl::queue::claim::Claimed;
use jobctl::queue::{control, remake};

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
