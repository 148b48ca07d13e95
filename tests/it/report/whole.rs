//! From a sweep's file through the database to its report, and the measurement of a large one.

use serde_json::Value;

use crate::support::database::Database;
use crate::support::jobctl;
use crate::support::pictures::pictures_of;

#[tokio::test]
async fn pictures_made_elsewhere_stand_in_the_report_as_their_model() {
    let database = Database::new().await;
    let base = database.home.path().to_owned();
    for (folder, n) in [("photos", 4), ("sana", 4), ("pixart", 3)] {
        pictures_of(&base.join(folder), n, 320, 288);
    }
    let sweep = base.join("elsewhere.toml");
    let text = "name = \"elsewhere\"\n\n[[images]]\nname = \"photos\"\npath = \"photos\"\n\n\
        [[images]]\nname = \"Sana, 2K\"\npath = \"sana\"\nmodel = \"Sana\"\n\n\
        [[images]]\nname = \"others\"\npath = \"pixart\"\nmodel = \"PixArt-Σ\"\n\n\
        [evaluate]\nmetrics = [\"glcm_score\", \"compression_ratio\"]\n";
    std::fs::write(&sweep, text).unwrap();
    database.jobctl(["run", sweep.to_str().unwrap()], 0);
    let out = base.join("out");
    database.jobctl(["report", "elsewhere", "--out", out.to_str().unwrap()], 0);
    let report: Value = serde_json::from_slice(&std::fs::read(out.join("report.json")).unwrap()).unwrap();
    let entrants = report["entrants"].as_array().unwrap();
    let seen: Vec<(&str, Option<&str>, u64)> = entrants
        .iter()
        .map(|it| (it["name"].as_str().unwrap(), it["model"].as_str(), it["n_images"].as_u64().unwrap()))
        .collect();
    assert_eq!(seen.len(), 3);
    assert!(seen[..2].contains(&("Sana, 2K", Some("Sana"), 4)), "{seen:?}");
    assert!(seen[..2].contains(&("others", Some("PixArt-Σ"), 3)), "{seen:?}");
    assert_eq!(seen[2], ("photos", None, 4));
    // Equal pictures have equal scores: nothing tells the models apart.
    assert!(entrants[..2].iter().all(|it| it["standings"][0]["tier"] == 1), "{entrants:?}");
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("data-name=\"Sana, 2K\"") && page.contains("id=\"compare\""));
}

#[test]
fn a_large_report_is_measured_and_leaves_older_scores_in_the_tables() {
    let args = "bench report --models 3 --samples 5 --scores 40 --side 256 --pictures 2 --runs 1 --json";
    let output = jobctl().args(args.split(' ')).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let measured: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&measured["images"], &measured["scores"]), (&15.into(), &600.into()));
    let shown = measured["scores_shown"].as_u64().unwrap();
    assert!(shown > 0 && shown < 600 && shown.is_multiple_of(15), "{shown}");
    assert!(measured["page_bytes"].as_u64().unwrap() < 10_000_000);
}
