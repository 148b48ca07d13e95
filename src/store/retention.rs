//! Taking old months out of the database: whole partitions, without breaking what still lives.
//!
//! A month of `job_history` goes if no sweep that has unfinished jobs wants any of its jobs. Jobs that did not end well
//! stay, with what pools them, so that `retry` works for ever, and so do those that made a file, which may be lost; keys stay, so that equal work is not done again. What is
//! gone is counted in `pruned`. It is done in two steps, each of which may be cut off and begun again: the partition is
//! detached and counted in one transaction; then attempts, logs and edges are deleted in pieces and the table is dropped.

use anyhow::Context;
use serde::Serialize;
use sqlx::{AssertSqlSafe, PgPool, Row};

use crate::queue::{Tx, locks};

/// Rows that one statement deletes.
const PIECE: i64 = 10_000;
/// What a detached month's name begins with until it is dropped.
const DETACHED: &str = "pruning_";

/// A month of a table.
#[derive(Clone, Debug, Serialize)]
pub struct Month {
    /// `job_history` or `score`.
    pub table: String,
    /// Its partition.
    pub partition: String,
    /// The month, as in `2026-05`.
    pub month: String,
    /// Rows, by the planner's estimate; -1 where it has none.
    pub n_rows: i64,
    /// Bytes on disk, indexes included.
    pub bytes: i64,
    /// Why it must stay; none where it may go.
    pub kept_because: Option<String>,
}

/// What went with a month.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Gone {
    /// Jobs that are out of the history.
    pub n_jobs: i64,
    /// Jobs that stay because they did not end well, pool such ones, or made a file.
    pub n_kept: i64,
    /// Attempts deleted, with their logs.
    pub n_attempts: i64,
    /// Scores dropped.
    pub n_scores: i64,
    /// Bytes that are free for others now.
    pub freed_bytes: i64,
}

/// The months that are over since `days` days at least, from the oldest on; those of `score` only if asked for.
///
/// # Errors
/// Postgres is out of reach.
pub async fn months(pool: &PgPool, days: i32, with_scores: bool) -> anyhow::Result<Vec<Month>> {
    let rows = sqlx::query!(
        "select parent.relname::text as \"parent!\", child.relname::text as \"child!\",
            translate(right(child.relname::text, 7), '_', '-') as \"month!\",
            child.reltuples::bigint as \"n_rows!\", pg_total_relation_size(child.oid) as \"bytes!\"
        from pg_inherits
        join pg_class as parent on parent.oid = inhparent
        join pg_class as child on child.oid = inhrelid
        where parent.relnamespace = 'public'::regnamespace
            and (parent.relname = 'job_history' or ($2 and parent.relname = 'score'))
            and child.relname ~ '_[0-9]{4}_[0-9]{2}$'
            and (to_date(right(child.relname::text, 7), 'YYYY_MM') + interval '1 month')::timestamp at time zone 'utc'
                <= now() - make_interval(days => $1)
        order by child.relname",
        days,
        with_scores
    )
    .fetch_all(pool)
    .await
    .context("list the months")?;
    let mut months = Vec::new();
    for row in rows {
        let mut month = Month {
            table: row.parent,
            partition: row.child,
            month: row.month,
            n_rows: row.n_rows,
            bytes: row.bytes,
            kept_because: None,
        };
        let mut tx = pool.begin().await?;
        month.kept_because = kept_because(&mut tx, &month).await?;
        tx.rollback().await?;
        months.push(month);
    }
    Ok(months)
}

/// Why a month must stay: a live sweep wants something of it.
async fn kept_because(tx: &mut Tx<'_>, month: &Month) -> anyhow::Result<Option<String>> {
    let jobs = if month.table == "score" { "(select distinct job_id as id from {part})" } else { "{part}" };
    let query = format!(
        "with live as (select distinct sweep_id from job join sweep_job on sweep_job.job_id = job.id)
        select sweep.slug
        from {jobs} as old join sweep_job on sweep_job.job_id = old.id join sweep on sweep.id = sweep_job.sweep_id
        where sweep_job.sweep_id in (select sweep_id from live)
        limit 1"
    )
    .replace("{part}", &month.partition);
    let slug: Option<String> =
        sqlx::query_scalar(AssertSqlSafe(query)).fetch_optional(&mut **tx).await.context("look for live sweeps")?;
    if let Some(slug) = slug {
        return Ok(Some(format!("sweep {slug} is not over and wants jobs of it")));
    }
    if month.table == "job_history" {
        let query = format!(
            "select job_edge.child from {} as old join job_edge on job_edge.parent = old.id
            join job on job.id = job_edge.child limit 1",
            month.partition
        );
        let child: Option<i64> =
            sqlx::query_scalar(AssertSqlSafe(query)).fetch_optional(&mut **tx).await.context("look for live jobs")?;
        return Ok(child.map(|it| format!("job {it} is not over and depends on it")));
    }
    Ok(None)
}

/// Takes a month out. Fails, and changes nothing, if it must stay by now or somebody holds it for long.
///
/// # Errors
/// As said; or Postgres is out of reach, and then calling [`finish`] goes on where it was.
pub async fn prune(pool: &PgPool, month: &Month) -> anyhow::Result<Gone> {
    let mut gone = Gone { freed_bytes: month.bytes, ..Gone::default() };
    // No sweep may come meanwhile that wants what goes.
    let mut tx = locks::begin_alone(pool).await?;
    sqlx::query!("set local lock_timeout = '10s'").execute(&mut *tx).await?;
    let part = &month.partition;
    run(&mut tx, format!("lock table {part} in share row exclusive mode")).await?;
    if let Some(why) = kept_because(&mut tx, month).await? {
        anyhow::bail!("{part} must stay: {why}");
    }
    if month.table == "score" {
        gone.n_scores = detach_scores(&mut tx, part).await?;
    } else {
        (gone.n_jobs, gone.n_kept) = detach_jobs(&mut tx, part).await?;
    }
    tx.commit().await.context("detach the month")?;
    let rest = finish(pool).await?;
    gone.n_attempts = rest.n_attempts;
    Ok(gone)
}

/// Counts a month's jobs into `pruned`, detaches it, and puts back what must stay.
async fn detach_jobs(tx: &mut Tx<'_>, part: &str) -> anyhow::Result<(i64, i64)> {
    // What did not end well, and what waited for the end of such a job: retrying the one revives the other.
    run(
        tx,
        format!(
            "create temporary table kept on commit drop as
            with recursive kept (id) as (
                select id from {part} where state <> 'done'
                union
                select old.id
                from kept join job_edge on job_edge.parent = kept.id join {part} as old on old.id = job_edge.child
            )
            select id from kept
            union
            select old.id from {part} as old join job_output on job_output.job_id = old.id
            union
            select old.id from {part} as old
            join job_edge on job_edge.child = old.id
            join job_history as parent on parent.id = job_edge.parent and parent.state <> 'done'"
        ),
    )
    .await?;
    let row = sqlx::query(AssertSqlSafe(format!(
        "select count(*) filter (where id not in (select id from kept)), (select count(*) from kept) from {part}"
    )))
    .fetch_one(&mut **tx)
    .await
    .context("count what goes")?;
    let (n_jobs, n_kept): (i64, i64) = (row.get(0), row.get(1));
    run(
        tx,
        format!(
            "insert into pruned (sweep_id, kind, state, n)
            select sweep_job.sweep_id, old.kind, old.state, count(*)
            from {part} as old join sweep_job on sweep_job.job_id = old.id
            where old.id not in (select id from kept)
            group by 1, 2, 3
            on conflict (sweep_id, kind, state) do update set n = pruned.n + excluded.n"
        ),
    )
    .await?;
    // From here on others wait: these three are short.
    run(tx, format!("alter table job_history detach partition {part}")).await?;
    let columns = sqlx::query_scalar!(
        "select string_agg(quote_ident(attname), ', ') as \"columns!\"
        from pg_attribute where attrelid = 'job_history'::regclass and attnum > 0 and not attisdropped"
    )
    .fetch_one(&mut **tx)
    .await
    .context("list the history's columns")?;
    run(
        tx,
        format!("insert into job_history ({columns}) select {columns} from {part} where id in (select id from kept)"),
    )
    .await?;
    run(tx, format!("delete from {part} where id in (select id from kept)")).await?;
    run(tx, format!("alter table {part} rename to {DETACHED}{part}")).await?;
    Ok((n_jobs, n_kept))
}

/// Forgets a month's scores and whatever says that they exist, so that the work may be done again.
async fn detach_scores(tx: &mut Tx<'_>, part: &str) -> anyhow::Result<i64> {
    let n_scores: i64 = sqlx::query_scalar(AssertSqlSafe(format!("select count(*) from {part}")))
        .fetch_one(&mut **tx)
        .await
        .context("count the scores")?;
    run(tx, format!("create temporary table scoring on commit drop as select distinct job_id as id from {part}"))
        .await?;
    // The sweeps stay, under names that say it; the same file makes a new sweep.
    // By their pictures, not their jobs: those may be gone already.
    run(
        tx,
        format!(
            "update sweep set slug = slug || '.pruned-' || id, plan_key = sha256(plan_key || convert_to('pruned', 'utf8'))
            where slug not like '%.pruned-%' and id in (
                select cell.sweep_id
                from {part} as old join image on image.id = old.image_id join cell on cell.picture = image.picture
            )"
        ),
    )
    .await?;
    sqlx::query("delete from job_key using scoring where job_key.job_id = scoring.id")
        .execute(&mut **tx)
        .await
        .context("forget the keys")?;
    run(tx, format!("alter table score detach partition {part}")).await?;
    run(tx, format!("alter table {part} rename to {DETACHED}{part}")).await?;
    Ok(n_scores)
}

/// Deletes what hangs on detached months and drops them: the rest of a prune, or of one that was cut off.
///
/// # Errors
/// Postgres is out of reach; the next call goes on.
pub async fn finish(pool: &PgPool) -> anyhow::Result<Gone> {
    let mut gone = Gone::default();
    let detached = sqlx::query_scalar!(
        "select relname::text as \"name!\" from pg_class
        where relnamespace = 'public'::regnamespace and relkind = 'r' and relname ~ '^pruning_(job_history|score)_[0-9_]+$'
        order by 1"
    )
    .fetch_all(pool)
    .await
    .context("look for detached months")?;
    for part in detached {
        if part.contains("job_history") {
            gone.n_attempts += in_pieces(
                pool,
                format!(
                    "delete from attempt where lease in (
                        select lease from attempt join {part} as old on old.id = attempt.job_id limit $1)"
                ),
            )
            .await?;
            let edges = "delete from job_edge where (parent, child) in (
                select parent, child from job_edge join {part} as old on old.id = job_edge.{end} limit $1)";
            for end in ["parent", "child"] {
                in_pieces(pool, edges.replace("{part}", &part).replace("{end}", end)).await?;
            }
            in_pieces(
                pool,
                format!(
                    "delete from sweep_job where (sweep_id, job_id) in (
                        select sweep_id, job_id from sweep_job join {part} as old on old.id = sweep_job.job_id limit $1)"
                ),
            )
            .await?;
        }
        let drop = format!("drop table {part}");
        sqlx::query(AssertSqlSafe(drop)).execute(pool).await.with_context(|| format!("drop {part}"))?;
    }
    Ok(gone)
}

async fn in_pieces(pool: &PgPool, statement: String) -> anyhow::Result<i64> {
    let mut n_all = 0;
    loop {
        let n = sqlx::query(AssertSqlSafe(statement.clone()))
            .bind(PIECE)
            .execute(pool)
            .await
            .context("delete what hangs on old jobs")?
            .rows_affected();
        n_all += i64::try_from(n).unwrap_or_default();
        if n == 0 {
            return Ok(n_all);
        }
    }
}

/// Runs a statement about a table whose name comes from the catalogue, checked by a pattern there.
async fn run(tx: &mut Tx<'_>, statement: String) -> anyhow::Result<()> {
    let what: String = statement.split_whitespace().take(4).collect::<Vec<_>>().join(" ");
    sqlx::query(AssertSqlSafe(statement)).execute(&mut **tx).await.with_context(|| format!("`{what} …`"))?;
    Ok(())
}
