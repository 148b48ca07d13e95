//! Sweeps from end to end, by one worker and by two.

use std::fs;

use super::{LONG, quick};
use crate::support::database::Database;
use crate::support::pictures::{LADDER, pictures, sweep};

#[tokio::test(flavor = "multi_thread")]
async fn a_run_scores_everything_and_renders_its_report() {
    let db = Database::new().await;
    let folder = db.home.path().join("photos");
    pictures(&folder, 12);
    let path = sweep(&folder, "ladder", LADDER, &["glcm_score", "compression_ratio", "psnr"]);
    let printed = db.jobctl(["run", path.to_str().unwrap()], 0);
    // Undamaged pictures have no reference.
    assert_eq!(db.number("select count(*) from score").await, 60 * 2 + 48);
    assert_eq!(db.number("select count(*) from image").await, 60);
    assert_eq!(db.number("select count(*) from job_history where state <> 'done'").await, 0);
    assert_eq!(db.number("select count(*) from set_score where metric = 'compression_ratio' and n = 12").await, 5);
    let report = printed.out.lines().find_map(|it| it.strip_prefix("report   ")).unwrap();
    let html = fs::read_to_string(report).unwrap();
    assert!(html.starts_with("<!") && html.contains("photos blur sigma=0.5"), "{report}");

    // Again: nothing is left to do, and the status is the same.
    let attempts = db.number("select count(*) from attempt").await;
    db.jobctl(["run", path.to_str().unwrap()], 0);
    assert_eq!(db.number("select count(*) from attempt").await, attempts);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_share_a_sweep_of_200_images_and_score_none_twice() {
    let db = Database::new().await;
    db.enqueue(&quick(&db, 200));
    let mut workers = [0, 1].map(|_| db.spawn(["worker", "--slots", "1", "--until-idle"]));
    for it in &mut workers {
        it.ends_with(0, LONG);
    }
    db.check_complete(200, 2).await;
    // 200 evaluations and the pool of each source.
    assert_eq!(db.number("select count(*) from attempt").await, db.n_ended().await);
    let least = "select min(n) from (select count(attempt.lease) as n from worker left join attempt on worker_id = id
        group by id) as of_worker";
    assert!(db.number(least).await > 0, "one worker did everything");
}
