//! Taking one certain job: by whoever has its result already.

use anyhow::Context;
use uuid::Uuid;

use super::Tx;
use crate::job::task::Task;
use crate::job::{Hash, JobId, Lease};

/// A job that was picked.
#[derive(Debug)]
pub struct Picked {
    /// The job.
    pub id: JobId,
    /// Its key.
    pub key: Hash,
    /// Its state, as every_job has it.
    pub state: String,
    /// What it does.
    pub task: Task,
}

/// The jobs that ask machines of a sweep, or of all: those that are ready, or held, in their order.
///
/// # Errors
/// Postgres is out of reach.
pub async fn ready_to_ask(pool: &sqlx::PgPool, sweep: i32) -> anyhow::Result<(Vec<Picked>, i64)> {
    let rows = sqlx::query!(
        "select job.id, job.key, job.state, job.task
        from sweep_job join job on job.id = sweep_job.job_id
        where sweep_job.sweep_id = $1 and job.kind in ('judge', 'caption')
        order by job.id",
        sweep
    )
    .fetch_all(pool)
    .await
    .context("find the jobs that ask")?;
    let n_all = i64::try_from(rows.len())?;
    let ready: Vec<Picked> = rows
        .into_iter()
        .filter(|it| it.state == "ready")
        .map(|row| {
            let task = serde_json::from_str(&row.task).with_context(|| format!("understand job {}", row.id))?;
            Ok(Picked { id: JobId(row.id), key: Hash::try_from(row.key)?, state: row.state, task })
        })
        .collect::<anyhow::Result<_>>()?;
    let n_others = n_all - i64::try_from(ready.len())?;
    Ok((ready, n_others))
}

/// The job whose key begins with these bytes, if there is one. If it has not ended, it is locked until the transaction ends.
///
/// # Errors
/// Postgres is out of reach.
pub async fn by_key(tx: &mut Tx<'_>, beginning: &[u8]) -> anyhow::Result<Option<Picked>> {
    // A range, so that the index of keys is used: it ends before the next beginning of that length.
    let (mut low, mut high) = (beginning.to_vec(), beginning.to_vec());
    low.resize(32, 0);
    high.resize(32, 0xff);
    sqlx::query!(
        "select from job where id in (select job_id from job_key where key between $1 and $2) order by id for update",
        &low,
        &high
    )
    .fetch_all(&mut **tx)
    .await
    .context("lock the job")?;
    let row = sqlx::query!(
        "select every_job.id as \"id!\", every_job.key as \"key!\", every_job.state as \"state!\", every_job.task as \"task!\"
        from job_key join every_job on every_job.id = job_key.job_id
        where job_key.key between $1 and $2
        limit 1",
        &low,
        &high
    )
    .fetch_optional(&mut **tx)
    .await
    .context("find the job")?;
    row.map(|row| {
        let task = serde_json::from_value(row.task).with_context(|| format!("understand job {}", row.id))?;
        Ok(Picked { id: JobId(row.id), key: Hash::try_from(row.key)?, state: row.state, task })
    })
    .transpose()
}

/// Takes a job that is ready, paused or not, for a result that is there already; none if it is not ready any more. It passes
/// no gate: nothing is going to run.
///
/// # Errors
/// Postgres is out of reach.
pub async fn pick(tx: &mut Tx<'_>, worker: Uuid, job: JobId) -> anyhow::Result<Option<Lease>> {
    let lease = sqlx::query_scalar!(
        "with claimed as (
            update job
            set state = 'running', lease = nextval('lease_seq'), worker_id = $1, slot = 'import', started_at = now(),
                deadline_at = now() + make_interval(secs => limit_s), n_attempts = n_attempts + 1, passed_at = null,
                progress = null
            where id = (select id from job where id = $2 and state = 'ready' for update)
            returning id, lease, n_attempts, lane, priority, turn
        )
        insert into attempt (lease, job_id, number, worker_id, slot, lane, priority, turn)
        select lease, id, n_attempts, $1, 'import', lane, priority, turn
        from claimed
        returning lease",
        worker,
        job.0
    )
    .fetch_optional(&mut **tx)
    .await
    .context("take the job")?;
    Ok(lease.map(Lease))
}
