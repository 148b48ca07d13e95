//! Batch files: what is exported can be answered elsewhere, and what comes back means what it would over the wire.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::server::{SNAPSHOT, Taste, well};
use crate::support::database::Database;

/// Answers the requests of a file as a batch would, `wrong` ones with nonsense.
fn answered(requests: &Path, wrong: impl Fn(usize) -> bool) -> String {
    let text = fs::read_to_string(requests).unwrap();
    let line = |(idx, line): (usize, &str)| {
        let request: Value = serde_json::from_str(line).unwrap();
        assert_eq!((&request["method"], &request["url"]), (&"POST".into(), &"/v1/chat/completions".into()));
        assert_eq!(request["custom_id"].as_str().unwrap().len(), 64);
        let text = if wrong(idx) { "I cannot say.".to_owned() } else { well(&request["body"], Taste::Detail) };
        let choice = json!({ "message": { "content": text }, "finish_reason": "stop" });
        let usage = json!({ "prompt_tokens": 1000, "completion_tokens": 100 });
        let body = json!({ "model": SNAPSHOT, "choices": [choice], "usage": usage });
        json!({ "id": "batch_req_1", "custom_id": request["custom_id"], "response": { "status_code": 200, "body": body }, "error": null })
            .to_string()
    };
    text.lines().enumerate().map(line).collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_exported_and_answered_elsewhere_ends_as_if_it_were_asked_here() {
    let db = Database::new().await;
    db.enqueue_judged("batch", 3, "prices = { input = 2.5, output = 10.0, batch = 0.5 }");
    let out = db.home.path().join("requests.jsonl");
    let results = db.home.path().join("results.jsonl");
    let (out_text, results_text) = (out.to_str().unwrap(), results.to_str().unwrap());
    let export = || db.jobctl(["judge", "export", "batch", "--out", out_text, "--json"], 0).json();
    let import = |status| db.jobctl(["judge", "import", results_text, "--json"], status).json();
    let said = export();
    assert_eq!((&said["requests"], &said["waiting"]), (&6.into(), &0.into()));

    // The third answer cannot be understood, and there are lines that are no answers.
    let mut text = answered(&out, |idx| idx == 2);
    let failed = json!({ "custom_id": "0".repeat(64), "response": { "status_code": 500, "body": { "error": { "message": "oops" } } } });
    text.push_str(&format!("\n\n{failed}\nnot json\n{}\n", json!({ "custom_id": "request-1" })));
    fs::write(&results, &text).unwrap();
    let said = import(1);
    let counts = |said: &Value| ["ended", "useless", "known", "wrong"].map(|it| said[it].as_u64().unwrap());
    assert_eq!(counts(&said), [5, 1, 0, 3]);
    let err = db.jobctl(["judge", "import", results_text], 1).err;
    assert!(err.contains("results.jsonl:8: the request failed with status 500: oops"), "{err}");
    assert!(
        err.contains("results.jsonl:9: that is no JSON") && err.contains("`request-1` is no request of jobctl"),
        "{err}"
    );
    assert_eq!(db.number("select count(*) from verdict").await, 15);

    // The same file again changes nothing.
    let before = db.text("select string_agg(t::text, '|' order by id) from asked as t").await;
    assert_eq!(counts(&import(1)), [0, 0, 6, 3]);
    assert_eq!(db.text("select string_agg(t::text, '|' order by id) from asked as t").await, before);

    // What could not be understood is asked once more, under another name.
    assert_eq!(export()["requests"], 1);
    let again: Value = serde_json::from_str(fs::read_to_string(&out).unwrap().trim()).unwrap();
    assert!(again["custom_id"].as_str().unwrap().ends_with("01"));
    fs::write(&results, answered(&out, |_| false)).unwrap();
    assert_eq!(counts(&import(0)), [1, 0, 0, 0]);
    db.check_judged(7, 18).await;
    assert_eq!(export()["requests"], 0);
    assert_eq!(db.text("select distinct rater from verdict").await, SNAPSHOT);
    let status = db.jobctl(["status", "--json"], 0).json();
    assert_eq!((&status["asking"][0]["answered"], &status["asking"][0]["again"]), (&7.into(), &1.into()));
    // 1,000 tokens at 2.50 and 100 at 10 for 10^6 of them, at half of the price.
    assert!((status["asking"][0]["spent"].as_f64().unwrap() - 7.0 * 0.0035 / 2.0).abs() < 1e-9);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_would_be_too_large_go_on_in_others() {
    let db = Database::new().await;
    db.enqueue_judged("split", 3, "");
    let out = db.home.path().join("requests.jsonl");
    let said =
        db.jobctl(["judge", "export", "split", "--out", out.to_str().unwrap(), "--max-bytes", "60000", "--json"], 0);
    let said = said.json();
    let files: Vec<&str> = said["files"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    assert!(files.len() > 1 && files[1].ends_with("requests-2.jsonl"), "{files:?}");
    let n_lines: usize = files.iter().map(|it| fs::read_to_string(it).unwrap().lines().count()).sum();
    assert_eq!(n_lines, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_from_a_file_help_jobs_that_the_budget_has_stopped() {
    let db = Database::new().await;
    let server = super::server::Server::start(Taste::Detail, &[]);
    db.enqueue_judged("stopped", 1, "budget = 0");
    let out = db.home.path().join("requests.jsonl");
    db.jobctl(["judge", "export", "stopped", "--out", out.to_str().unwrap()], 0);
    db.ask_all(&server);
    assert!(server.seen().is_empty());
    assert_eq!(db.number("select count(*) from job_history where state = 'failed'").await, 2);
    let results = db.home.path().join("results.jsonl");
    fs::write(&results, answered(&out, |_| false)).unwrap();
    db.jobctl(["judge", "import", results.to_str().unwrap()], 0);
    db.check_judged(2, 6).await;
}
