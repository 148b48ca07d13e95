//! What the README shows, run as it stands.

use std::fs;

use crate::support::database::Database;
use crate::support::pictures::{LADDER, pictures, sweep};
use crate::support::{jobctl, root};

/// The README's blocks in a language.
fn blocks(language: &str) -> Vec<String> {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let fence = format!("```{language}\n");
    readme.split(&fence).skip(1).map(|it| it.split("```").next().unwrap().to_owned()).collect()
}

/// A database with one finished sweep.
async fn after_a_sweep() -> Database {
    let database = Database::new().await;
    let folder = database.home.path().join("photos");
    pictures(&folder, 3);
    let metrics = ["glcm_score", "compression_ratio", "psnr", "ssim"];
    let file = sweep(&folder, "demo", LADDER, &metrics);
    database.jobctl(["run", file.to_str().unwrap()], 0);
    database
}

fn query(database: &Database, sql: &str) -> String {
    database.jobctl(["db", "psql", "-X", "-v", "ON_ERROR_STOP=1", "-c", sql], 0).out
}

#[tokio::test]
async fn every_query_runs_after_a_finished_sweep() {
    let database = after_a_sweep().await;
    let queries = blocks("sql");
    assert!(queries.len() >= 6, "{} queries", queries.len());
    for sql in &queries {
        let rows = query(&database, sql);
        let may_be_empty =
            sql.contains("from failure") || sql.contains("from generated_image") || sql.contains("where value is null");
        assert!(may_be_empty || !rows.contains("(0 rows)"), "{sql}\n{rows}");
    }
}

#[tokio::test]
async fn the_queries_that_the_demo_prints_run() {
    let script = fs::read_to_string(root().join("jobs/demo.sh")).unwrap();
    let queries: Vec<&str> =
        script.lines().filter_map(|it| it.trim().strip_prefix("$jobctl db psql -c \"")?.strip_suffix('"')).collect();
    assert_eq!(queries.len(), 3);
    let database = after_a_sweep().await;
    for sql in queries {
        query(&database, sql);
    }
}

#[tokio::test]
async fn the_sweep_is_right() {
    let database = Database::new().await;
    pictures(&database.home.path().join("photos"), 2);
    let [text, made, limits, rehearsal, asks] = blocks("toml").try_into().unwrap();
    let made = jobctl::sweep::Sweep::parse(&made, "README.md").unwrap_or_else(|it| panic!("{it}"));
    assert_eq!((made.generate[0].points().len(), made.reconstruct[0].points().len()), (8, 4));
    let limited = jobctl::sweep::Sweep::parse(&format!("{rehearsal}\n{limits}"), "README.md");
    assert_eq!(limited.unwrap_or_else(|it| panic!("{it}")).rehearse[0].n, 1000);
    let asks = jobctl::sweep::Sweep::parse(&asks, "README.md").unwrap_or_else(|it| panic!("{it}"));
    let needs = asks.generate[0].wants.needs(true);
    assert_eq!(needs.to_string(), "a GPU called `h100` with 80 GiB of a worker labelled `fast-disk`");
    let file = database.home.path().join("mine.toml");
    fs::write(&file, text).unwrap();
    let ratings = "sample,rater,rating,x,y,width,height\np000,ann,3,0,0,64,64\np000,bob,4,0,0,64,64\np001,ann,2,,,,\n";
    fs::write(database.home.path().join("ratings.csv"), ratings).unwrap();
    let plan = database.jobctl(["plan", file.to_str().unwrap(), "--json"], 0).json();
    // Two [[images]] blocks, and ladders of 4, 2, 2 and 2 points, of 2 pictures each; one patch, which two have rated.
    assert_eq!(plan["cells"], 25);
}

#[test]
fn every_verb_is_named() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let table = readme.split("## Verbs").nth(1).unwrap().split("## ").next().unwrap();
    let help = String::from_utf8(jobctl().arg("--help").output().unwrap().stdout).unwrap();
    let verbs = help.split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
    // What goes on from the line before stands further right.
    for line in verbs.lines().filter_map(|it| it.strip_prefix("  ")).filter(|it| !it.starts_with(' ')) {
        let verb = line.split(' ').next().unwrap();
        let named = [format!("`{verb}`"), format!("`{verb} ")].iter().any(|it| table.contains(it));
        assert!(verb == "help" || named, "README.md does not name `{verb}`");
    }
}
