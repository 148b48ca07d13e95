//! Enqueueing a plan: what is new becomes jobs, what is known is shared, all in one transaction.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::Context;
use sqlx::types::Json;

use super::Tx;
use super::bulk::{Row, copy};
use super::control::{hold, revive_sweep};
use super::settle::end;
use super::wake::{Call, notify};
use crate::job::task::MetricId;
use crate::job::{Hash, State};
use crate::plan::{EdgeKind, Job, Plan};

/// Jobs that any slot takes.
pub const LANE_CPU: i16 = 0;
/// Jobs that only a slot with CUDA takes.
pub const LANE_CUDA: i16 = 1;

/// What enqueueing did.
#[derive(Debug)]
pub struct Submitted {
    /// The sweep's row.
    pub sweep: i32,
    /// Jobs that were not known before, by kind.
    pub new: BTreeMap<String, usize>,
    /// Which of the plan's jobs those are.
    pub is_new: Vec<bool>,
    /// Jobs of this sweep that had been cancelled and live again.
    pub n_revived: usize,
}

/// The sweep's id for people: its name and the first digits of its plan's key.
pub fn slug(plan_name: &str, plan_key: &Hash) -> String {
    let name: String =
        plan_name.chars().map(|it| if it.is_ascii_alphanumeric() || it == '_' { it } else { '-' }).take(40).collect();
    format!("{name}-{}", plan_key.short())
}

/// Keeps two enqueues from racing for the same keys; held until the transaction ends.
///
/// # Errors
/// Postgres is out of reach.
pub async fn lock(tx: &mut Tx<'_>) -> anyhow::Result<()> {
    sqlx::query!("select pg_advisory_xact_lock(hashtext('jobctl enqueue'))").execute(&mut **tx).await?;
    Ok(())
}

/// The row of a sweep whose plan has this key, if it was enqueued before.
///
/// # Errors
/// Postgres is out of reach.
pub async fn find(tx: &mut Tx<'_>, plan_key: &Hash) -> anyhow::Result<Option<i32>> {
    sqlx::query_scalar!("select id from sweep where plan_key = $1", &plan_key.0[..])
        .fetch_optional(&mut **tx)
        .await
        .context("look for the sweep")
}

/// Revives what had been cancelled of a sweep that is known. Returns how many jobs live again.
///
/// # Errors
/// Postgres is out of reach.
pub async fn resubmit(tx: &mut Tx<'_>, sweep: i32) -> anyhow::Result<usize> {
    revive_sweep(tx, sweep).await
}

/// Makes the sweep and those of its jobs that are not known. `plan` holds what is left to compute
/// (see [`Plan::trim`]), `plan_key` is the key of the whole. The caller holds [`lock`].
///
/// # Errors
/// Postgres is out of reach; nothing is written then.
pub async fn submit(
    tx: &mut Tx<'_>,
    plan: &Plan,
    plan_key: &Hash,
    definition: &str,
    metrics: &BTreeSet<MetricId>,
    program: &str,
) -> anyhow::Result<Submitted> {
    let slug = slug(&plan.name, plan_key);
    let sweep = sqlx::query_scalar!(
        "insert into sweep (slug, name, plan_key, definition, on_failure, priority, program, metrics)
        values ($1, $2, $3, $4, $5, $6, $7, $8)
        returning id",
        slug,
        plan.name,
        &plan_key.0[..],
        definition,
        plan.on_failure.word(),
        plan.priority,
        program,
        Json(metrics) as _
    )
    .fetch_one(&mut **tx)
    .await
    .context("enqueue the sweep")?;

    let ids = assign_ids(tx, plan).await?;
    let live = lock_live(tx, &ids.known).await?;
    let blockers = edges(plan, &ids, &live);
    let mut new = BTreeMap::new();
    for (idx, job) in plan.jobs.iter().enumerate() {
        if ids.is_new[idx] {
            *new.entry(job.task.kind().to_owned()).or_default() += 1;
        }
    }
    copy_keys(tx, plan, &ids).await?;
    copy_jobs(tx, plan, &ids, &blockers.n_of_new).await?;
    copy_edges(tx, &blockers.rows).await?;
    copy_membership(tx, sweep, &ids.of).await?;
    block_live_children(tx, &blockers.n_of_live).await?;
    let n_revived = share(tx, plan.priority, &ids.known).await?;
    skip_orphans(tx, sweep).await?;
    notify(tx, Call::Ready).await?;
    Ok(Submitted { sweep, new, is_new: ids.is_new, n_revived })
}

/// Which row each planned job is.
struct Ids {
    of: Vec<i64>,
    is_new: Vec<bool>,
    /// The rows that existed before.
    known: Vec<i64>,
}

async fn assign_ids(tx: &mut Tx<'_>, plan: &Plan) -> anyhow::Result<Ids> {
    let keys: Vec<Vec<u8>> = plan.jobs.iter().map(|it| it.key.0.to_vec()).collect();
    let rows = sqlx::query!("select key, job_id from job_key where key = any($1)", &keys)
        .fetch_all(&mut **tx)
        .await
        .context("look for equal jobs")?;
    let known: HashMap<Vec<u8>, i64> = rows.into_iter().map(|it| (it.key, it.job_id)).collect();
    let n_new = plan.jobs.len() - known.len();
    // Nobody else takes ids: the enqueue lock is held.
    let last = sqlx::query_scalar!(
        "select setval('job_id_seq', nextval('job_id_seq') + $1) as \"last!\"",
        i64::try_from(n_new)?
    )
    .fetch_one(&mut **tx)
    .await
    .context("number the jobs")?;
    let mut next = last - i64::try_from(n_new)?;
    let mut ids = Ids { of: Vec::with_capacity(keys.len()), is_new: Vec::with_capacity(keys.len()), known: Vec::new() };
    for key in &keys {
        if let Some(id) = known.get(key) {
            ids.of.push(*id);
            ids.is_new.push(false);
            ids.known.push(*id);
        } else {
            ids.of.push(next);
            ids.is_new.push(true);
            next += 1;
        }
    }
    Ok(ids)
}

/// Locks those of the known jobs that have not ended, so that none ends before we have made its edges.
/// The value says whether the job waits or is ready.
async fn lock_live(tx: &mut Tx<'_>, known: &[i64]) -> anyhow::Result<HashMap<i64, bool>> {
    let rows = sqlx::query!(
        "select id, state <> 'running' as \"idle!\" from job where id = any($1) order by id for update",
        known
    )
    .fetch_all(&mut **tx)
    .await
    .context("lock the jobs that are shared")?;
    Ok(rows.into_iter().map(|it| (it.id, it.idle)).collect())
}

struct Edges {
    /// Parent, child, whether the child needs the parent's result.
    rows: Vec<(i64, i64, bool)>,
    /// How many unfinished parents each new job has, by its id.
    n_of_new: HashMap<i64, i32>,
    /// How many parents more each known, idle job has now.
    n_of_live: BTreeMap<i64, i32>,
}

fn edges(plan: &Plan, ids: &Ids, live: &HashMap<i64, bool>) -> Edges {
    let mut edges = Edges { rows: Vec::new(), n_of_new: HashMap::new(), n_of_live: BTreeMap::new() };
    let mut seen = BTreeSet::new();
    for edge in &plan.edges {
        let (parent, child) = (ids.of[edge.parent], ids.of[edge.child]);
        let parent_unfinished = ids.is_new[edge.parent] || live.contains_key(&parent);
        let n_blockers = if ids.is_new[edge.child] {
            edges.n_of_new.entry(child).or_default()
        } else if live.get(&child) == Some(&true) && ids.is_new[edge.parent] {
            edges.n_of_live.entry(child).or_default()
        } else {
            // The child has ended or runs: it was made from equal work and stays as it is.
            continue;
        };
        if !seen.insert((parent, child)) {
            continue;
        }
        *n_blockers += i32::from(parent_unfinished);
        edges.rows.push((parent, child, edge.kind == EdgeKind::Needs));
    }
    edges
}

async fn copy_keys(tx: &mut Tx<'_>, plan: &Plan, ids: &Ids) -> anyhow::Result<()> {
    // In the order of the index: neighbours go to the same page.
    let mut keys: Vec<(Hash, i64)> = new_jobs(plan, ids).map(|(job, id)| (job.key, id)).collect();
    keys.sort_unstable();
    copy(tx, "copy job_key (key, job_id) from stdin (format binary)", keys, |row, (key, id)| {
        row.hash(&key)?;
        row.int8(id)
    })
    .await
}

async fn copy_jobs(tx: &mut Tx<'_>, plan: &Plan, ids: &Ids, n_blockers: &HashMap<i64, i32>) -> anyhow::Result<()> {
    copy(
        tx,
        "copy job (id, key, kind, lane, priority, state, n_blockers, limit_s, subject, affinity, megapixels, task)
        from stdin (format binary)",
        new_jobs(plan, ids),
        |row, (job, id)| {
            let n = n_blockers.get(&id).copied().unwrap_or(0);
            row.int8(id)?;
            row.hash(&job.key)?;
            row.text(job.task.kind())?;
            row.int2(if job.task.needs_cuda() { LANE_CUDA } else { LANE_CPU })?;
            row.int2(plan.priority)?;
            row.text(if n > 0 { "waiting" } else { "ready" })?;
            row.int4(n)?;
            row.int4(i32::try_from(job.task.limit().as_secs()).unwrap_or(i32::MAX))?;
            row.maybe(job.subject.as_ref(), Row::hash)?;
            row.maybe(job.affinity.map(|it| it.first_8_bytes()), Row::int8)?;
            row.float4(job.megapixels)?;
            row.text(&serde_json::to_string(&job.task)?)
        },
    )
    .await
}

fn new_jobs<'a>(plan: &'a Plan, ids: &'a Ids) -> impl Iterator<Item = (&'a Job, i64)> {
    let jobs = plan.jobs.iter().zip(&ids.of).zip(&ids.is_new);
    jobs.filter(|(_, is_new)| **is_new).map(|((job, id), _)| (job, *id))
}

async fn copy_edges(tx: &mut Tx<'_>, rows: &[(i64, i64, bool)]) -> anyhow::Result<()> {
    let statement = "copy job_edge (parent, child, needs) from stdin (format binary)";
    copy(tx, statement, rows, |row, &(parent, child, needs)| {
        row.int8(parent)?;
        row.int8(child)?;
        row.bool(needs)
    })
    .await
}

async fn copy_membership(tx: &mut Tx<'_>, sweep: i32, jobs: &[i64]) -> anyhow::Result<()> {
    copy(tx, "copy sweep_job (sweep_id, job_id) from stdin (format binary)", jobs, |row, &job| {
        row.int4(sweep)?;
        row.int8(job)
    })
    .await
}

async fn block_live_children(tx: &mut Tx<'_>, n_of: &BTreeMap<i64, i32>) -> anyhow::Result<()> {
    let (ids, counts): (Vec<i64>, Vec<i32>) = n_of.iter().filter(|(_, n)| **n > 0).unzip();
    sqlx::query!(
        "update job set n_blockers = n_blockers + more.n, state = 'waiting'
        from unnest($1::bigint[], $2::int[]) as more (id, n)
        where job.id = more.id",
        &ids,
        &counts
    )
    .execute(&mut **tx)
    .await
    .context("block the shared jobs")?;
    Ok(())
}

/// Skips the new jobs that need the result of a known one which has ended without: retrying that one revives them.
async fn skip_orphans(tx: &mut Tx<'_>, sweep: i32) -> anyhow::Result<()> {
    let orphans = sqlx::query_scalar!(
        "select distinct job.id
        from sweep_job
        join job on job.id = sweep_job.job_id
        join job_edge on job_edge.child = job.id and job_edge.needs
        join job_history as parent on parent.id = job_edge.parent
        where sweep_job.sweep_id = $1 and parent.state <> 'done' and job.state <> 'running'",
        sweep
    )
    .fetch_all(&mut **tx)
    .await
    .context("find jobs whose parents have failed before")?;
    let error = "a job that it needs had ended without a result before";
    if orphans.is_empty() { Ok(()) } else { end(tx, &orphans, State::Skipped, Some(error)).await }
}

/// Makes shared jobs serve this sweep too: the higher priority holds, nothing is held back for a paused
/// sweep, and what had been cancelled lives again. Returns how many live again.
async fn share(tx: &mut Tx<'_>, priority: i16, known: &[i64]) -> anyhow::Result<usize> {
    if known.is_empty() {
        return Ok(0);
    }
    sqlx::query!(
        "update job set priority = greatest(priority, $2), cancel_requested_at = null where id = any($1)",
        known,
        priority
    )
    .execute(&mut **tx)
    .await
    .context("share the jobs")?;
    hold(tx, known).await?;
    let cancelled = sqlx::query_scalar!("select id from job_history where id = any($1) and state = 'cancelled'", known)
        .fetch_all(&mut **tx)
        .await
        .context("find cancelled jobs")?;
    if cancelled.is_empty() { Ok(0) } else { super::control::retry(tx, &cancelled).await }
}
