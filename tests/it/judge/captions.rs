//! Captions: written once, and prompts of what is generated then.

use std::fs;

use super::LONG;
use super::server::{Answer, Server, Taste};
use crate::support::database::Database;
use crate::support::golden;
use crate::support::pictures::pictures;

/// Two photographs, captioned by people and by a machine, and a tiny model that makes pictures of both captions.
fn ablation(db: &Database, keys: &str) -> std::path::PathBuf {
    pictures(&db.home.path().join("photos"), 2);
    let lines = [0, 1].map(|it| {
        let file = if it == 0 { "p000.png" } else { "p001.jpg" };
        serde_json::json!({ "file_name": file, "text": format!("alt text {it}") }).to_string()
    });
    fs::write(db.home.path().join("alt.jsonl"), lines.join("\n")).unwrap();
    let model = golden("sd3/tiny");
    let generate = |name: &str, prompts: &str| {
        format!(
            "[[generate]]\nname = \"{name}\"\nmodel = {model:?}\nprompts = \"{prompts}\"\nsize = \"96x64\"\nsteps = 2\n\
             guidance = 4.0\ndtype = \"f32\"\nt5_tokens = 16\n\n"
        )
    };
    let text = format!(
        "name = \"ablation\"\n\n[[images]]\nname = \"photos\"\npath = \"photos\"\n\n\
         [[caption]]\nname = \"gpt\"\nof = \"photos\"\nbudget = 1.0\n{keys}\n\n{}{}[evaluate]\nmetrics = [\"glcm_score\"]\n",
        generate("from-alt", "alt.jsonl"),
        generate("from-gpt", "gpt")
    );
    let path = db.home.path().join("ablation.toml");
    fs::write(&path, text).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sets_of_captions_of_the_same_pictures_become_two_sources() {
    let db = Database::new().await;
    let server = Server::start(Taste::Detail, &[]);
    let path = ablation(&db, "");
    let said = db.jobctl(["enqueue", path.to_str().unwrap(), "--json"], 0).json();
    assert_eq!((&said["new"]["caption"], &said["new"]["denoise"]), (&2.into(), &4.into()));
    db.ask_all(&server);
    db.check_laws().await;
    assert_eq!(db.number("select count(*) from job_history where state <> 'done'").await, 0);
    assert_eq!(server.seen().len(), 2);
    let text = server.seen()[0].body["messages"][0]["content"][0]["text"].as_str().unwrap().to_owned();
    assert!(text.starts_with("Directly describe with brevity"), "{text}");
    // The caption is what the picture was made of, and what its rows say.
    let rows: Vec<(String, String, String)> =
        sqlx::query_as("select source, sample, prompt from generated_image order by source, sample")
            .fetch_all(&db.pool)
            .await
            .unwrap();
    assert_eq!(rows.len(), 4);
    assert_eq!((rows[0].0.as_str(), rows[0].1.as_str(), rows[0].2.as_str()), ("from-alt", "p000", "alt text 0"));
    let caption = db
        .text("select text from caption join cell on cell.picture = caption.picture where cell.sample = 'p000'")
        .await;
    assert!(caption.starts_with("A picture of ") && caption.ends_with(" bytes."), "{caption}");
    assert_eq!((rows[2].0.as_str(), &rows[2].2), ("from-gpt", &caption));
    // Another sweep with the same question has nothing to ask.
    let other = fs::read_to_string(&path)
        .unwrap()
        .replace("name = \"ablation\"", "name = \"again\"")
        .replace("steps = 2", "steps = 3");
    let path = db.home.path().join("again.toml");
    fs::write(&path, other).unwrap();
    let said = db.jobctl(["enqueue", path.to_str().unwrap(), "--json"], 0).json();
    assert_eq!((&said["new"]["caption"], &said["done"]["caption"]), (&serde_json::Value::Null, &2.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_caption_costs_its_pictures_and_no_others() {
    let db = Database::new().await;
    let no = || Answer::Says("I'm sorry, I can't describe this.".to_owned(), "stop");
    let server = Server::start(Taste::Detail, &[no(), no()]);
    let path = ablation(&db, "");
    db.jobctl(["enqueue", path.to_str().unwrap()], 0);
    // One at a time, so that the two refusals are of one picture.
    let mut command = db.asking(&server, &["worker", "--slots", "1", "--until-idle"]);
    command.env("JOBCTL_ASKS", "1");
    crate::support::process::Running::start(command).ends_with(0, LONG);
    assert_eq!(server.seen().len(), 3);
    let error = db.text("select error from failure where kind = 'caption'").await;
    assert!(error.contains("the captioner refuses: I'm sorry"), "{error}");
    assert_eq!(
        db.number("select count(*) from job_history where state = 'skipped'").await,
        4,
        "encode, denoise, decode, evaluate"
    );
    assert_eq!(db.number("select count(*) from generation").await, 3);
}
