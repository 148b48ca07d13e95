//! Claims and ends of many jobs at a time are as those of one.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use jobctl::job::Lease;
use jobctl::job::needs::Offer;
use jobctl::plan::{EdgeKind, Plan};
use jobctl::queue::LeaseLost;
use jobctl::queue::batch::{claim_many, finish_many};
use jobctl::worker::desk::Desk;

use crate::support::database::Database;
use crate::support::graph::{How, graph};

fn slots(n: usize) -> Vec<String> {
    (0..n).map(|it| format!("cpu:{it}")).collect()
}

/// So many jobs that need nothing of each other.
fn plan(name: &str, n: usize) -> Plan {
    let labels: Vec<String> = (0..n).map(|it| format!("{name}{it}")).collect();
    graph(name, &labels.iter().map(String::as_str).collect::<Vec<_>>(), &[])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_takes_the_best_jobs_each_for_its_own_slot() {
    let db = Database::new().await;
    let worker = db.worker().await;
    let mut urgent = plan("urgent", 3);
    urgent.priority = 5;
    db.submit(&plan("usual", 4)).await;
    db.submit(&urgent).await;
    let best = claim_many(&db.pool, worker, &slots(5), &Offer::default()).await.unwrap();
    // Of one priority at a time.
    assert_eq!(best.len(), 3);
    for label in ["urgent0", "urgent1", "urgent2"] {
        let id = db.job(label).await;
        assert!(best.iter().any(|(_, job)| job.id == id), "{label} was passed over");
    }
    let places: HashSet<&String> = best.iter().map(|it| &it.0).collect();
    let leases: HashSet<Lease> = best.iter().map(|it| it.1.lease).collect();
    assert_eq!((places.len(), leases.len()), (3, 3));
    assert_eq!(db.number("select count(distinct slot) from job where state = 'running'").await, 3);
    assert_eq!(claim_many(&db.pool, worker, &slots(5), &Offer::default()).await.unwrap().len(), 4);
    assert!(claim_many(&db.pool, worker, &slots(5), &Offer::default()).await.unwrap().is_empty());
    db.check_laws().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_was_given_up_gets_no_batch() {
    let db = Database::new().await;
    let worker = db.worker().await;
    db.submit(&plan("some", 4)).await;
    db.execute("update worker set stopped_at = now()").await;
    assert!(claim_many(&db.pool, worker, &slots(4), &Offer::default()).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_ends_those_jobs_alone_whose_leases_hold() {
    let db = Database::new().await;
    let worker = db.worker().await;
    let edges = [(0, 3, EdgeKind::Needs), (1, 3, EdgeKind::Needs), (2, 4, EdgeKind::Needs)];
    db.submit(&graph("family", &["a", "b", "c", "d", "e"], &edges)).await;
    let jobs = claim_many(&db.pool, worker, &slots(3), &Offer::default()).await.unwrap();
    let mut pairs: Vec<_> = jobs.iter().map(|it| (it.1.id, it.1.lease)).collect();
    pairs.sort_unstable_by_key(|it| it.0.0);
    // The third is another's meanwhile.
    db.settle(&jobs.iter().find(|it| it.1.id == pairs[2].0).unwrap().1, How::Release).await.unwrap();
    let heir = db.claim(worker).await.unwrap();
    assert_eq!(heir.id, pairs[2].0);

    let mut tx = db.begin().await;
    let finished = finish_many(&mut tx, &pairs).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(finished, HashSet::from([pairs[0].1, pairs[1].1]));
    assert_eq!(db.state("d").await, "ready");
    assert_eq!((db.state("c").await, db.state("e").await), ("running".to_owned(), "waiting".to_owned()));
    db.check_laws().await;
    db.settle(&heir, How::Finish).await.unwrap();
    assert_eq!(db.state("e").await, "ready");
    db.check_laws().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_a_desk_do_every_job_once_and_none_beyond_its_limit() {
    let db = Database::new().await;
    let worker = db.worker().await;
    let mut limited = plan("limited", 30);
    limited.max_running = Some(2);
    limited.priority = 1;
    db.submit(&limited).await;
    db.submit(&plan("free", 200)).await;
    let desk = Arc::new(Desk::open(db.pool.clone(), Offer::default()));
    let mut executors = tokio::task::JoinSet::new();
    for idx in 0..32 {
        let (desk, pool) = (desk.clone(), db.pool.clone());
        executors.spawn(async move {
            let mut done = Vec::new();
            while let Some(job) = desk.claim(worker, &format!("cpu:{idx}")).await.unwrap() {
                let query =
                    "select count(*) from job join sweep_job on job_id = job.id join sweep on sweep.id = sweep_id
                    where job.state = 'running' and sweep.name = 'limited'";
                let n_limited: i64 = sqlx::query_scalar(query).fetch_one(&pool).await.unwrap();
                assert!(n_limited <= 2, "{n_limited} of the limited sweep run");
                desk.finish(job.id, job.lease).await.unwrap();
                assert!(desk.finish(job.id, job.lease).await.unwrap_err().is::<LeaseLost>());
                done.push(job.id.0);
            }
            done
        });
    }
    let mut times: BTreeMap<i64, usize> = BTreeMap::new();
    while let Some(done) = executors.join_next().await {
        done.unwrap().into_iter().for_each(|it| *times.entry(it).or_default() += 1);
    }
    // Who found the limit reached has gone home; the rest is for one alone.
    while let Some(job) = desk.claim(worker, "cpu:0").await.unwrap() {
        desk.finish(job.id, job.lease).await.unwrap();
        *times.entry(job.id.0).or_default() += 1;
    }
    assert_eq!(times.len(), 230);
    assert!(times.values().all(|it| *it == 1), "a job was done twice");
    db.check_laws().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_this_version_does_not_understand_is_left_to_others_and_fails_in_the_end() {
    let db = Database::new().await;
    let worker = db.worker().await;
    db.submit(&plan("x", 3)).await;
    db.execute("update job set task = '{\"kind\": \"dream\"}', priority = 3 where id = (select min(id) from job)")
        .await;
    // It goes first, and keeps nobody from the others.
    let mut claimed = Vec::new();
    while let Some(job) = db.claim(worker).await {
        claimed.push(job.id);
    }
    assert_eq!(claimed, [db.job("x1").await, db.job("x2").await]);
    db.execute("update job set run_at = now() where state = 'ready'").await;
    assert!(claim_many(&db.pool, worker, &slots(3), &Offer::default()).await.unwrap().is_empty());
    for _ in 0..5 {
        db.all_due().await;
        assert!(db.claim(worker).await.is_none());
    }
    let error = db.text("select error from job_history where state = 'failed'").await;
    assert!(error.contains("does not understand its task") && error.contains("dream"), "{error}");
    assert_eq!(db.number("select count(*) from attempt where outcome in ('retried', 'failed')").await, 3);
    db.check_laws().await;
}
