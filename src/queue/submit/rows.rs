//! The rows of a plan: keys, jobs, edges, and which sweep wants which jobs.

use std::collections::HashMap;

use super::{Ids, Places};
use crate::job::Hash;
use crate::job::needs::Needs;
use crate::plan::{Job, Plan};
use crate::queue::Tx;
use crate::queue::bulk::{Batch, Kind, Row, Table};

pub(super) async fn keys(tx: &mut Tx<'_>, batch: &mut Batch, plan: &Plan, ids: &Ids) -> anyhow::Result<()> {
    // In the order of the index: neighbours go to the same page.
    let mut keys: Vec<(Hash, i64)> = new_jobs(plan, ids).map(|(job, id)| (job.key, id)).collect();
    keys.sort_unstable();
    const TABLE: Table = Table { name: "job_key", columns: &[("key", Kind::Bytes), ("job_id", Kind::Int8)] };
    batch
        .send(tx, &TABLE, keys, |row, (key, id)| {
            row.hash(&key)?;
            row.int8(id)
        })
        .await
}

pub(super) async fn jobs(
    tx: &mut Tx<'_>,
    batch: &mut Batch,
    plan: &Plan,
    ids: &Ids,
    places: &Places,
    n_blockers: &HashMap<i64, i32>,
) -> anyhow::Result<()> {
    const TABLE: Table = Table {
        name: "job",
        columns: &[
            ("id", Kind::Int8),
            ("key", Kind::Bytes),
            ("kind", Kind::Text),
            ("lane", Kind::Int2),
            ("priority", Kind::Int2),
            ("state", Kind::Text),
            ("n_blockers", Kind::Int4),
            ("limit_s", Kind::Int4),
            ("subject", Kind::Bytes),
            ("affinity", Kind::Int8),
            ("megapixels", Kind::Float4),
            ("task", Kind::Text),
            ("turn", Kind::Int8),
        ],
    };
    let mut last: Option<(&Needs, &str, (i16, i64))> = None;
    batch
        .send(tx, &TABLE, new_jobs(plan, ids).zip(0_i64..), |row, ((job, id), place)| {
            let (needs, kind) = (&*job.needs, job.task.kind());
            let (lane, turn) = match last {
                Some(last) if (last.0, last.1) == (needs, kind) => last.2,
                _ => places.lanes[&(needs.clone(), places.kind_gate(kind))],
            };
            last = Some((needs, kind, (lane, turn)));
            let n = n_blockers.get(&id).copied().unwrap_or(0);
            row.int8(id)?;
            row.hash(&job.key)?;
            row.text(kind)?;
            row.int2(lane)?;
            row.int2(plan.priority)?;
            row.text(if n > 0 { "waiting" } else { "ready" })?;
            row.int4(n)?;
            row.int4(i32::try_from(plan.limit(&job.task).as_secs()).unwrap_or(i32::MAX))?;
            row.maybe(job.subject.as_ref(), Row::hash)?;
            row.maybe(job.affinity.map(|it| it.first_8_bytes()), Row::int8)?;
            row.float4(job.megapixels)?;
            row.text(&serde_json::to_string(&job.task)?)?;
            row.int8(turn + place)
        })
        .await
}

fn new_jobs<'a>(plan: &'a Plan, ids: &'a Ids) -> impl Iterator<Item = (&'a Job, i64)> {
    let jobs = plan.jobs.iter().zip(&ids.of).zip(&ids.is_new);
    jobs.filter(|(_, is_new)| **is_new).map(|((job, id), _)| (job, *id))
}

pub(super) async fn edges(tx: &mut Tx<'_>, batch: &mut Batch, rows: &[(i64, i64, bool)]) -> anyhow::Result<()> {
    const COLUMNS: &[(&str, Kind)] = &[("parent", Kind::Int8), ("child", Kind::Int8), ("needs", Kind::Bool)];
    const TABLE: Table = Table { name: "job_edge", columns: COLUMNS };
    batch
        .send(tx, &TABLE, rows, |row, &(parent, child, needs)| {
            row.int8(parent)?;
            row.int8(child)?;
            row.bool(needs)
        })
        .await
}

pub(super) async fn membership(tx: &mut Tx<'_>, batch: &mut Batch, sweep: i32, jobs: &[i64]) -> anyhow::Result<()> {
    const TABLE: Table = Table { name: "sweep_job", columns: &[("sweep_id", Kind::Int4), ("job_id", Kind::Int8)] };
    batch
        .send(tx, &TABLE, jobs, |row, &job| {
            row.int4(sweep)?;
            row.int8(job)
        })
        .await
}
