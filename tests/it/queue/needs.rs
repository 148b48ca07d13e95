//! What jobs ask of a slot, and who gets them.

use std::sync::Arc;
use std::time::Duration;

use jobctl::job::needs::{Needs, Offer};
use jobctl::job::outcome::Cause;
use jobctl::plan::Plan;
use jobctl::queue::claim::{Gpu, MemorySeen, claim, note_memory};
use jobctl::queue::lanes::raise_memory;
use jobctl::queue::settle;
use sqlx::AssertSqlSafe;

use crate::support::database::Database;
use crate::support::graph::{How, graph};

fn asking(name: &str, labels: &[&str], needs: Needs) -> Plan {
    let mut plan = graph(name, labels, &[]);
    let needs = Arc::new(needs);
    for job in &mut plan.jobs {
        job.needs = needs.clone();
    }
    plan
}

fn needs(n_gpus: u16, gpu_model: &str, gpu_memory_gib: u32, labels: &[&str]) -> Needs {
    let labels = labels.iter().map(|it| (*it).to_owned()).collect();
    Needs { n_gpus, gpu_model: gpu_model.to_owned(), gpu_memory_gib, labels }
}

fn offer(n_gpus: u16, gpu_model: &str, gpu_memory_gib: u32, labels: &[&str]) -> Offer {
    let labels = labels.iter().map(|it| (*it).to_owned()).collect();
    Offer { n_gpus, gpu_model: gpu_model.to_owned(), gpu_memory_gib, labels }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_gets_what_it_can_do_and_nothing_else() {
    let db = Database::new().await;
    let worker = db.worker().await;
    // What is asked for, and which of the offers below will do.
    let h100 = "NVIDIA H100 80GB HBM3";
    let offers = [
        offer(0, "", 0, &[]),
        offer(0, "", 0, &["disk", "lab"]),
        offer(1, "NVIDIA GeForce RTX 4090", 24, &[]),
        offer(1, h100, 80, &["lab"]),
        offer(2, h100, 80, &[]),
        offer(4, "", 141, &["disk"]),
    ];
    let asked = [
        (needs(0, "", 0, &[]), [true; 6]),
        (needs(0, "", 0, &["lab"]), [false, true, false, true, false, false]),
        (needs(0, "", 0, &["disk", "lab"]), [false, true, false, false, false, false]),
        (needs(1, "", 0, &[]), [false, false, true, true, true, true]),
        (needs(1, "h100", 0, &[]), [false, false, false, true, true, false]),
        (needs(1, "rtx 4090", 24, &[]), [false, false, true, false, false, false]),
        (needs(1, "", 25, &[]), [false, false, false, true, true, true]),
        (needs(1, "", 80, &["lab"]), [false, false, false, true, false, false]),
        (needs(1, "", 81, &[]), [false, false, false, false, false, true]),
        (needs(2, "", 0, &[]), [false, false, false, false, true, true]),
        (needs(2, "h100", 80, &[]), [false, false, false, false, true, false]),
        (needs(4, "", 141, &["disk"]), [false, false, false, false, false, true]),
        (needs(5, "", 0, &[]), [false; 6]),
    ];
    for (idx, (needs, fits)) in asked.iter().enumerate() {
        let label = format!("asks {idx}");
        db.submit(&asking(&label, &[&label], needs.clone())).await;
        for (offer, fits) in offers.iter().zip(fits) {
            assert_eq!(needs.lacks(offer).is_empty(), *fits, "{needs}: {offer:?}");
            let claimed = claim(&db.pool, worker, "slot", offer, None).await.unwrap();
            assert_eq!(claimed.is_some(), *fits, "{needs}: {offer:?}");
            if let Some(job) = claimed {
                db.settle(&job, How::Release).await.unwrap();
            }
        }
        db.execute("update job set held = true").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_merges_its_lanes_by_priority_and_turn() {
    let db = Database::new().await;
    let worker = db.worker().await;
    db.submit(&asking("gpu", &["a", "b"], Needs::gpu())).await;
    db.submit(&graph("any", &["c", "d"], &[])).await;
    let mut urgent = graph("urgent", &["e"], &[]);
    urgent.priority = 1;
    db.submit(&urgent).await;
    for label in ["e", "a", "c", "b", "d"] {
        let job = claim(&db.pool, worker, "cuda:0", &offer(1, "", 0, &[]), None).await.unwrap().unwrap();
        assert_eq!(job.id, db.job(label).await, "{label} is not the next one");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn needs_are_no_part_of_the_work() {
    let db = Database::new().await;
    let worker = db.worker().await;
    db.submit(&asking("first", &["a", "b"], needs(1, "h900", 0, &[]))).await;
    assert!(db.claim(worker).await.is_none());
    // Who asks last is asked: the same work for a machine that exists, in another sweep or in the same.
    let second = db.submit(&asking("second", &["a"], Needs::default())).await.unwrap();
    assert_eq!(second.is_new, [false]);
    db.work_on(worker, "a", How::Finish).await;
    assert!(db.claim(worker).await.is_none());
    assert!(db.submit(&asking("first", &["a", "b"], Needs::default())).await.is_none());
    db.work_on(worker, "b", How::Finish).await;
    assert_eq!(db.number("select count(*) from lane").await, 3, "one for each set of needs");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ran_out_of_memory_can_be_sent_to_a_larger_gpu() {
    let db = Database::new().await;
    let worker = db.worker().await;
    let (small, large) = (offer(1, "a", 40, &[]), offer(1, "a", 80, &[]));
    db.submit(&asking("big", &["a"], Needs::gpu())).await;
    let job = claim(&db.pool, worker, "cuda:0", &small, None).await.unwrap().unwrap();
    let mut tx = db.begin().await;
    assert!(!raise_memory(&mut tx, job.id, 40).await.unwrap(), "it runs");
    jobctl::queue::settle::release(&mut tx, job.id, job.lease).await.unwrap();
    assert!(raise_memory(&mut tx, job.id, 40).await.unwrap());
    assert!(!raise_memory(&mut tx, job.id, 40).await.unwrap(), "it asks for more already");
    tx.commit().await.unwrap();
    assert!(claim(&db.pool, worker, "cuda:0", &small, None).await.unwrap().is_none());
    assert_eq!(claim(&db.pool, worker, "cuda:1", &large, None).await.unwrap().unwrap().id, job.id);
}

/// A worker with one GPU of so many GiB.
async fn worker_with_gpu(db: &Database, memory_gib: u32) -> uuid::Uuid {
    let (device, slot) = ("cuda:0".to_owned(), "cuda:0".to_owned());
    db.worker_with(&[], &[Gpu { device, slot, model: "a".to_owned(), memory_gib }]).await
}

/// What other programs have of that GPU, in MiB.
async fn fill(db: &Database, worker: uuid::Uuid, foreign_mib: i32) {
    let seen = MemorySeen { device: "cuda:0".to_owned(), used_mib: foreign_mib + 500, foreign_mib: Some(foreign_mib) };
    note_memory(&db.pool, worker, &[seen]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_that_other_programs_have_is_not_offered_and_named_as_why_a_job_waits() {
    let db = Database::new().await;
    let worker = worker_with_gpu(&db, 80).await;
    db.submit(&asking("big", &["a"], needs(1, "", 60, &[]))).await;
    let why = async || {
        let said = jobctl::queue::why::waits(&db.pool, None, Duration::from_secs(60)).await.unwrap();
        said.into_iter().map(|it| it.words).collect::<Vec<_>>().join("; ")
    };
    fill(&db, worker, 500).await;
    assert!(!why().await.contains("no live worker"), "a desktop's share is nothing");
    fill(&db, worker, 30 << 10).await;
    let said = why().await;
    assert!(said.contains("no live worker") && said.contains("50 GiB"), "{said}");
    // A job that runs out of memory there may yet run on a GPU that is free.
    let free = worker_with_gpu(&db, 80).await;
    db.submit(&asking("any", &["b"], Needs::gpu())).await;
    let job = claim(&db.pool, worker, "cuda:0", &offer(1, "a", 50, &[]), None).await.unwrap().unwrap();
    let mut tx = db.begin().await;
    settle::retry_later(&mut tx, job.id, job.lease, Cause::Memory, "out of memory").await.unwrap();
    tx.commit().await.unwrap();
    db.all_due().await;
    assert!(claim(&db.pool, worker, "cuda:0", &offer(1, "a", 50, &[]), None).await.unwrap().is_none());
    for _ in 0..2 {
        assert!(claim(&db.pool, free, "cuda:0", &offer(1, "a", 80, &[]), None).await.unwrap().is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_that_runs_out_on_the_largest_gpu_of_all_is_tried_once_more_there() {
    let db = Database::new().await;
    let (small, other) = (worker_with_gpu(&db, 40).await, worker_with_gpu(&db, 40).await);
    let of_40 = offer(1, "a", 40, &[]);
    db.submit(&asking("big", &["a", "b"], Needs::gpu())).await;
    let run_out = async |worker, offer: &Offer| {
        db.all_due().await;
        let job = claim(&db.pool, worker, "cuda:0", offer, None).await.unwrap().expect("it is not kept waiting");
        let mut tx = db.begin().await;
        let again = settle::retry_later(&mut tx, job.id, job.lease, Cause::Memory, "out of memory").await.unwrap();
        tx.commit().await.unwrap();
        (job.id, again)
    };
    let (first, again) = run_out(small, &of_40).await;
    assert!(again);
    // Nobody has more: it is tried where it may be, and fails there in the end.
    let second = async || {
        let (job, again) = run_out(other, &of_40).await;
        if job == first { again } else { panic!("the other job is not first") }
    };
    db.execute("update job set priority = 7 where n_attempts > 0").await;
    assert!(!second().await);
    // Somebody has more by now: the next one goes there, and to nobody else.
    let large = worker_with_gpu(&db, 80).await;
    let (next, again) = run_out(small, &of_40).await;
    assert!(again && next != first);
    db.all_due().await;
    assert!(claim(&db.pool, small, "cuda:0", &of_40, None).await.unwrap().is_none());
    assert_eq!(claim(&db.pool, large, "cuda:0", &offer(1, "a", 80, &[]), None).await.unwrap().unwrap().id, next);
    db.check_laws().await;
}

/// How many pages one claim looks at, of a slot with something loaded.
async fn pages_of_a_claim(db: &Database) -> i64 {
    let mut query = include_str!("../../../src/queue/claim.sql").to_owned();
    let id = db.worker().await;
    let values = [
        ("$1", format!("'{id}'::uuid")),
        ("$2", "'cpu:0'::text".to_owned()),
        ("$3", "77::bigint".to_owned()),
        ("$4", "0".to_owned()),
        ("$5", "''".to_owned()),
        ("$6", "0".to_owned()),
        ("$7", "'{}'::text[]".to_owned()),
        ("$8", "'{}'::smallint[]".to_owned()),
    ];
    for (name, value) in values {
        query = query.replace(name, &value);
    }
    let mut tx = db.begin().await;
    let statement = format!("explain (analyze, buffers, format json) {query}");
    let plan: serde_json::Value = sqlx::query_scalar(AssertSqlSafe(statement)).fetch_one(&mut *tx).await.unwrap();
    tx.rollback().await.unwrap();
    let plan = &plan[0]["Plan"];
    assert_eq!(plan["Actual Rows"].as_f64(), Some(1.0), "a job was claimed");
    plan["Shared Hit Blocks"].as_i64().unwrap() + plan["Shared Read Blocks"].as_i64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_nobody_here_can_do_cost_a_claim_nothing() {
    let db = Database::new().await;
    db.submit(&graph("ready", &["a", "b"], &[])).await;
    let alone = pages_of_a_claim(&db).await;
    db.submit(&asking("h900", &["c"], needs(1, "h900", 0, &[]))).await;
    // At the head of the queue: jobs for another slot, jobs that are not due, jobs that are held, jobs at a limit.
    db.execute(
        "insert into job (id, key, kind, lane, priority, state, limit_s, task, turn, n_attempts, run_at, held)
        select 1000 + n, int8send(n), 'evaluate', case when n % 4 = 0 then (select lane from job where lane > 1) else 0 end,
            case when n % 4 = 1 then 0 else 100 end, 'ready', 60, '{}', -n, (n % 4 = 1)::int,
            case when n % 4 = 1 then now() + interval '1 hour' else now() end, n % 4 >= 2
        from generate_series(1, 20000) as n",
    )
    .await;
    db.execute("analyze job").await;
    let behind = pages_of_a_claim(&db).await;
    assert!(behind < alone + 60, "{behind} pages, {alone} without 20,000 jobs before it");
}
