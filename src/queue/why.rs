//! Why jobs wait: blocked, held, not due, at a limit, nobody has what they need, or others are before them.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;
use sqlx::{PgExecutor, PgPool};

use super::Tx;
use crate::job::JobId;
use crate::job::needs::{Needs, Offer};

/// Why some jobs wait.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Wait {
    /// What keeps them.
    pub why: Why,
    /// How many.
    pub n_jobs: i64,
    /// The same for people.
    pub words: String,
}

/// What keeps a job from running.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Jobs that it needs have not ended.
    Blocked,
    /// Every sweep that wants it is paused.
    Held,
    /// It failed for a machine's fault and is tried again later.
    NotDue,
    /// As many run as may.
    AtLimit,
    /// No worker lives.
    NoWorker,
    /// No live worker has what it needs.
    Unmatched,
    /// Slots that could run it have other work, or are about to take it.
    InLine,
}

/// A lane and the jobs in it that wait.
struct Waiting {
    needs: Needs,
    n_blocked: i64,
    n_held: i64,
    n_later: i64,
    next_in_s: Option<f64>,
    n_due: i64,
    limit: Option<String>,
}

/// Why the jobs of a sweep wait, or all jobs: the reasons that apply, each once for each lane where it is about a lane.
///
/// # Errors
/// Postgres is out of reach.
pub async fn waits(pool: &PgPool, sweep: Option<i32>, stale: Duration) -> anyhow::Result<Vec<Wait>> {
    let lanes = waiting(pool, sweep).await?;
    let slots = slots(pool, stale).await?;
    let mut waits = Vec::new();
    let total = |of: fn(&Waiting) -> i64| lanes.iter().map(of).sum::<i64>();
    let (n_blocked, n_held, n_later) = (total(|it| it.n_blocked), total(|it| it.n_held), total(|it| it.n_later));
    let mut add = |why: Why, n_jobs: i64, words: String| {
        if n_jobs > 0 {
            waits.push(Wait { why, n_jobs, words });
        }
    };
    add(Why::Blocked, n_blocked, format!("{} for other jobs to end", wait(n_blocked)));
    add(Why::Held, n_held, format!("{} for a paused sweep to be resumed (`jobctl resume SWEEP`)", wait(n_held)));
    let next_in_s = lanes.iter().filter_map(|it| it.next_in_s).fold(f64::INFINITY, f64::min);
    add(Why::NotDue, n_later, format!("{} to be tried again, the first in {next_in_s:.0} s", wait(n_later)));
    if slots.is_empty() {
        for lane in &lanes {
            let words = format!("{} for {}: no worker is alive", wait(lane.n_due), lane.needs);
            add(Why::NoWorker, lane.n_due, words);
        }
        return Ok(waits);
    }
    let mut n_in_line = 0;
    let mut at_limit: BTreeMap<&str, i64> = BTreeMap::new();
    for lane in &lanes {
        if let Some(nearest) = nearest(&lane.needs, &slots) {
            let words = format!("{} for {}, which no live worker has{nearest}", wait(lane.n_due), lane.needs);
            add(Why::Unmatched, lane.n_due, words);
        } else if let Some(limit) = &lane.limit {
            *at_limit.entry(limit).or_default() += lane.n_due;
        } else {
            n_in_line += lane.n_due;
        }
    }
    for (limit, n_jobs) in at_limit {
        add(Why::AtLimit, n_jobs, format!("{} at a limit: {limit} (`jobctl limit`)", wait(n_jobs)));
    }
    add(Why::InLine, n_in_line, format!("{} for a free slot", wait(n_in_line)));
    Ok(waits)
}

fn wait(n_jobs: i64) -> String {
    if n_jobs == 1 { "1 job waits".to_owned() } else { format!("{n_jobs} jobs wait") }
}

async fn waiting(database: impl PgExecutor<'_>, sweep: Option<i32>) -> anyhow::Result<Vec<Waiting>> {
    let rows = sqlx::query!(
        "with counted as (
            select lane,
                count(*) filter (where state = 'waiting') as n_blocked,
                count(*) filter (where state = 'ready' and held) as n_held,
                count(*) filter (where state = 'ready' and not held and run_at > now()) as n_later,
                extract(epoch from min(run_at) filter (where state = 'ready' and not held and run_at > now()) - now())::float8 as next_in_s,
                count(*) filter (where state = 'ready' and not held and run_at <= now()) as n_due
            from job
            where state <> 'running'
                and ($1::int is null or exists (select from sweep_job where sweep_id = $1 and job_id = job.id))
            group by lane
        )
        select counted.n_blocked as \"n_blocked!\", counted.n_held as \"n_held!\", counted.n_later as \"n_later!\",
            counted.next_in_s, counted.n_due as \"n_due!\",
            lane.n_gpus, lane.gpu_model, lane.gpu_memory_gib, lane.labels, full_gate.words as \"limit?\"
        from counted
        join lane on lane.id = counted.lane
        left join full_gate on full_gate.id = (
            select id from full_gate where id in (lane.sweep_gate, lane.kind_gate) order by id limit 1
        )
        order by lane.id",
        sweep
    )
    .fetch_all(database)
    .await
    .context("count what waits")?;
    rows.into_iter()
        .map(|row| {
            Ok(Waiting {
                needs: Needs {
                    n_gpus: u16::try_from(row.n_gpus)?,
                    gpu_model: row.gpu_model,
                    gpu_memory_gib: u32::try_from(row.gpu_memory_gib)?,
                    labels: row.labels,
                },
                n_blocked: row.n_blocked,
                n_held: row.n_held,
                n_later: row.n_later,
                next_in_s: row.next_in_s,
                n_due: row.n_due,
                limit: row.limit,
            })
        })
        .collect()
}

/// What the slots of live workers offer, with their names.
async fn slots(database: impl PgExecutor<'_>, stale: Duration) -> anyhow::Result<Vec<(String, Offer)>> {
    let rows = sqlx::query!(
        "select host as \"host!\", slot as \"slot!\", n_gpus as \"n_gpus!\", gpu_model as \"gpu_model!\",
            gpu_memory_gib as \"gpu_memory_gib!\", labels as \"labels!\"
        from slot
        where beat_at > now() - make_interval(secs => $1)
        order by host, slot",
        stale.as_secs_f64()
    )
    .fetch_all(database)
    .await
    .context("look at the slots")?;
    rows.into_iter()
        .map(|row| {
            let offer = Offer {
                n_gpus: u16::try_from(row.n_gpus)?,
                gpu_model: row.gpu_model,
                gpu_memory_gib: u32::try_from(row.gpu_memory_gib)?,
                labels: row.labels,
            };
            Ok((format!("{} {}", row.host, row.slot), offer))
        })
        .collect()
}

/// The slot that lacks least, in words; none if one lacks nothing.
fn nearest(needs: &Needs, slots: &[(String, Offer)]) -> Option<String> {
    let lacking = slots.iter().map(|(name, offer)| (needs.lacks(offer), name, offer));
    // GPUs cannot be added to a machine; of those that have enough, the largest comes nearest.
    let far = |offer: &Offer| (offer.n_gpus < needs.n_gpus, std::cmp::Reverse(offer.gpu_memory_gib));
    let nearest = lacking.min_by_key(|it| (!it.0.is_empty(), far(it.2).0, it.0.len(), far(it.2).1))?;
    match nearest {
        (lacks, ..) if lacks.is_empty() => None,
        (lacks, name, _) => Some(format!("; the nearest, {name}, {}", lacks.join(" and "))),
    }
}

/// What unfinished jobs of a sweep ask for and neither `own` slots nor those of live workers have: in words, with how many jobs
/// ask for it and what the nearest slot has instead.
///
/// # Errors
/// Postgres is out of reach.
pub async fn unmatched(
    tx: &mut Tx<'_>,
    sweep: i32,
    own: &[Offer],
    stale: Duration,
) -> anyhow::Result<Vec<(Needs, i64, String)>> {
    let mut slots = slots(&mut **tx, stale).await?;
    slots.extend(own.iter().map(|it| ("of this command".to_owned(), it.clone())));
    let lanes = waiting(&mut **tx, Some(sweep)).await?;
    let n_jobs = |it: &Waiting| it.n_blocked + it.n_held + it.n_later + it.n_due;
    Ok(lanes.into_iter().filter_map(|it| Some((it.needs.clone(), n_jobs(&it), nearest(&it.needs, &slots)?))).collect())
}

/// Why one job waits, in words; none if it runs or has ended.
///
/// # Errors
/// Postgres is out of reach.
pub async fn why(pool: &PgPool, job: JobId, stale: Duration) -> anyhow::Result<Option<Wait>> {
    let row = sqlx::query!(
        "select state, held, n_attempts, extract(epoch from run_at - now())::float8 as \"due_in_s!\",
            lane.n_gpus, lane.gpu_model, lane.gpu_memory_gib, lane.labels,
            (select words from full_gate where id in (lane.sweep_gate, lane.kind_gate) order by id limit 1) as \"limit\"
        from job join lane on lane.id = job.lane
        where job.id = $1 and state <> 'running'",
        job.0
    )
    .fetch_optional(pool)
    .await
    .context("look at the job")?;
    let Some(row) = row else { return Ok(None) };
    let said = |why: Why, words: String| Ok(Some(Wait { why, n_jobs: 1, words }));
    if row.state == "waiting" {
        return said(Why::Blocked, blockers(pool, job).await?);
    }
    if row.held {
        return said(Why::Held, "for its sweep to be resumed".to_owned());
    }
    if row.due_in_s > 0.0 {
        let words = format!("for its next try in {:.0} s, after {} that failed", row.due_in_s.ceil(), row.n_attempts);
        return said(Why::NotDue, words);
    }
    let slots = slots(pool, stale).await?;
    if slots.is_empty() {
        return said(Why::NoWorker, "for a worker: none is alive".to_owned());
    }
    let needs = Needs {
        n_gpus: u16::try_from(row.n_gpus)?,
        gpu_model: row.gpu_model,
        gpu_memory_gib: u32::try_from(row.gpu_memory_gib)?,
        labels: row.labels,
    };
    if let Some(nearest) = nearest(&needs, &slots) {
        return said(Why::Unmatched, format!("for {needs}, which no live worker has{nearest}"));
    }
    if let Some(limit) = row.limit {
        return said(Why::AtLimit, format!("at a limit: {limit}"));
    }
    let n_before = n_before(pool, job, stale).await?;
    let words = match n_before {
        0 => "for a free slot: it is the next".to_owned(),
        1 => "for a free slot: 1 job is before it".to_owned(),
        n => format!("for a free slot: {n} jobs are before it"),
    };
    said(Why::InLine, words)
}

async fn blockers(pool: &PgPool, job: JobId) -> anyhow::Result<String> {
    let parents = sqlx::query!(
        "select job.id, job.state, count(*) over () as \"n!\"
        from job_edge join job on job.id = job_edge.parent
        where job_edge.child = $1
        order by job.state = 'running' desc, job.id
        limit 5",
        job.0
    )
    .fetch_all(pool)
    .await
    .context("look at the job's parents")?;
    let named: Vec<String> = parents.iter().map(|it| format!("{} ({})", it.id, it.state)).collect();
    let n_more = parents.first().map_or(0, |it| it.n) - i64::try_from(named.len())?;
    let more = if n_more > 0 { format!(" and {n_more} more") } else { String::new() };
    Ok(format!("for jobs {}{more} to end", named.join(", ")))
}

/// How many jobs a slot that could run this one would take before it.
async fn n_before(pool: &PgPool, job: JobId, stale: Duration) -> anyhow::Result<i64> {
    sqlx::query_scalar!(
        "select count(*) as \"n!\"
        from job as mine
        join job as other on other.state = 'ready' and not other.held and other.run_at <= now()
            and (other.priority > mine.priority
                or (other.priority = mine.priority and (other.turn, other.id) < (mine.turn, mine.id)))
        where mine.id = $1 and other.lane in (
            select shared.id
            from slot
            join lane as own on own.id = mine.lane
                and lane_fits(own, slot.n_gpus, slot.gpu_model, slot.gpu_memory_gib, slot.labels)
            join lane as shared on lane_fits(shared, slot.n_gpus, slot.gpu_model, slot.gpu_memory_gib, slot.labels)
            where slot.beat_at > now() - make_interval(secs => $2)
        )",
        job.0,
        stale.as_secs_f64()
    )
    .fetch_one(pool)
    .await
    .context("count the jobs before it")
}
