//! What makes a queue hard to work with: a long history, jobs that nobody here can run, an old snapshot. For
//! measurements in a database of their own.

use anyhow::Context;
use sqlx::PgPool;

use super::Tx;

/// Writes `n` jobs that have been done, with their keys, attempts and membership, as if a year of work lay behind.
///
/// # Errors
/// Postgres is out of reach or its disk is full.
pub async fn past(pool: &PgPool, n: i64) -> anyhow::Result<()> {
    const PART: i64 = 500_000;
    let worker = uuid::Uuid::now_v7();
    sqlx::query!(
        "insert into worker (id, host, pid, program, machine, n_slots, stopped_at)
        values ($1, 'past', 1, 'past', 'past', 1, now())",
        worker
    )
    .execute(pool)
    .await
    .context("write a worker of the past")?;
    let mut begun = 0;
    while begun < n {
        let count = PART.min(n - begun);
        sqlx::query!(
            "with past as materialized (
                select nextval('job_id_seq') as id, nextval('lease_seq') as lease, sha256(($2 + n)::text::bytea) as key
                from generate_series(1, $1::bigint) as n
            ),
            keys as (insert into job_key (key, job_id) select key, id from past),
            members as (insert into sweep_job (sweep_id, job_id) select 0, id from past),
            attempts as (
                insert into attempt (lease, job_id, number, worker_id, slot, ended_at, outcome)
                select lease, id, 1, $3, 'cpu:0', now(), 'done' from past
            )
            insert into job_history (id, key, kind, lane, priority, state, n_attempts, max_attempts, limit_s, megapixels,
                task, created_at, started_at)
            select id, key, 'rehearse', 0, 0, 'done', 1, 3, 600, 0,
                jsonb_build_object('kind', 'rehearse', 'seed', id, 'seconds', 0, 'steps', 1, 'bytes', 0, 'scores', 0), now(), now()
            from past",
            count,
            begun,
            worker
        )
        .execute(pool)
        .await
        .context("write jobs of the past")?;
        begun += count;
    }
    Ok(())
}

/// Brings statistics and visibility up to date, as autovacuum would in its time.
///
/// # Errors
/// Postgres is out of reach.
pub async fn vacuum(pool: &PgPool) -> anyhow::Result<()> {
    sqlx::query!("vacuum (analyze)").execute(pool).await.context("vacuum")?;
    Ok(())
}

/// Begins a transaction that sees the queue as it is now for as long as it is open, as a long report query would.
///
/// # Errors
/// Postgres is out of reach.
pub async fn pin(pool: &PgPool) -> anyhow::Result<Tx<'static>> {
    let mut tx = pool.begin().await.context("begin a long transaction")?;
    sqlx::query!("set transaction isolation level repeatable read").execute(&mut *tx).await?;
    sqlx::query!("select count(*) as n from job").fetch_one(&mut *tx).await.context("take a snapshot")?;
    Ok(tx)
}

/// What the server has done since it was started, as far as it costs: differences of two readings are what a
/// measurement took.
#[derive(Clone, Copy, Debug)]
pub struct Meter {
    /// Bytes of write-ahead log.
    pub wal_bytes: i64,
    /// Transactions.
    pub n_commits: i64,
}

/// Reads the meter of this database's server.
///
/// # Errors
/// Postgres is out of reach.
pub async fn meter(pool: &PgPool) -> anyhow::Result<Meter> {
    // Backends report their counts with a delay: they are asked to do so now.
    sqlx::query!("select pg_stat_force_next_flush()").execute(pool).await?;
    let row = sqlx::query!(
        "select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint as \"wal!\", xact_commit as \"commits!\"
        from pg_stat_database
        where datname = current_database()"
    )
    .fetch_one(pool)
    .await
    .context("read what the server has done")?;
    Ok(Meter { wal_bytes: row.wal, n_commits: row.commits })
}
