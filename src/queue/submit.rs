//! Enqueueing a plan: what is new becomes jobs, what is known is shared, all in one transaction.

mod rows;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::Context;
use sqlx::types::Json;

use super::bulk::Batch;
use super::control::{hold, revive_sweep};
use super::lanes::{self, Gates, regate};
use super::locks::{lock_family, lock_sweep};
use super::settle::end;
use super::wake::Call;
use super::{Tx, deadlines, limit, order};
use crate::job::needs::Needs;
use crate::job::task::MetricId;
use crate::job::{Hash, State};
use crate::plan::{EdgeKind, Plan};

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

/// Takes over what the file says now of a sweep that is known: its priority, its limit and what its unfinished jobs ask of a
/// slot, none of which is part of a key; and revives what had been cancelled. `plan` is the whole plan. Returns how many jobs
/// live again. The caller is [`alone`](super::locks::alone).
///
/// # Errors
/// Postgres is out of reach.
pub async fn resubmit(tx: &mut Tx<'_>, sweep: i32, plan: &Plan) -> anyhow::Result<usize> {
    lock_sweep(tx, sweep).await?;
    order::set_priority(tx, sweep, plan.priority).await?;
    let n_revived = revive_sweep(tx, sweep).await?;
    let was = sqlx::query!(
        "select priority, (select max_running from gate where sweep_id = sweep.id) from sweep where id = $1",
        sweep
    )
    .fetch_one(&mut **tx)
    .await
    .context("look at the sweep")?;
    ask_anew(tx, plan).await?;
    deadlines::set(tx, sweep, &plan.limits).await?;
    let max_running = plan.max_running.map(i32::try_from).transpose()?;
    if was.max_running != max_running {
        limit::set(tx, limit::Of::Sweep(sweep), max_running).await?;
    }
    Ok(n_revived)
}

/// Moves the plan's unfinished jobs that do not run to the lanes of what the plan says they need.
async fn ask_anew(tx: &mut Tx<'_>, plan: &Plan) -> anyhow::Result<()> {
    let mut by_needs: BTreeMap<&Needs, Vec<Vec<u8>>> = BTreeMap::new();
    for job in &plan.jobs {
        by_needs.entry(&job.needs).or_default().push(job.key.0.to_vec());
    }
    for (needs, keys) in by_needs {
        let lane = lanes::lane(tx, needs, Gates::default()).await?;
        let moved = sqlx::query_scalar!(
            "with locked as (
                select job.id
                from job
                join job_key on job_key.job_id = job.id
                join lane as old on old.id = job.lane
                join lane as new on new.id = $2
                where job_key.key = any($1) and job.state <> 'running'
                    and (old.n_gpus, old.gpu_model, old.gpu_memory_gib, old.labels)
                        <> (new.n_gpus, new.gpu_model, new.gpu_memory_gib, new.labels)
                order by job.id
                for update of job
            )
            update job set lane = $2 where id in (select id from locked) returning id",
            &keys,
            lane
        )
        .fetch_all(&mut **tx)
        .await
        .context("move the jobs to the lanes of their needs")?;
        if !moved.is_empty() {
            regate(tx, &moved).await?;
        }
    }
    Ok(())
}

/// Makes the sweep and those of its jobs that are not known. `plan` holds what is left to compute
/// (see [`Plan::trim`]), `plan_key` is the key of the whole. The caller is [`alone`](super::locks::alone).
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
    let (sweep, ids) = begin(tx, plan, plan_key, &slug, definition, metrics, program).await?;
    let live = lock_live(tx, &ids.known).await?;
    if let Some(max_running) = plan.max_running {
        limit::set(tx, limit::Of::Sweep(sweep), Some(i32::try_from(max_running)?)).await?;
    }
    let places = Places::of(tx, plan, sweep).await?;
    let blockers = edges(plan, &ids, &live);
    let mut new = BTreeMap::new();
    for (idx, job) in plan.jobs.iter().enumerate() {
        if ids.is_new[idx] {
            *new.entry(job.task.kind().to_owned()).or_default() += 1;
        }
    }
    let mut batch = Batch::default();
    rows::keys(tx, &mut batch, plan, &ids).await?;
    rows::jobs(tx, &mut batch, plan, &ids, &places, &blockers.n_of_new).await?;
    rows::edges(tx, &mut batch, &blockers.rows).await?;
    rows::membership(tx, &mut batch, sweep, &ids.of).await?;
    batch.call(Call::Ready);
    batch.finish(tx).await?;
    block_live_children(tx, &blockers.n_of_live).await?;
    let n_revived = share(tx, plan, &ids.known).await?;
    if !ids.known.is_empty() {
        deadlines::set(tx, sweep, &plan.limits).await?;
        // The parents of new jobs are the plan's own: only known ones can have ended.
        skip_orphans(tx, sweep).await?;
    }
    Ok(Submitted { sweep, new, is_new: ids.is_new, n_revived })
}

/// Which row each planned job is.
struct Ids {
    of: Vec<i64>,
    is_new: Vec<bool>,
    /// The rows that existed before.
    known: Vec<i64>,
}

/// Makes the sweep's row, looks which of the jobs are known, and numbers the others.
async fn begin(
    tx: &mut Tx<'_>,
    plan: &Plan,
    plan_key: &Hash,
    slug: &str,
    definition: &str,
    metrics: &BTreeSet<MetricId>,
    program: &str,
) -> anyhow::Result<(i32, Ids)> {
    let keys: Vec<Vec<u8>> = plan.jobs.iter().map(|it| it.key.0.to_vec()).collect();
    // Nobody else takes ids: the enqueue lock is held.
    let rows = sqlx::query!(
        "with fresh as (
            insert into sweep (slug, name, plan_key, definition, on_failure, priority, program, metrics)
            values ($1, $2, $3, $4, $5, $6, $7, $8)
            returning id
        ),
        known as materialized (
            select key, job_id from job_key where key = any($9)
        ),
        numbered as (
            select setval('job_id_seq', nextval('job_id_seq') + cardinality($9) - (select count(*) from known)) as last
        )
        select fresh.id as \"sweep!\", last as \"last!\", key as \"key?\", job_id as \"job_id?\"
        from fresh cross join numbered left join known on true",
        slug,
        plan.name,
        &plan_key.0[..],
        definition,
        plan.on_failure.word(),
        plan.priority,
        program,
        Json(metrics) as _,
        &keys
    )
    .fetch_all(&mut **tx)
    .await
    .context("enqueue the sweep")?;
    let (sweep, last) = rows.first().map(|it| (it.sweep, it.last)).context("the sweep has no row")?;
    let known: HashMap<Vec<u8>, i64> = rows.into_iter().filter_map(|it| it.key.zip(it.job_id)).collect();
    let mut next = last - i64::try_from(keys.len() - known.len())?;
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
    Ok((sweep, ids))
}

/// Locks those of the known jobs that have not ended, so that none ends before we have made its edges.
/// The value says whether the job waits or is ready.
async fn lock_live(tx: &mut Tx<'_>, known: &[i64]) -> anyhow::Result<HashMap<i64, bool>> {
    if known.is_empty() {
        return Ok(HashMap::new());
    }
    // With what may live again for this sweep.
    lock_family(tx, known).await?;
    let rows = sqlx::query!("select id, state <> 'running' as \"idle!\" from job where id = any($1)", known)
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

/// The lanes of a plan's jobs, and where virtual time is in each.
struct Places {
    /// The lane, and the turn of a sweep that begins now, by needs and gate of the kind.
    lanes: HashMap<(Needs, i32), (i16, i64)>,
    /// The gate of each kind that has a limit.
    kind_gates: HashMap<String, i32>,
}

impl Places {
    async fn of(tx: &mut Tx<'_>, plan: &Plan, sweep: i32) -> anyhow::Result<Self> {
        let rows = sqlx::query!(
            "select id, kind from gate where max_running is not null and (sweep_id = $1 or kind is not null)",
            sweep
        )
        .fetch_all(&mut **tx)
        .await
        .context("look at the limits")?;
        let sweep_gate = rows.iter().find(|it| it.kind.is_none()).map_or(0, |it| it.id);
        let kind_gates = rows.into_iter().filter_map(|it| Some((it.kind?, it.id))).collect();
        let mut places = Self { lanes: HashMap::new(), kind_gates };
        let mut last: Option<(&Needs, &str)> = None;
        for job in &plan.jobs {
            // Most jobs ask for the same as the one before.
            let (needs, kind) = (&*job.needs, job.task.kind());
            if last == Some((needs, kind)) {
                continue;
            }
            last = Some((needs, kind));
            let key = (needs.clone(), places.kind_gate(kind));
            if places.lanes.contains_key(&key) {
                continue;
            }
            let gates = Gates { sweep: sweep_gate, kind: key.1 };
            let (lane, turn) = lanes::lane_now(tx, needs, gates, plan.priority).await?;
            places.lanes.insert(key, (lane, turn));
        }
        Ok(places)
    }

    fn kind_gate(&self, kind: &str) -> i32 {
        self.kind_gates.get(kind).copied().unwrap_or(0)
    }
}

async fn block_live_children(tx: &mut Tx<'_>, n_of: &BTreeMap<i64, i32>) -> anyhow::Result<()> {
    let (ids, counts): (Vec<i64>, Vec<i32>) = n_of.iter().filter(|(_, n)| **n > 0).unzip();
    if ids.is_empty() {
        return Ok(());
    }
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

/// Makes shared jobs serve this sweep too: the higher priority holds, nothing is held back for a paused or a limited
/// sweep, they need what this one says, and what had been cancelled lives again. Returns how many live again.
async fn share(tx: &mut Tx<'_>, plan: &Plan, known: &[i64]) -> anyhow::Result<usize> {
    if known.is_empty() {
        return Ok(0);
    }
    sqlx::query!(
        "update job set cancel_requested_at = null where id = any($1) and cancel_requested_at is not null",
        known
    )
    .execute(&mut **tx)
    .await
    .context("share the jobs")?;
    order::reorder(tx, known).await?;
    hold(tx, known).await?;
    ask_anew(tx, plan).await?;
    regate(tx, known).await?;
    let cancelled = sqlx::query_scalar!("select id from job_history where id = any($1) and state = 'cancelled'", known)
        .fetch_all(&mut **tx)
        .await
        .context("find cancelled jobs")?;
    if cancelled.is_empty() { Ok(0) } else { super::control::retry(tx, &cancelled).await }
}
