//! `jobctl enqueue`: mistakes, dry runs, very many cells.

use std::fs;

use crate::support::database::Database;
use crate::support::pictures::{LADDER, pictures, sweep};
use crate::support::root;

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_with_a_mistake_enqueues_nothing() {
    let db = Database::new().await;
    let before = db.dump().await;
    let mut n_files = 0;
    for entry in fs::read_dir(root().join("tests/bad_sweeps")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|it| it != "toml") {
            continue;
        }
        n_files += 1;
        let file = path.to_str().unwrap();
        let said = db.jobctl(["enqueue", file], 2);
        assert_eq!(said.out, "");
        assert!(said.err.starts_with(&format!("{file}:")), "{}", said.err);
        assert!(said.err.ends_with("nothing was enqueued\n"), "{}", said.err);
        assert!(db.jobctl(["run", file], 2).out.is_empty());
    }
    assert!(n_files >= 20);
    assert_eq!(db.dump().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_what_it_would_do_and_does_nothing() {
    let db = Database::new().await;
    let folder = db.home.path().join("photos");
    pictures(&folder, 3);
    let path = sweep(&folder, "dry", LADDER, &["glcm_score", "compression_ratio"]);
    let path = path.to_str().unwrap();
    let before = db.dump().await;
    let said = db.jobctl(["enqueue", path, "--dry-run"], 0).out;
    assert!(said.contains("to run   15 evaluate, 5 pool") && said.contains("nothing was enqueued (dry run)"), "{said}");
    assert!(said.contains("estimate") && said.contains("cells    15"), "{said}");
    let json = db.jobctl(["plan", path, "--json"], 0).json();
    assert_eq!((&json["new"]["evaluate"], &json["new"]["pool"], &json["cells"]), (&15.into(), &5.into(), &15.into()));
    assert_eq!(db.dump().await, before);

    db.jobctl(["run", path], 0);
    let said = db.jobctl(["enqueue", path, "--dry-run"], 0).out;
    assert!(said.contains("to run   nothing") && said.contains("known    15 evaluate, 5 pool"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_cells_are_enqueued_only_when_they_are_meant() {
    let db = Database::new().await;
    let folder = db.home.path().join("photos");
    pictures(&folder, 1);
    let seeds: Vec<String> = (0..1000).map(|it| it.to_string()).collect();
    let sigmas: Vec<String> = (1..=1000).map(|it| format!("{}", f64::from(it) / 8.0)).collect();
    let noise = format!(
        "[[damage]]\nof = \"photos\"\nkind = \"noise\"\nsigma = [{}]\nseed = [{}]",
        sigmas.join(", "),
        seeds.join(", ")
    );
    let path = sweep(&folder, "many", &noise, &["glcm_score"]);
    let before = db.dump().await;
    let said = db.jobctl(["enqueue", path.to_str().unwrap()], 2);
    assert!(said.err.contains("1000001 cells") && said.err.contains("--yes"), "{}", said.err);
    assert_eq!(db.dump().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_that_is_not_there_is_an_error_that_names_it() {
    let db = Database::new().await;
    for words in [["enqueue", "/nowhere/x.toml"], ["report", "/nowhere/x.toml"]] {
        let said = db.jobctl(words, 2).err;
        assert!(said.contains("/nowhere/x.toml") && said.contains("No such file"), "{said}");
    }
}
