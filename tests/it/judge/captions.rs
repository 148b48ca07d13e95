//! Captions: written once, and prompts of what is generated then.

use std::fs;

use jobctl::store::artifact::Artifacts;
use jobctl::store::findings::Findings;
use jobctl::store::read::findings;

use super::LONG;
use super::server::{Answer, SNAPSHOT, Server, Taste};
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
    // A report has the captions beside the photographs, and what the pictures took.
    let found = found(&db).await;
    let said: Vec<(&str, Option<&str>, &str)> = found
        .captions
        .iter()
        .map(|it| (found.images[it.image].sample.as_str(), it.by.as_deref(), it.text.as_str()))
        .collect();
    assert_eq!((said.len(), said[0]), (2, ("p000", Some(SNAPSHOT), caption.as_str())));
    assert!(found.captions.iter().all(|it| found.images[it.image].source == 0), "{said:?}");
    assert_eq!(found.efforts.len(), 4);
    for it in &found.efforts {
        assert!(found.images[it.image].source > 0 && it.step_s.unwrap() > 0.0 && it.step_s.unwrap() < 60.0, "{it:?}");
        // Of the slot's process, with a model of half a megabyte.
        for gib in [it.denoise_gib, it.decode_gib] {
            assert!((0.01..4.0).contains(&gib.unwrap()), "{it:?}");
        }
        assert!(!it.device.as_ref().unwrap().is_empty());
    }
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

async fn found(db: &Database) -> Findings {
    let artifacts = Artifacts::new(db.home.path().join("artifacts"));
    let sweep = db.number("select max(id)::bigint from sweep").await;
    findings(&db.pool, &artifacts, sweep as i32).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_set_that_nobody_scores_is_in_the_report_with_its_captions() {
    let db = Database::new().await;
    let server = Server::start(Taste::Detail, &[]);
    let files = pictures(&db.home.path().join("photos"), 3);
    let write = |texts: [&str; 3]| {
        let line = |(path, text): (&std::path::PathBuf, &str)| {
            serde_json::json!({ "file_name": path.file_name().unwrap().to_str().unwrap(), "text": text }).to_string()
        };
        let lines: Vec<String> = files.iter().zip(texts).map(line).collect();
        fs::write(db.home.path().join("photos/metadata.jsonl"), lines.join("\n")).unwrap();
    };
    write(["a nut\0hatch", " ", "a barn"]);
    let text = "name = \"data\"\n\n[[images]]\nname = \"photos\"\npath = \"photos\"\ncaptions = \"metadata.jsonl\"\n\n\
                [[caption]]\nname = \"gpt\"\nof = \"photos\"\nbudget = 1.0\n";
    let path = db.home.path().join("data.toml");
    fs::write(&path, text).unwrap();
    db.jobctl(["enqueue", path.to_str().unwrap()], 0);
    db.ask_all(&server);
    let people = async || {
        let found = found(&db).await;
        let of_files = found.captions.iter().filter(|it| it.by.is_none());
        of_files.map(|it| format!("{}: {}", found.images[it.image].sample, it.text)).collect::<Vec<_>>()
    };
    assert_eq!(people().await, ["p000: a nut\u{fffd}hatch", "p002: a barn"]);
    let found = found(&db).await;
    assert_eq!((found.images.len(), found.scores.len(), found.captions.len()), (3, 0, 5));
    // Their headers say how large they are.
    let sizes: Vec<_> = found.images.iter().map(|it| it.size).collect();
    let header = |it: &std::path::PathBuf| {
        let decoded = jobctl::image::decode(&fs::read(it).unwrap(), jobctl::image::MAX_PIXELS).unwrap();
        Some((decoded.width, decoded.height))
    };
    assert_eq!(sizes, files.iter().map(header).collect::<Vec<_>>());
    let report = db.jobctl(["report", "data", "--json"], 0).json();
    let page = fs::read_to_string(report["report"].as_str().unwrap()).unwrap();
    for words in
        ["<section id=\"data\"", "<section id=\"sizes\"", "<q>a barn</q>", "3 pictures, all with captions", "Table 9: "]
    {
        assert!(page.contains(words), "{words}");
    }
    // What the files say is in no key: enqueued again, the new words stand in the old sweep.
    write(["a nuthatch", "a pond", "a barn"]);
    let again = db.jobctl(["enqueue", path.to_str().unwrap(), "--json"], 0).json();
    assert_eq!(again["new"], serde_json::json!({}));
    assert_eq!(people().await, ["p000: a nuthatch", "p001: a pond", "p002: a barn"]);
    db.check_laws().await;
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
