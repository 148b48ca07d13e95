//! The program: nights over real sweeps, kept, accepted, rendered again as they were.

use std::fs;
use std::path::PathBuf;

use crate::support::database::Database;
use crate::support::pictures::{LADDER, pictures, sweep};

/// Enqueues a small sweep and works it off.
pub fn small(db: &Database) -> PathBuf {
    let folder = db.home.path().join("photos");
    pictures(&folder, 4);
    let path = sweep(&folder, "small", LADDER, &["glcm_score", "compression_ratio", "psnr"]);
    db.jobctl(["enqueue", path.to_str().unwrap()], 0);
    db.jobctl(["worker", "--slots", "1", "--until-idle", "--no-schedules"], 0);
    path
}

/// Writes a definition over that sweep, with these blocks.
pub fn report(db: &Database, blocks: &str) -> String {
    let path = db.home.path().join("nightly.toml");
    let text = format!("name = \"nightly\"\ntitle = \"Every night\"\n[sweeps]\nnames = [\"small\"]\n{blocks}\n");
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_night_is_kept_compared_accepted_and_rendered_again() {
    let db = Database::new().await;
    small(&db);
    let path =
        report(&db, "[compare]\nbaseline = \"photos\"\n[[alarm]]\nmetric = [\"glcm_score\", \"compression_ratio\"]");
    let first = db.jobctl(["report", &path, "--keep", "--json"], 0).json();
    assert_eq!((&first["verdict"], &first["good"]), (&"first night".into(), &true.into()), "{first}");
    let at = first["at"].as_str().unwrap().to_owned();
    for name in ["html", "json", "summary", "text", "found"] {
        assert!(fs::metadata(first[name].as_str().unwrap()).unwrap().len() > 200, "{name}");
    }
    let second = db.jobctl(["report", &path, "--json"], 0).json();
    let page = fs::read_to_string(second["html"].as_str().unwrap()).unwrap();
    assert!(page.contains("id=\"nights\"") && page.contains("Every series against the last good night"));
    assert!(page.contains("class=\"trend f0\""), "two nights make a line");
    assert_eq!(second["verdict"], "nothing changed beyond noise");
    assert_eq!(second["run"], serde_json::Value::Null);
    assert_eq!(db.number("select count(*) from report_run").await, 1);

    // Every picture of the worst rung is scored lower from now on.
    db.execute(
        "insert into score (image_id, metric, variant, version, reference, value, job_id)
        select image_id, metric, variant, version, reference, value * 0.8 + 1e-6 * image_id, job_id from score where metric = 'glcm_score'",
    )
    .await;
    let worse = db.jobctl(["report", &path, "--keep", "--json"], 0).json();
    let found: serde_json::Value =
        serde_json::from_slice(&fs::read(worse["found"].as_str().unwrap()).unwrap()).unwrap();
    // Four pictures cannot be told from chance by signs alone: 2 of 16 choices are as far.
    assert_eq!(worse["verdict"], "nothing changed beyond noise", "{found:#}");
    let change =
        found["changes"].as_array().unwrap().iter().find(|it| it["series"]["metric"] == "glcm_score:authors@1");
    let change = change.unwrap_or_else(|| panic!("{found:#}"));
    assert_eq!(change["difference"]["p"], 0.125);
    assert_eq!(change["difference"]["how"]["paired"]["n"], 4);

    // The past is as it was.
    let again = db
        .jobctl(["report", &path, "--at", &at, "--json", "--out", db.home.path().join("then").to_str().unwrap()], 0)
        .json();
    let read = |it: &serde_json::Value| fs::read_to_string(it["found"].as_str().unwrap()).unwrap();
    assert_eq!(read(&again), read(&first));
    let said = db.jobctl(["report", &path, "--accept", "--json"], 0).json();
    assert_eq!(said["run"], worse["run"]);
    assert!(db.jobctl(["report", &path, "--at", "2999-01-01"], 2).err.contains("not past"));
    assert!(db.jobctl(["report", &path, "--mail"], 2).err.contains("no [mail]"));
    assert!(db.jobctl(["report", "small", "--keep"], 2).err.contains("definition"));
    // A sweep as it was before it was scored.
    let early = db.jobctl(["report", "small", "--at", "1day", "--json"], 0).json();
    let early: serde_json::Value = serde_json::from_slice(&fs::read(early["json"].as_str().unwrap()).unwrap()).unwrap();
    assert_eq!(early["metrics"].as_array().unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_with_mistakes_is_answered_with_their_places() {
    let db = Database::new().await;
    let path = report(&db, "[mial]\nto = \"x\"");
    let said = db.jobctl(["report", &path], 2).err;
    assert!(
        said.contains("nightly.toml:5:2: `mial` is no key of the report") && said.contains("did you mean `mail`?"),
        "{said}"
    );
    let said = db.jobctl(["schedule", "add", "x", "--cron", "0 3 * * *", "--report", &path], 2).err;
    assert!(said.contains("did you mean `mail`?"), "{said}");
}
