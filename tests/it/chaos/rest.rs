//! What is left when all is over: nothing in the scratch folder, and in the store what the database names, once
//! `jobctl db prune` has swept up what attempts left that lost the race. It must find that and nothing else.

use std::collections::BTreeSet;
use std::process::Stdio;

use anyhow::Context;
use jobctl::job::Hash;
use serde_json::Value;

use super::field::Field;

/// Sweeps up, and returns what was not as it should be.
pub async fn sweep_up(field: &Field) -> anyhow::Result<Vec<String>> {
    let mut wrong = Vec::new();
    check(field, "before sweeping up", &mut wrong)?;
    let (files, rows, named) = (files(field)?, rows(field, ALL).await?, rows(field, NAMED).await?);
    let expected = [("strays", files.difference(&rows).count()), ("unnamed", rows.difference(&named).count())];
    let first = prune(field)?;
    for (what, n) in expected {
        if first[what]["files"] != n {
            wrong.push(format!("prune finds {} {what}, and there are {n}", first[what]["files"]));
        }
    }
    // What is found for the first time is removed by the next.
    let second = prune(field)?;
    let removed = |it: &Value| it["removed"]["files"].as_u64().unwrap_or_default();
    let n: usize = expected.iter().map(|it| it.1).sum();
    if removed(&first) + removed(&second) != n as u64 {
        wrong.push(format!("prune has removed {} and then {} files of {n}", removed(&first), removed(&second)));
    }
    let (files, rows) = (self::files(field)?, self::rows(field, ALL).await?);
    if files != named || rows != named {
        wrong.push(format!(
            "{} artifacts are named, {} have a row and {} a file after sweeping up",
            named.len(),
            rows.len(),
            files.len()
        ));
    }
    check(field, "after sweeping up", &mut wrong)?;
    println!(
        "swept up: {} files that no artifact was of, {} artifacts that nothing named",
        expected[0].1, expected[1].1
    );
    Ok(wrong)
}

const ALL: &str = "select hash from artifact";
/// By the test's own account: results, checkpoints of what is not done, and the mark by which the store is known.
const NAMED: &str =
    "select artifact from job_output union select artifact from checkpoint union select hash from store_mark";

async fn rows(field: &Field, query: &'static str) -> anyhow::Result<BTreeSet<String>> {
    let rows: Vec<Vec<u8>> = sqlx::query_scalar(query).fetch_all(&field.pool).await?;
    rows.into_iter().map(|it| Ok(Hash::try_from(it)?.to_string())).collect()
}

/// The names of the files in the store.
pub fn files(field: &Field) -> anyhow::Result<BTreeSet<String>> {
    let mut files = BTreeSet::new();
    for entry in walkdir::WalkDir::new(field.artifacts()) {
        let entry = entry?;
        if entry.file_type().is_file() && !entry.path().starts_with(field.artifacts().join("scratch")) {
            files.insert(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(files)
}

/// The files in the scratch folder.
pub fn scratch(field: &Field) -> Vec<String> {
    let all = walkdir::WalkDir::new(field.artifacts().join("scratch")).into_iter().filter_map(Result::ok);
    all.filter(|it| it.file_type().is_file()).map(|it| it.path().display().to_string()).collect()
}

fn check(field: &Field, when: &str, wrong: &mut Vec<String>) -> anyhow::Result<()> {
    let output = field.jobctl(&["db", "check", "--deep"]).stdin(Stdio::null()).output()?;
    if !output.status.success() {
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        wrong.push(format!("`jobctl db check --deep` {when}: {out}{err}"));
    }
    Ok(())
}

fn prune(field: &Field) -> anyhow::Result<Value> {
    let output = field.jobctl(&["db", "prune", "--age", "0s", "--json"]).stdin(Stdio::null()).output()?;
    let err = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "jobctl db prune: {err}");
    serde_json::from_slice(&output.stdout).with_context(|| format!("understand `jobctl db prune --json`; {err}"))
}
