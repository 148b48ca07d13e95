//! What nothing names is found and removed, and nothing else; what is broken is found and said.

use std::fs;
use std::path::PathBuf;

use jobctl::job::Hash;
use jobctl::store::artifact::Artifacts;

use crate::support::database::Database;
use crate::support::golden;
use crate::support::pictures::{LADDER, pictures, sweep};
use crate::support::process::Printed;

/// A sweep that has made and scored pictures.
fn finished(db: &Database) -> PathBuf {
    let folder = db.home.path().join("photos");
    pictures(&folder, 2);
    let path = sweep(&folder, "made", LADDER, &["glcm_score"]);
    let made = format!(
        "[[generate]]\nname = \"tiny\"\nmodel = {:?}\nprompts = [\"a fox\"]\nsize = 64\nsteps = 1\nt5_tokens = 16\n\
         dtype = \"f32\"\n\n[evaluate]",
        golden("sd3/tiny")
    );
    fs::write(&path, fs::read_to_string(&path).unwrap().replace("[evaluate]", &made)).unwrap();
    db.jobctl(["run", path.to_str().unwrap()], 0);
    path
}

fn store(db: &Database) -> Artifacts {
    Artifacts::new(db.home.path().join("artifacts"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lost_the_race_is_swept_up_and_nothing_else() {
    let db = Database::new().await;
    finished(&db);
    let named: Vec<_> = store(&db).list().await.unwrap();
    assert!(named.len() as i64 == db.number("select count(*) from artifact").await && named.len() > 5);
    let check = db.jobctl(["db", "check", "--deep"], 0).out;
    assert!(check.contains("laws hold") && !check.contains("prune"), "{check}");

    // Stored, and the lease was lost before it was named; named by a row that has lost its last use.
    let stray = store(&db).put(b"the lease was lost".to_vec()).await.unwrap();
    let unnamed = store(&db).put(b"nobody wants this".to_vec()).await.unwrap();
    sqlx::query("insert into artifact (hash, bytes, media, created_at) values ($1, 17, 'text/plain', now() - interval '2 days')")
        .bind(&unnamed.0[..])
        .execute(&db.pool)
        .await
        .unwrap();
    let check = db.jobctl(["db", "check"], 1).out;
    assert!(
        check.contains(&unnamed.to_string())
            && check.contains("[named_artifacts]")
            && check.contains("1 files in the store"),
        "{check}"
    );

    let prune = |arguments: &[&str]| db.jobctl([&["db", "prune", "--json"][..], arguments].concat(), 0).json();
    let dry = prune(&["--dry-run"]);
    assert_eq!(
        (&dry["unnamed"]["files"], &dry["strays"]["files"], &dry["young"]["files"]),
        (&1.into(), &1.into(), &1.into())
    );
    assert_eq!(store(&db).list().await.unwrap().len(), named.len() + 2);
    // A file that has just been found may be on its way to being named, as may equal work's.
    let first = prune(&[]);
    assert_eq!((&first["unnamed"]["files"], &first["removed"]["files"]), (&1.into(), &0.into()));
    for hash in [&stray, &unnamed] {
        assert!(store(&db).check(hash).await.unwrap().is_none());
    }
    db.execute("update stray set found_at = found_at - interval '25 hours'").await;
    let later = prune(&[]);
    assert_eq!((&later["strays"]["files"], &later["young"]["files"]), (&2.into(), &0.into()));
    assert_eq!(later["removed"], serde_json::json!({"files": 2, "bytes": 35}));
    let mut left = store(&db).list().await.unwrap();
    left.sort();
    let mut expected = named;
    expected.sort();
    assert_eq!(left, expected);
    assert_eq!(prune(&["--age", "0s"])["removed"]["files"], 0);
    assert!(db.jobctl(["db", "check", "--deep"], 0).out.contains("laws hold"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_stray_that_equal_work_counts_on_stays() {
    let db = Database::new().await;
    db.submit(&crate::support::graph::graph("g", &["a"], &[])).await;
    let worker = db.worker().await;
    let prune = || db.jobctl(["db", "prune", "--json"], 0).json();
    // An attempt has died after it stored its result.
    let hash = store(&db).put(b"equal work".to_vec()).await.unwrap();
    assert_eq!(prune()["young"]["files"], 1);
    db.execute("update stray set found_at = found_at - interval '25 hours'").await;
    // The next one stores the same, and has not named it yet.
    db.claim(worker).await.unwrap();
    assert_eq!(store(&db).put(b"equal work".to_vec()).await.unwrap(), hash);
    let swept = prune();
    assert_eq!((&swept["young"]["files"], &swept["removed"]["files"]), (&1.into(), &0.into()));
    assert!(store(&db).check(&hash).await.unwrap().is_none());
    // A sweep that was cut off in the middle of removing it.
    let path = store(&db).path(&hash);
    fs::rename(&path, path.with_extension("condemned")).unwrap();
    assert_eq!(prune()["young"]["files"], 1);
    assert!(store(&db).check(&hash).await.unwrap().is_none());
    // One that nobody stores again goes.
    db.execute("update stray set found_at = found_at - interval '25 hours'").await;
    assert_eq!(prune()["removed"]["files"], 1);
    assert!(!path.exists() && !path.with_extension("condemned").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_young_is_swept_up_while_jobs_run() {
    let db = Database::new().await;
    db.submit(&crate::support::graph::graph("g", &["a"], &[])).await;
    let worker = db.worker().await;
    db.claim(worker).await.unwrap();
    let stray = store(&db).put(b"about to be named".to_vec()).await.unwrap();
    let said = db.jobctl(["db", "prune", "--age", "10min"], 1).err;
    assert!(said.contains("1 jobs run") && said.contains("--age 1h"), "{said}");
    db.jobctl(["db", "prune", "--age", "1h"], 0);
    assert!(store(&db).check(&stray).await.unwrap().is_none());
    assert!(db.jobctl(["db", "prune", "--age", "soon"], 2).err.contains("--age"));
    // Pictures that are being put into the store are not named yet either.
    let mut uploading = db.begin().await;
    sqlx::query("select pg_advisory_xact_lock_shared(hashtext('jobctl store'))")
        .execute(&mut *uploading)
        .await
        .unwrap();
    assert!(db.jobctl(["db", "prune"], 1).err.contains("being put into the store"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_gone_or_damaged_is_made_again_by_the_job_that_made_it() {
    let db = Database::new().await;
    let path = finished(&db);
    let hash = db.text("select encode(artifact, 'hex') from generation").await.parse::<Hash>().unwrap();
    let latent = "select encode(artifact, 'hex') from job_output join job_history using (key) where kind = 'denoise'";
    let latent = db.text(latent).await.parse::<Hash>().unwrap();
    fs::write(store(&db).path(&hash), b"rot").unwrap();
    fs::remove_file(store(&db).path(&latent)).unwrap();
    let said = Printed::of(db.command(["db", "check", "--deep"]).output().unwrap(), 1).out;
    assert!(said.contains(&format!("{hash} in the store")) && said.contains("is damaged"), "{said}");
    assert!(said.contains(&format!("{latent} is not in the store")) && said.contains("made by job"), "{said}");

    // Another metric of the same picture: the picture is damaged, and what it is decoded of is gone too.
    let text = fs::read_to_string(&path)
        .unwrap()
        .replace("\"glcm_score\"", "\"glcm_entropy\"")
        .replace("\"made\"", "\"again\"");
    let again = db.home.path().join("again.toml");
    fs::write(&again, text).unwrap();
    db.jobctl(["enqueue", again.to_str().unwrap()], 0);
    let worker = db.command(["worker", "--until-idle", "--slots", "2"]).output().unwrap();
    let said = Printed::of(worker, 0).err;
    assert!(said.contains("what the job needs is gone"), "{said}");
    assert_eq!(db.number("select count(*) from job_history where state <> 'done'").await, 0);
    db.check_laws().await;
    assert_eq!(db.number("select count(*) from attempt where outcome = 'retried'").await, 2);
    let why = db.text("select string_agg(error, ' | ') from attempt where outcome = 'retried'").await;
    assert!(
        why.contains("is damaged") && why.contains("is not in the store") && why.contains("`jobctl retry"),
        "{why}"
    );
    assert!(db.jobctl(["db", "check", "--deep"], 0).out.contains("laws hold"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_law_is_seen_when_it_is_broken() {
    let db = Database::new().await;
    finished(&db);
    let mut missed = Vec::new();
    for (law, breach) in [
        (
            "one_place",
            "insert into job (id, key, kind, lane, priority, state, limit_s, task) select id, key, kind, 0, 0, 'ready', 1, '{}' from job_history limit 1",
        ),
        ("keys", "delete from job_key where job_id = (select min(id) from job_history)"),
        (
            "blockers",
            "insert into job (id, key, kind, lane, priority, state, n_blockers, limit_s, task) values (9999, '\\x00', 'pool', 0, 0, 'waiting', 2, 1, '{}')",
        ),
        (
            "starved",
            "with child as (insert into job (id, key, kind, lane, priority, state, limit_s, task) values (9998, '\\x01', 'pool', 0, 0, 'ready', 1, '{}')) insert into job_edge select id, 9998, true from job_history where state = 'done' limit 1; update job_history set state = 'failed', error = 'x' where id in (select parent from job_edge where child = 9998)",
        ),
        (
            "attempts",
            "update attempt set ended_at = null, outcome = null where lease = (select min(lease) from attempt)",
        ),
        (
            "abandoned",
            "insert into job (id, key, kind, lane, priority, state, limit_s, task, lease, worker_id, slot, started_at, deadline_at) select 9997, '\\x02', 'pool', 0, 0, 'running', 1, '{}', 99999, id, 'cpu:0', now(), now() from worker limit 1; update worker set stopped_at = now() - interval '1 hour'",
        ),
        ("edges", "insert into job_edge values (123456, 123457, true)"),
        ("members", "insert into sweep_job values (1, 123456)"),
        (
            "wanted",
            "insert into job (id, key, kind, lane, priority, state, limit_s, task) values (9996, '\\x03', 'pool', 0, 0, 'ready', 1, '{}')",
        ),
        ("cells", "delete from source where idx = 0"),
        ("results", "delete from job_output where key = (select key from job_history where kind = 'encode' limit 1)"),
        (
            "scores",
            "insert into score select image_id, metric, variant, version, reference, value, why, note, job_id, scored_at - interval '1 second' from score limit 1",
        ),
        ("judged", "update job_history set kind = 'judge' where kind = 'evaluate'"),
        (
            "heard",
            "insert into verdict (key, first, second, aspect, judge, rater, shown, choice, job_id) select sha256('v'), sha256('a'), sha256('b'), 'x', 'machine', 'm', 'unknown', 'tie', min(id) from job_history",
        ),
        (
            "spent",
            "insert into asking (sweep_id, name, kind, model, spent) select id, 'gpt', 'judge', 'm', 0.75 from sweep limit 1; insert into asked (key, nth, asking_id, model, endpoint, prompt, estimate) select sha256('q'), 0, id, 'm', 'e', sha256('p'), 0.5 from asking",
        ),
        (
            "unanswered",
            "insert into asked (key, nth, model, endpoint, prompt, asked_at) values (sha256('q'), 0, 'm', 'e', sha256('p'), now() - interval '2 days')",
        ),
        (
            "patches",
            "insert into rating (key, picture, x, y, width, height, aspect, judge, rater, value, job_id) select sha256('r'), picture, width - 8, 0, 9, 8, 'quality', 'human', 'ann', 3, 1 from image limit 1",
        ),
        (
            "named_artifacts",
            "insert into artifact values ('\\x0000000000000000000000000000000000000000000000000000000000000001', 1, 'text/plain', now() - interval '3 days')",
        ),
        ("indexes", "update pg_index set indisvalid = false where indexrelid = 'job_edge_by_child'::regclass"),
    ] {
        let mut tx = db.begin().await;
        for statement in breach.split("; ") {
            sqlx::query(sqlx::AssertSqlSafe(statement.to_owned()))
                .execute(&mut *tx)
                .await
                .unwrap_or_else(|error| panic!("{law}: {error}"));
        }
        let check = jobctl::store::check::CHECKS.iter().find(|it| it.name == law).unwrap();
        if check.broken(&mut tx).await.unwrap().is_none() {
            missed.push(law);
        }
        tx.rollback().await.unwrap();
    }
    assert!(missed.is_empty(), "not seen: {missed:?}");
    assert_eq!(jobctl::store::check::CHECKS.len(), 19, "a law without a breach here");
    assert_eq!(jobctl::store::check::check(&db.pool).await.unwrap().len(), 0);
}
