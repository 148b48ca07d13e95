//! Lanes: what jobs ask of a slot, each set of needs once, and the gates before them. A lane's id leads the index of ready
//! jobs, so that a claim never walks over jobs that its slot cannot take.

use anyhow::Context;

use super::Tx;
use crate::job::JobId;
use crate::job::needs::Needs;

/// A job that any slot takes: no needs, no gates.
pub const LANE_ANY: i16 = 0;

/// The gates before a lane: 0 where there is none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Gates {
    /// The limit of the sweep.
    pub sweep: i32,
    /// The limit of the kind.
    pub kind: i32,
}

/// The lane of these needs behind these gates, made if there is none yet. Running workers know it as soon as it is
/// committed: a claim asks for its slot's lanes anew each time.
///
/// # Errors
/// Postgres is out of reach, or there are 2^15 lanes.
pub async fn lane(tx: &mut Tx<'_>, needs: &Needs, gates: Gates) -> anyhow::Result<i16> {
    Ok(lane_now(tx, needs, gates, 0).await?.0)
}

/// The same, and the turn of a sweep of this priority that begins now.
///
/// # Errors
/// Those of [`lane`].
pub(super) async fn lane_now(
    tx: &mut Tx<'_>,
    needs: &Needs,
    gates: Gates,
    priority: i16,
) -> anyhow::Result<(i16, i64)> {
    let (n_gpus, memory) = (i16::try_from(needs.n_gpus)?, i32::try_from(needs.gpu_memory_gib)?);
    if gates != Gates::default() {
        lock(tx).await?;
    }
    // Looked for first: an insert that meets its like takes a number all the same.
    for made in [false, true] {
        let found = sqlx::query!(
            "select id, turn_now(id, $7) as \"turn!\"
            from lane
            where n_gpus = $1 and gpu_model = $2 and gpu_memory_gib = $3 and labels = $4 and sweep_gate = $5 and kind_gate = $6",
            n_gpus,
            needs.gpu_model,
            memory,
            &needs.labels,
            gates.sweep,
            gates.kind,
            priority
        )
        .fetch_optional(&mut **tx)
        .await
        .context("look for the lane")?;
        if let Some(lane) = found {
            if gates != Gates::default() {
                open(tx, &[lane.id]).await?;
            }
            return Ok((lane.id, lane.turn));
        }
        anyhow::ensure!(!made, "the lane of `{needs}` cannot be found");
        make(tx, needs, gates).await?;
    }
    unreachable!("the second round answers")
}

/// Makes a lane that is not there.
async fn make(tx: &mut Tx<'_>, needs: &Needs, gates: Gates) -> anyhow::Result<()> {
    if gates.sweep != 0 && take_over(tx, needs, gates).await? {
        return Ok(());
    }
    sqlx::query!(
        "insert into lane (n_gpus, gpu_model, gpu_memory_gib, labels, sweep_gate, kind_gate, words)
        values ($1, $2, $3, $4, $5, $6, $7)
        on conflict on constraint equal_needs_are_one_lane do nothing",
        i16::try_from(needs.n_gpus)?,
        needs.gpu_model,
        i32::try_from(needs.gpu_memory_gib)?,
        &needs.labels,
        gates.sweep,
        gates.kind,
        needs.to_string()
    )
    .execute(&mut **tx)
    .await
    .context("make a lane")?;
    Ok(())
}

/// Makes a lane of a closed one with the same needs, so that lanes of sweeps that are over do not add up. False if there is
/// none. Ended jobs keep its number: whoever revives one calls [`regate`], which takes it to its own sweep's lane again.
async fn take_over(tx: &mut Tx<'_>, needs: &Needs, gates: Gates) -> anyhow::Result<bool> {
    let taken = sqlx::query!(
        "update lane set sweep_gate = $5, kind_gate = $6, closed_at = null
        where id = (
            select id
            from lane
            where closed_at is not null and n_gpus = $1 and gpu_model = $2 and gpu_memory_gib = $3 and labels = $4
            order by closed_at, id
            limit 1
        )",
        i16::try_from(needs.n_gpus)?,
        needs.gpu_model,
        i32::try_from(needs.gpu_memory_gib)?,
        &needs.labels,
        gates.sweep,
        gates.kind
    )
    .execute(&mut **tx)
    .await
    .context("take over a closed lane")?;
    Ok(taken.rows_affected() == 1)
}

/// Opens lanes that are closed: jobs of this transaction are in them.
///
/// # Errors
/// Postgres is out of reach.
pub(super) async fn open(tx: &mut Tx<'_>, lanes: &[i16]) -> anyhow::Result<()> {
    lock(tx).await?;
    sqlx::query!("update lane set closed_at = null where id = any($1) and closed_at is not null", lanes)
        .execute(&mut **tx)
        .await
        .context("open the lanes")?;
    Ok(())
}

/// Opens the closed lanes that any of these jobs is in.
///
/// # Errors
/// Postgres is out of reach.
pub(super) async fn open_for(tx: &mut Tx<'_>, jobs: &[i64]) -> anyhow::Result<()> {
    let closed = sqlx::query_scalar!(
        "select id from lane where sweep_gate <> 0 and id in (select lane from job where id = any($1))",
        jobs
    )
    .fetch_all(&mut **tx)
    .await
    .context("look at the jobs' lanes")?;
    if closed.is_empty() { Ok(()) } else { open(tx, &closed).await }
}

/// Lanes of sweeps with a limit are many in time; once there are more than this, those without a job are closed.
const MANY_LANES: i64 = 64;

/// Closes the lanes behind sweeps' gates that no unfinished job is in, if there are many: each that is open costs a claim a
/// look.
///
/// # Errors
/// Postgres is out of reach.
pub(super) async fn close_empty(tx: &mut Tx<'_>) -> anyhow::Result<()> {
    let n_open = sqlx::query_scalar!("select count(*) as \"n!\" from lane where sweep_gate <> 0 and closed_at is null")
        .fetch_one(&mut **tx)
        .await
        .context("count the lanes")?;
    if n_open <= MANY_LANES {
        return Ok(());
    }
    lock(tx).await?;
    sqlx::query!(
        "with used as materialized (
            select distinct lane from job
        )
        update lane set closed_at = now()
        where sweep_gate <> 0 and closed_at is null and id not in (select lane from used)"
    )
    .execute(&mut **tx)
    .await
    .context("close empty lanes")?;
    Ok(())
}

/// Keeps lanes from being closed and taken over while jobs are put into them; held until the transaction ends.
async fn lock(tx: &mut Tx<'_>) -> anyhow::Result<()> {
    sqlx::query!("select pg_advisory_xact_lock(hashtext('jobctl lanes'))").execute(&mut **tx).await?;
    Ok(())
}

/// Moves a job that is not running to a lane that asks for more GPU memory than `more_than_gib`, so that it is tried next on a
/// larger device. A job without a GPU stays where it is. False if nothing was changed.
///
/// # Errors
/// Postgres is out of reach.
pub async fn raise_memory(tx: &mut Tx<'_>, job: JobId, more_than_gib: u32) -> anyhow::Result<bool> {
    let row = sqlx::query!(
        "select n_gpus, gpu_model, gpu_memory_gib, labels, sweep_gate, kind_gate
        from job join lane on lane.id = job.lane
        where job.id = $1 and state <> 'running' and n_gpus > 0 and gpu_memory_gib <= $2
        for update of job",
        job.0,
        i32::try_from(more_than_gib)?
    )
    .fetch_optional(&mut **tx)
    .await
    .context("look at the job's needs")?;
    let Some(row) = row else { return Ok(false) };
    let needs = Needs {
        n_gpus: u16::try_from(row.n_gpus)?,
        gpu_model: row.gpu_model,
        gpu_memory_gib: more_than_gib.saturating_add(1),
        labels: row.labels,
    };
    let lane = lane(tx, &needs, Gates { sweep: row.sweep_gate, kind: row.kind_gate }).await?;
    sqlx::query!("update job set lane = $2 where id = $1", job.0, lane)
        .execute(&mut **tx)
        .await
        .context("move the job to its lane")?;
    Ok(true)
}

/// Puts unfinished jobs into the lanes that their needs and the limits in force ask for: behind the gate of their kind, if it
/// has one, and behind that of a sweep if every sweep that wants them has one, the first's then.
///
/// # Errors
/// Postgres is out of reach.
pub(super) async fn regate(tx: &mut Tx<'_>, jobs: &[i64]) -> anyhow::Result<()> {
    if jobs.is_empty() {
        return Ok(());
    }
    sqlx::query!("select id from job where id = any($1) order by id for update", jobs)
        .fetch_all(&mut **tx)
        .await
        .context("lock the jobs")?;
    lock(tx).await?;
    // Nobody takes over what is open.
    open_for(tx, jobs).await?;
    let missing = sqlx::query!(
        "with target as (
            select distinct lane.n_gpus, lane.gpu_model, lane.gpu_memory_gib, lane.labels, behind.sweep_gate, behind.kind_gate
            from (select * from jobs_behind($1)) as behind join lane on lane.id = behind.lane
        )
        select n_gpus, gpu_model, gpu_memory_gib, labels, sweep_gate as \"sweep_gate!\", kind_gate as \"kind_gate!\"
        from target
        where not exists (
            select
            from lane
            where (lane.n_gpus, lane.gpu_model, lane.gpu_memory_gib, lane.labels, lane.sweep_gate, lane.kind_gate)
                = (target.n_gpus, target.gpu_model, target.gpu_memory_gib, target.labels, target.sweep_gate, target.kind_gate)
        )",
        jobs
    )
    .fetch_all(&mut **tx)
    .await
    .context("look for the lanes")?;
    for row in missing {
        let needs = Needs {
            n_gpus: u16::try_from(row.n_gpus)?,
            gpu_model: row.gpu_model,
            gpu_memory_gib: u32::try_from(row.gpu_memory_gib)?,
            labels: row.labels,
        };
        make(tx, &needs, Gates { sweep: row.sweep_gate, kind: row.kind_gate }).await?;
    }
    sqlx::query!(
        "update job
        set lane = target.id
        from jobs_behind($1) as behind
        join lane as source on source.id = behind.lane
        join lane as target on target.n_gpus = source.n_gpus and target.gpu_model = source.gpu_model
            and target.gpu_memory_gib = source.gpu_memory_gib and target.labels = source.labels
            and target.sweep_gate = behind.sweep_gate and target.kind_gate = behind.kind_gate
        where job.id = behind.id and job.lane <> target.id",
        jobs
    )
    .execute(&mut **tx)
    .await
    .context("move the jobs to their lanes")?;
    open_for(tx, jobs).await?;
    Ok(())
}
