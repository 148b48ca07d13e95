//! Bad pictures: each costs one row in "what failed", never the sweep.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use super::LONG;
use crate::support::database::Database;
use crate::support::pictures::{pictures, pictures_of, sweep};
use crate::support::{golden, wait_until};

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_costs_one_row_and_the_rest_is_done() {
    let db = Database::new().await;
    let folder = db.home.path().join("photos");
    pictures(&folder, 5);
    let bad = [
        ("truncated", "truncated"),
        ("empty", "the file is empty"),
        ("text", "not a JPEG, PNG or WebP file"),
        ("cmyk", "CMYK"),
        ("40000", "over the limit"),
    ];
    for name in bad.iter().map(|it| it.0).chain(["1x1", "63x64"]) {
        fs::copy(golden("images").join(format!("{name}.jpg")), folder.join(format!("{name}.jpg"))).unwrap();
    }
    let path = sweep(&folder, "bad", "", &["glcm_score", "compression_ratio"]);
    let printed = db.jobctl(["run", path.to_str().unwrap()], 1);
    for (sample, why) in bad {
        let rows: Vec<(String, String, i32)> =
            sqlx::query_as("select state, error, n_attempts from failure where sample = $1")
                .bind(sample)
                .fetch_all(&db.pool)
                .await
                .unwrap();
        let [(state, error, 1)] = rows.as_slice() else { panic!("{sample}: {rows:?}") };
        assert!(state == "failed" && error.contains(why), "{sample}: {error}");
    }
    assert_eq!(db.number("select count(*) from failure").await, 5);
    // Too small for the GLCM Score, but no failures: it is undefined and says why.
    assert_eq!(db.number("select count(*) from image").await, 7);
    let undefined =
        "select string_agg(sample, ' ' order by sample) from metric_history where value is null and why is not null";
    assert_eq!(db.text(undefined).await, "1x1 63x64");
    assert_eq!(db.number("select n::bigint from set_score where metric = 'compression_ratio'").await, 7);
    let report = printed.out.lines().find_map(|it| it.strip_prefix("report   ")).unwrap();
    let html = fs::read_to_string(report).unwrap();
    for (sample, why) in bad {
        assert!(html.contains(sample) && html.contains(why), "the report does not say what is wrong with {sample}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_vanish_or_change_after_planning_fail_clearly() {
    let db = Database::new().await;
    let folder = db.home.path().join("photos");
    let files = pictures_of(&folder, 60, 640, 480);
    let path = sweep(&folder, "moved", "", &["glcm_score", "glcm_texture"]);
    let mut run = db.spawn(["run", path.to_str().unwrap(), "--slots", "1"]);
    wait_until("the sweep is enqueued", LONG, async || db.number("select count(*) from sweep").await == 1).await;
    fs::remove_file(&files[58]).unwrap();
    fs::copy(&files[0], &files[59]).unwrap();
    run.ends_with(1, LONG);
    assert_eq!(db.number("select count(*) from job_history where state = 'done' and kind = 'evaluate'").await, 58);
    let failure = async |sample: &str| -> (String, i32) {
        sqlx::query_as("select error, n_attempts from failure where sample = $1")
            .bind(sample)
            .fetch_one(&db.pool)
            .await
            .unwrap()
    };
    let (gone, n_attempts) = failure("p058").await;
    assert!(gone.contains("p058.png") && gone.contains("No such file") && n_attempts == 3, "{gone}");
    let (changed, n_attempts) = failure("p059").await;
    assert!(changed.contains("p059.jpg has changed since it was enqueued") && n_attempts == 1, "{changed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_vanishes_fails_its_jobs_alone() {
    let db = Database::new().await;
    let gone = db.home.path().join("gone");
    pictures(&gone, 3);
    db.enqueue(&sweep(&gone, "gone", "", &["glcm_score"]));
    let photos = db.home.path().join("photos");
    pictures_of(&photos, 4, 200, 100);
    db.enqueue(&sweep(&photos, "here", "", &["glcm_score"]));
    fs::remove_dir_all(&gone).unwrap();
    db.spawn(["worker", "--until-idle"]).ends_with(0, LONG);
    assert_eq!(db.number("select count(*) from failure where sweep like 'gone-%'").await, 3);
    assert_eq!(db.number("select count(*) from failure").await, 3);
    assert_eq!(db.number("select count(*) from image").await, 4);
    // Enqueueing it now says what is missing, and enqueues nothing.
    let printed = db.jobctl(["enqueue", db.home.path().join("gone.toml").to_str().unwrap()], 1);
    assert!(printed.err.contains("photos") && printed.err.contains("gone"), "{}", printed.err);
    assert_eq!(db.number("select count(*) from sweep").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_files_are_one_job_and_two_samples() {
    let db = Database::new().await;
    let folder = db.home.path().join("photos");
    let files = pictures(&folder, 2);
    fs::copy(&files[0], folder.join("twin.png")).unwrap();
    let path = sweep(&folder, "twins", "", &["glcm_score"]);
    db.jobctl(["run", path.to_str().unwrap()], 0);
    assert_eq!(db.number("select count(*) from job_history where kind = 'evaluate'").await, 2);
    assert_eq!(db.number("select count(*) from score").await, 2);
    assert_eq!(db.text("select string_agg(sample, ' ' order by sample) from metric_history").await, "p000 p001 twin");
    assert_eq!(db.number("select count(distinct value) from metric_history").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_not_utf8_works() {
    let db = Database::new().await;
    let folder = db.home.path().join("photos");
    let files = pictures(&folder, 2);
    fs::rename(&files[1], folder.join(OsStr::from_bytes(b"caf\xe9 \t\\.jpg"))).unwrap();
    let path = sweep(&folder, "names", "", &["glcm_score"]);
    db.jobctl(["run", path.to_str().unwrap()], 0);
    db.check_laws().await;
    assert_eq!(db.number("select count(*) from metric_history where sample like 'caf%'").await, 1);
}
