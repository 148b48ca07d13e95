//! What must hold: of the tables at any moment, and of tables, files and the ledger together when all is quiet.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io::Read;

use jobctl::job::Hash;
use jobctl::job::task::rehearse::Rehearse;
use serde::Deserialize;
use sqlx::PgPool;

use super::field::Field;
use super::work::Work;

/// Each counts what must not be, in one snapshot.
const LAWS: [(&str, &str); 11] = [
    (
        "jobs stand in both tables, or twice in the history",
        "select count(*) - count(distinct id) from every_job",
    ),
    ("jobs are gone", "select count(*) from job_key where job_id not in (select id from every_job)"),
    (
        "jobs' counts of unfinished parents are wrong",
        "select count(*) from job where state <> 'running' and n_blockers <> (
            select count(*) from job_edge join job as parent on parent.id = job_edge.parent where job_edge.child = job.id)",
    ),
    (
        "attempts are open whose jobs do not run with that lease, or closed whose jobs do",
        "select count(*) from attempt
        where (ended_at is null) <> (lease in (select lease from job where state = 'running'))",
    ),
    (
        "jobs are done that have not exactly one done attempt",
        "select count(*) from job_history left join (
            select job_id, count(*) as n from attempt where outcome = 'done' group by job_id) as done on done.job_id = id
        where state = 'done' and coalesce(n, 0) <> 1",
    ),
    (
        "jobs have a done attempt and are not done",
        "select count(*) from attempt join every_job on every_job.id = attempt.job_id
        where outcome = 'done' and state <> 'done'",
    ),
    (
        "attempts of one job overlap in time",
        "select count(*) from (
            select started_at < lag(ended_at, 1, '-infinity') over (partition by job_id order by lease) as too_early
            from attempt) as pairs
        where too_early",
    ),
    (
        "done jobs have no artifact, or unfinished ones have one",
        "select count(*) from every_job left join job_output on job_output.key = every_job.key
        where (state = 'done') <> (job_output.key is not null)",
    ),
    (
        "artifacts were written by another job than their key's",
        "select count(*) from job_output join job_key using (key) where job_key.job_id <> job_output.job_id",
    ),
    (
        "jobs have too few or too many scores",
        "select count(*) from every_job left join (
            select job_id, count(*) as n from score group by job_id) as scored on scored.job_id = id
        where coalesce(n, 0) <> case when state = 'done' then (task ->> 'scores')::int else 0 end",
    ),
    (
        "scores of one image and metric exist twice",
        "select count(*) - count(distinct (image_id, metric, variant, version)) from score",
    ),
];

/// Which laws of the tables are broken; an error where Postgres is away.
pub async fn broken(pool: &PgPool) -> anyhow::Result<Vec<String>> {
    let mut tx = pool.begin().await?;
    sqlx::query("set transaction isolation level repeatable read").execute(&mut *tx).await?;
    let mut broken = Vec::new();
    for (what, query) in LAWS {
        let n: i64 = sqlx::query_scalar(query).fetch_one(&mut *tx).await?;
        if n > 0 {
            broken.push(format!("{what}: {n}"));
        }
    }
    Ok(broken)
}

/// A line of the ledger.
#[derive(Deserialize)]
struct Line {
    seed: u64,
    lease: i64,
    effect: String,
    pid: u32,
}

/// Compares tables, files and the ledger, when nothing runs any more.
pub async fn broken_at_the_end(field: &Field, work: &Work) -> anyhow::Result<Vec<String>> {
    let mut wrong = broken(&field.pool).await?;
    let rows: Vec<(i64, String, i32)> =
        sqlx::query_as("select id, state, n_attempts from every_job").fetch_all(&field.pool).await?;
    let states: HashMap<i64, (String, i32)> = rows.into_iter().map(|(id, state, n)| (id, (state, n))).collect();
    if states.len() != work.jobs.len() {
        wrong.push(format!("{} jobs were enqueued and {} exist", work.jobs.len(), states.len()));
    }
    for (seed, job) in &work.jobs {
        let state = states.get(&job.id.0).map_or("nothing", |it| it.0.as_str());
        let parent = job.parent.and_then(|it| states.get(&work.jobs[&it].id.0)).map(|it| it.0.as_str());
        let may = match state {
            "done" => true,
            "cancelled" => job.cancelled,
            "skipped" => parent.is_some_and(|it| it != "done"),
            _ => false,
        };
        if !may {
            wrong.push(format!("job {} (seed {seed}) ended as {state}, its parent as {parent:?}", job.id.0));
        }
    }
    ledger_agrees(field, work, &mut wrong).await?;
    files_agree(field, work, &mut wrong).await?;
    Ok(wrong)
}

/// What the tasks say themselves, against what the attempts' rows say.
async fn ledger_agrees(field: &Field, work: &Work, wrong: &mut Vec<String>) -> anyhow::Result<()> {
    let text = fs::read_to_string(&work.ledger)?;
    let attempts: Vec<(i64, i64, String)> =
        sqlx::query_as("select lease, job_id, coalesce(outcome, 'open') from attempt").fetch_all(&field.pool).await?;
    let attempts: HashMap<i64, (i64, String)> =
        attempts.into_iter().map(|(lease, job, outcome)| (lease, (job, outcome))).collect();
    let mut of_lease: BTreeMap<i64, Vec<Line>> = BTreeMap::new();
    for line in text.lines() {
        match serde_json::from_str::<Line>(line) {
            Ok(line) => of_lease.entry(line.lease).or_default().push(line),
            Err(error) => wrong.push(format!("the ledger has a torn line: {error}: {line}")),
        }
    }
    let mut last_of_seed: HashMap<u64, i64> = HashMap::new();
    for (lease, lines) in &of_lease {
        let (seed, pid) = (lines[0].seed, lines[0].pid);
        last_of_seed.insert(seed, *lease);
        if lines.iter().any(|it| (it.seed, it.pid) != (seed, pid)) {
            wrong.push(format!("lease {lease} was used by two processes or for two jobs"));
        }
        let count = |effect: &str| lines.iter().filter(|it| it.effect == effect).count();
        if count("begin") != 1 || count("made") > 1 {
            wrong.push(format!("lease {lease} began {} times and made {} results", count("begin"), count("made")));
        }
        match attempts.get(lease) {
            Some((job, outcome)) => {
                if work.jobs.get(&seed).is_none_or(|it| it.id.0 != *job) {
                    wrong.push(format!("lease {lease} is job {job}'s and worked on seed {seed}"));
                }
                if outcome == "done" && count("made") != 1 {
                    wrong.push(format!("lease {lease} is done and has made nothing"));
                }
            }
            None => wrong.push(format!("lease {lease} worked and has no attempt")),
        }
    }
    for (lease, (job, _)) in attempts.iter().filter(|it| it.1.1 == "done") {
        match of_lease.get(lease).map(|it| it[0].seed) {
            // Nobody works on what is done.
            Some(seed) if last_of_seed[&seed] == *lease => {}
            Some(_) => wrong.push(format!("job {job} was worked on after it was done by lease {lease}")),
            None => wrong.push(format!("job {job} is done by lease {lease}, which has done nothing")),
        }
    }
    Ok(())
}

/// The bytes that a rehearsal makes.
fn made_by(task: &Rehearse) -> Vec<u8> {
    let stream = blake3::Hasher::new().update(&task.seed.to_le_bytes()).finalize_xof();
    let mut bytes = Vec::new();
    stream.take(task.bytes).read_to_end(&mut bytes).unwrap();
    bytes
}

/// The store against the tables: every file whole, every row's file there, and none that nobody can have made.
async fn files_agree(field: &Field, work: &Work, wrong: &mut Vec<String>) -> anyhow::Result<()> {
    let rows: Vec<(Vec<u8>, i64)> = sqlx::query_as("select hash, bytes from artifact").fetch_all(&field.pool).await?;
    let outputs: Vec<(Vec<u8>, Vec<u8>)> =
        sqlx::query_as("select key, artifact from job_output").fetch_all(&field.pool).await?;
    let outputs: HashMap<Vec<u8>, Vec<u8>> = outputs.into_iter().collect();
    let mut explained: HashSet<Hash> = HashSet::new();
    for job in work.jobs.values() {
        let hash = Hash::of(&made_by(&job.task));
        if outputs.get(&job.key.0[..]).is_some_and(|it| *it != hash.0) {
            wrong.push(format!("job {} has another artifact than it makes", job.id.0));
        }
        explained.insert(hash);
    }
    let mark: Vec<u8> = sqlx::query_scalar("select hash from store_mark").fetch_one(&field.pool).await?;
    explained.insert(Hash::try_from(mark)?);
    let mut files: HashMap<String, u64> = HashMap::new();
    for entry in walkdir::WalkDir::new(field.artifacts()) {
        let entry = entry?;
        if entry.path().starts_with(field.artifacts().join("scratch")) || !entry.file_type().is_file() {
            continue;
        }
        let (bytes, name) = (fs::read(entry.path())?, entry.file_name().to_string_lossy().into_owned());
        let hash = Hash::of(&bytes);
        if hash.to_string() != name {
            wrong.push(format!("{} is not what its name says", entry.path().display()));
        }
        let is_checkpoint = bytes.windows(7).any(|it| it == b" after ");
        if !explained.contains(&hash) && !is_checkpoint {
            wrong.push(format!("{} was made by nobody", entry.path().display()));
        }
        files.insert(name, bytes.len() as u64);
    }
    for (hash, n_bytes) in rows {
        let name = Hash::try_from(hash)?.to_string();
        if files.get(&name).copied() != u64::try_from(n_bytes).ok() {
            wrong.push(format!("artifact {name} has {n_bytes} bytes and its file {:?}", files.get(&name)));
        }
    }
    Ok(())
}
