//! What holds of every database of ours: invariants as data, each with the query that finds what breaks it.

use anyhow::Context;
use serde::Serialize;
use sqlx::{AssertSqlSafe, PgPool, Row};

use crate::queue::Tx;

/// An invariant.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// Its name, for scripts.
    pub name: &'static str,
    /// What holds.
    pub law: &'static str,
    /// What a breach means.
    pub means: &'static str,
    /// How it is mended.
    pub mend: &'static str,
    /// Gives one text for each breach.
    query: &'static str,
}

/// What breaks an invariant.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// Which invariant.
    pub check: &'static str,
    /// What holds where nothing is broken.
    pub law: &'static str,
    /// What it means.
    pub means: &'static str,
    /// How it is mended.
    pub mend: &'static str,
    /// How many breaches there are.
    pub n: i64,
    /// The first of them.
    pub first: Vec<String>,
}

/// How many breaches are told one by one.
const MOST_TOLD: usize = 10;

/// All invariants that SQL can see.
pub const CHECKS: [Check; 19] = [
    Check {
        name: "one_place",
        law: "a job is either unfinished or ended",
        means: "a job stands in job and in job_history: it may run although it has ended",
        mend: "`jobctl cancel` the job, then report it: no command of jobctl can do this",
        query: "select 'job ' || id as finding from job join job_history using (id)",
    },
    Check {
        name: "keys",
        law: "every job has its key",
        means: "equal work may be done twice: a job is not found by its key",
        mend: "insert into job_key select key, id from every_job on conflict do nothing",
        query: "select 'job ' || id as finding from every_job
            where not exists (select from job_key where job_key.key = every_job.key and job_key.job_id = every_job.id)",
    },
    Check {
        name: "blockers",
        law: "a job counts its unfinished parents",
        means: "a job waits for nothing, or runs before its parents have ended",
        mend: "`jobctl cancel` the job, then `jobctl retry` it",
        query: "select 'job ' || id || ' counts ' || n_blockers || ', has ' || n as finding
            from (
                select job.id, n_blockers, (
                    select count(*) from job_edge join job as parent on parent.id = job_edge.parent where child = job.id
                ) as n
                from job where state <> 'running'
            ) as counted
            where n_blockers <> n",
    },
    Check {
        name: "starved",
        law: "no job waits for a result that will not come",
        means: "a parent ended without a result, and its child is still to run: the child will fail",
        mend: "`jobctl retry` the parent",
        query: "select 'job ' || job.id || ' needs job ' || parent.id || ', which ' || parent.state as finding
            from job
            join job_edge on job_edge.child = job.id and job_edge.needs
            join job_history as parent on parent.id = job_edge.parent
            where parent.state <> 'done' and job.state <> 'running'",
    },
    Check {
        name: "attempts",
        law: "a running job has one open attempt, under its lease, and no other job has any",
        means: "the history of attempts is wrong",
        mend: "update attempt set ended_at = now(), outcome = 'lost' where ended_at is null and lease not in (select lease from job where lease is not null)",
        query: "select 'attempt ' || lease || ' of job ' || job_id || ' is open' as finding
            from attempt where ended_at is null and not exists (select from job where job.lease = attempt.lease)
            union all
            select 'job ' || id || ' runs without an attempt'
            from job where state = 'running' and not exists (select from attempt where attempt.lease = job.lease and ended_at is null)",
    },
    Check {
        name: "abandoned",
        law: "what a dead worker ran is given to others",
        means: "a job has been held for ten minutes by a worker that was given up: no worker lives that would rescue it",
        mend: "start a worker",
        query: "select 'job ' || job.id || ' of ' || worker.host || ' pid ' || worker.pid as finding
            from job join worker on worker.id = job.worker_id
            where job.state = 'running' and worker.stopped_at < now() - interval '10 minutes'",
    },
    Check {
        name: "edges",
        law: "edges join jobs that exist or existed",
        means: "a row of the graph names a job that was never made",
        mend: "delete from job_edge where parent not in (select job_id from job_key) or child not in (select job_id from job_key)",
        query: "select 'edge from ' || parent || ' to ' || child as finding from job_edge
            where not exists (select from job_key where job_id = parent) or not exists (select from job_key where job_id = child)",
    },
    Check {
        name: "members",
        law: "sweeps and jobs of sweep_job exist or existed",
        means: "a sweep counts a job that was never made",
        mend: "delete from sweep_job where job_id not in (select job_id from job_key) or sweep_id not in (select id from sweep)",
        query: "select 'job ' || job_id || ' of sweep ' || sweep_id as finding from sweep_job
            where not exists (select from job_key where job_key.job_id = sweep_job.job_id)
                or not exists (select from sweep where sweep.id = sweep_job.sweep_id)",
    },
    Check {
        name: "wanted",
        law: "some sweep wants every unfinished job",
        means: "a job runs for nobody",
        mend: "`jobctl cancel` the job",
        query: "select 'job ' || id as finding from job where not exists (select from sweep_job where job_id = job.id)",
    },
    Check {
        name: "cells",
        law: "every cell belongs to a source of its sweep",
        means: "a report leaves a picture out",
        mend: "delete the cells, then enqueue the sweep again under another name",
        query: "select 'cell ' || idx || ' of sweep ' || sweep_id as finding from cell
            where not exists (select from source where source.sweep_id = cell.sweep_id and source.idx = cell.source_idx)",
    },
    Check {
        name: "results",
        law: "a job that is done has its result",
        means: "a job ended well, and what it made is not in the tables",
        mend: "`jobctl retry` the job",
        query: "select 'job ' || id || ' (' || kind || ')' as finding from job_history
            where state = 'done' and (
                kind in ('encode', 'prepare', 'finetune', 'denoise', 'decode', 'reconstruct')
                    and not exists (select from job_output where job_output.key = job_history.key)
                or kind = 'evaluate' and not exists (select from image where picture = subject)
            )",
    },
    Check {
        name: "scores",
        law: "an image has each score once",
        means: "means and counts in reports are wrong",
        mend: "delete the later rows of each",
        query: "select 'image ' || image_id || ': ' || metric || ':' || variant || '@' || version as finding
            from score group by image_id, metric, variant, version, reference, network having count(*) > 1",
    },
    Check {
        name: "judged",
        law: "a job that asked a machine and is done has left what the machine says",
        means: "an answer was paid for, and reports do not have it",
        mend: "`jobctl retry` the job: it reads the answer that is stored, and asks nobody",
        query: "select 'job ' || id || ' (' || kind || ')' as finding from job_history
            where state = 'done' and (
                kind = 'judge' and not exists (select from verdict where subject in (verdict.first, verdict.second))
                or kind = 'caption' and not exists (select from caption where caption.key = job_history.key)
            )",
    },
    Check {
        name: "heard",
        law: "what a machine says in a job follows from an answer that is stored",
        means: "a verdict cannot be led back to what the machine wrote",
        mend: "delete the verdict, then `jobctl retry` the job",
        query: "select 'verdict ' || encode(verdict.key, 'hex') || ' of job ' || job_id as finding from verdict
            where job_id is not null and judge = 'machine' and not exists (
                select from job_key join asked on asked.key = job_key.key
                where job_key.job_id = verdict.job_id and asked.outcome = 'answered'
            )",
    },
    Check {
        name: "spent",
        law: "a block has spent what its answers cost and what open and lost requests may cost",
        means: "its budget stops it too early or too late",
        mend: "update asking set spent = (select coalesce(sum(coalesce(cost, estimate)), 0) from asked where asking_id = asking.id and outcome <> 'refused')",
        query: "select 'block ' || name || ' of sweep ' || sweep_id || ' has spent ' || spent || ', its requests come to ' || owed as finding
            from (
                select asking.id, name, sweep_id, spent, coalesce(sum(coalesce(cost, estimate)) filter (where outcome <> 'refused'), 0) as owed
                from asking left join asked on asked.asking_id = asking.id
                group by asking.id
            ) as counted
            where abs(spent - owed) > 1e-6 * (1 + abs(owed))",
    },
    Check {
        name: "unanswered",
        law: "no request has been under way for a day",
        means: "whoever asked has died, and nobody has asked again: what it may cost stays reserved",
        mend: "start a worker that asks, or `jobctl retry` the job",
        query: "select 'request ' || id || ' to ' || model as finding from asked
            where outcome = 'open' and asked_at < now() - interval '1 day'",
    },
    Check {
        name: "patches",
        law: "what is said of a part of a picture is of a part that it has",
        means: "the part cannot be cut: labels name another picture, or one of another size",
        mend: "`jobctl labels list` says which file they are from; import it right under another name, and delete the wrong rows",
        query: "select 'rating ' || encode(key, 'hex') || ' of ' || rater || ': ' || said.width || '×' || said.height || ' at '
                || said.x || ', ' || said.y || ' of ' || image.width || '×' || image.height as finding
            from (
                select key, rater, picture, x, y, width, height from rating where x is not null
                union all
                select key, rater, first, x, y, width, height from verdict where x is not null and first is not null
                union all
                select key, rater, second, x, y, width, height from verdict where x is not null and second is not null
            ) as said
            join image on image.picture = said.picture
            where said.x::bigint + said.width > image.width or said.y::bigint + said.height > image.height",
    },
    Check {
        name: "named_artifacts",
        law: "some row names every artifact",
        means: "a file is kept for nothing",
        mend: "`jobctl db prune`",
        query: "select encode(hash, 'hex') as finding from artifact
            where created_at < now() - interval '1 day'
                and hash not in (select artifacts_in_use((select coalesce(array_agg(hash), '{}') from artifact)))",
    },
    Check {
        name: "indexes",
        law: "every index is valid",
        means: "an index was being made when something died: it costs writes and serves no reads",
        mend: "drop the index, or `reindex index concurrently` it",
        query: "select indexrelid::regclass::text as finding from pg_index
            where not indisvalid and indrelid in (select oid from pg_class where relnamespace = 'public'::regnamespace)",
    },
];

impl Check {
    /// What breaks it, if anything does.
    ///
    /// # Errors
    /// Postgres is out of reach, or does not let us look.
    pub async fn broken(&self, tx: &mut Tx<'_>) -> anyhow::Result<Option<Finding>> {
        let query = format!(
            "select finding, count(*) over () as n from ({}) as found order by finding limit {MOST_TOLD}",
            self.query
        );
        let rows = sqlx::query(AssertSqlSafe(query))
            .fetch_all(&mut **tx)
            .await
            .with_context(|| format!("check that {}", self.law))?;
        let Some(first) = rows.first() else { return Ok(None) };
        Ok(Some(Finding {
            check: self.name,
            law: self.law,
            means: self.means,
            mend: self.mend,
            n: first.try_get("n")?,
            first: rows.iter().map(|row| row.try_get("finding")).collect::<Result<_, _>>()?,
        }))
    }
}

/// What breaks the invariants; nothing where all is well. All are looked at in one moment.
///
/// # Errors
/// Postgres is out of reach, or does not let us look.
pub async fn check(pool: &PgPool) -> anyhow::Result<Vec<Finding>> {
    let mut tx = pool.begin().await.context("begin a transaction")?;
    sqlx::query("set transaction isolation level repeatable read, read only").execute(&mut *tx).await?;
    let mut findings = Vec::new();
    for it in &CHECKS {
        findings.extend(it.broken(&mut tx).await?);
    }
    tx.rollback().await?;
    Ok(findings)
}

impl Finding {
    /// What breaks an invariant that is not seen by SQL.
    pub fn of(check: &'static str, law: &'static str, means: &'static str, mend: &'static str, all: &[String]) -> Self {
        let n = i64::try_from(all.len()).unwrap_or(i64::MAX);
        Self { check, law, means, mend, n, first: all.iter().take(MOST_TOLD).cloned().collect() }
    }
}
