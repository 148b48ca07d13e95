//! Fine-tuning as jobs: with a tiny package, real pictures on disk, real workers.

mod faults;
mod package;
mod runs;
mod sweeps;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Signal, kill_process};
use sqlx::AssertSqlSafe;

use crate::support::database::Database;
use crate::support::pictures::pictures_of;
use crate::support::{golden, wait_until};

/// Far more than anything here takes.
const LONG: Duration = Duration::from_secs(240);

/// A Stable Diffusion 3 of some hundred kilobytes, random, its autoencoder of factor 16.
fn tiny() -> PathBuf {
    golden("sd3/tiny")
}

/// Makes `n` pictures of 128×96 with captions in `folder` under the test's home.
fn dataset(db: &Database, folder: &str, n: u32) -> PathBuf {
    let folder = db.home.path().join(folder);
    let paths = pictures_of(&folder, n, 128, 96);
    let line = |(idx, path): (usize, &PathBuf)| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        format!("{}\n", serde_json::json!({"file_name": name, "text": format!("waves of kind {idx}")}))
    };
    let lines: String = paths.iter().enumerate().map(line).collect();
    fs::write(folder.join("metadata.jsonl"), lines).unwrap();
    folder
}

/// What every block here says beside its own keys: short runs in f32.
const SHORT: &str = "batch = 2\naccumulate = 1\nlearning_rate = 1e-3\nsize = 96\nlook_levels = 2\ndtype = \"f32\"";

/// A `[[finetune]]` block of the tiny package's denoiser.
fn block(name: &str, data: &Path, keys: &str) -> String {
    let model = tiny();
    format!("[[finetune]]\nname = \"{name}\"\nmodel = {model:?}\ndata = {data:?}\nt5_tokens = 16\n{SHORT}\n{keys}\n\n")
}

/// Writes a sweep of these blocks as `NAME.toml`.
fn sweep(db: &Database, name: &str, blocks: &str) -> PathBuf {
    let path = db.home.path().join(format!("{name}.toml"));
    fs::write(&path, format!("name = \"{name}\"\n\n{blocks}")).unwrap();
    path
}

/// Runs wait for their first checkpoint after some step to be noted as long as this lives: whoever is killed meanwhile is
/// killed in the middle, however fast it is.
struct Held<'a> {
    db: &'a Database,
    lock: sqlx::Transaction<'static, sqlx::Postgres>,
}

impl<'a> Held<'a> {
    /// After `step`.
    async fn after(step: i64, db: &'a Database) -> Self {
        let wait = format!(
            "create function wait_for_the_test() returns trigger language plpgsql as $$
            begin
                if new.step > {step} then perform pg_advisory_xact_lock_shared(4711); end if;
                return new;
            end $$"
        );
        sqlx::query(AssertSqlSafe(wait)).execute(&db.pool).await.unwrap();
        let trigger =
            "create trigger wait before insert on checkpoint for each row execute function wait_for_the_test()";
        db.execute(trigger).await;
        let mut lock = db.pool.begin().await.unwrap();
        sqlx::query("select pg_advisory_xact_lock(4711)").execute(&mut *lock).await.unwrap();
        Self { db, lock }
    }

    /// Waits until so many runs wait.
    async fn reached(&self, n: i64) {
        wait_until("checkpoints wait to be noted", LONG, async || {
            let waiting = "select count(*) from pg_locks join pg_database on pg_database.oid = database
                where locktype = 'advisory' and objid = 4711 and not granted and datname = current_database()";
            self.db.number(waiting).await >= n
        })
        .await;
    }

    async fn let_go(self) {
        self.lock.rollback().await.unwrap();
    }
}

/// Works on what is enqueued and kills the slot in the middle, while it waits for its first checkpoint after `step`.
/// `between` happens before the worker goes on. Answers with the step after which the last attempt began.
async fn killed_after(db: &Database, step: i64, between: impl AsyncFnOnce()) -> i64 {
    let held = Held::after(step, db).await;
    let mut worker = db.spawn(["worker", "--slots", "1", "--until-idle"]);
    held.reached(1).await;
    let slots = worker.slots();
    assert!(!slots.is_empty());
    for slot in slots {
        kill_process(slot, Signal::KILL).unwrap();
    }
    between().await;
    held.let_go().await;
    worker.ends_with(0, LONG);
    let attempts = "select count(*) from attempt join every_job on every_job.id = job_id where kind = 'finetune'";
    assert_eq!(db.number(attempts).await, 2);
    let went_on = "select coalesce(resumed_after, -1) from attempt join every_job on every_job.id = attempt.job_id
        where kind = 'finetune' order by attempt.lease desc limit 1";
    let after = db.number(went_on).await;
    assert!(after >= step, "it began after step {after}");
    after
}

impl Database {
    /// The points of a curve of a model.
    async fn curve(&self, model: &str, curve: &str) -> Vec<(i64, f64)> {
        sqlx::query_as("select step, value from training_curve where model = $1 and curve = $2 order by step")
            .bind(model)
            .bind(curve)
            .fetch_all(&self.pool)
            .await
            .unwrap()
    }

    /// The file of a model's trained part.
    async fn artifact_of(&self, model: &str) -> PathBuf {
        let parts = self.trained().await;
        let hash = &parts.iter().find(|it| it.0 == model).unwrap().1;
        self.home.path().join("artifacts").join(&hash[..2]).join(hash)
    }

    /// The hash of the picture that a model's first prompt made after this step.
    async fn sample(&self, model: &str, step: u64) -> String {
        let key: Vec<u8> = sqlx::query_scalar("select key from training where name = $1")
            .bind(model)
            .fetch_one(&self.pool)
            .await
            .unwrap();
        let key = jobctl::job::task::finetune::sample_key(&key.try_into().unwrap(), step, 0);
        sqlx::query_scalar("select encode(artifact, 'hex') from job_output where key = $1")
            .bind(&key.0[..])
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    /// The hash of the trained part of each model, by name.
    async fn trained(&self) -> Vec<(String, String)> {
        sqlx::query_as(
            "select training.name, encode(artifact, 'hex')
            from training join job_output on job_output.key = training.key order by 1",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap()
    }
}
