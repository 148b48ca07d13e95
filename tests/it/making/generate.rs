//! Prompts to pictures: what lands where, what is shared, what goes on after a kill.

use std::fs;

use jobctl::image::{MAX_PIXELS, decode};
use rustix::process::Signal;

use super::{FOUR, LONG, generate, tiny};
use crate::support::database::Database;
use crate::support::wait_until;

#[tokio::test(flavor = "multi_thread")]
async fn two_prompts_and_two_seeds_are_four_images_with_all_that_made_them() {
    let db = Database::new().await;
    let path = generate(&db, "four", &tiny(), FOUR);
    let said = db.jobctl(["run", path.to_str().unwrap(), "--json"], 0).json_lines();
    let new = serde_json::json!({"encode": 3, "denoise": 4, "decode": 4, "evaluate": 4, "pool": 2});
    assert_eq!(said[0]["new"], new);
    db.check_laws().await;

    let pixels = db.pixels("four").await;
    let places: Vec<_> = pixels.iter().map(|it| (it.0.as_str(), it.1.as_str())).collect();
    let expected =
        [("tiny seed=0", "p0001"), ("tiny seed=0", "p0002"), ("tiny seed=1", "p0001"), ("tiny seed=1", "p0002")];
    assert_eq!(places, expected);
    let mut hashes: Vec<_> = pixels.iter().map(|it| &it.2).collect();
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), 4, "every prompt and every seed has a picture of its own");

    assert_eq!(db.number("select count(*) from job_output").await, 11);
    assert_eq!(db.number("select count(*) from score").await, 8);
    let row =
        "select concat_ws(' ', source, sample, width, height, prompt, '[' || negative || ']', seed, steps, guidance,
            t5_tokens, dtype, partition, format, n_cut)
        from generated_image where sample = 'p0002' and seed = 1";
    assert_eq!(db.text(row).await, "tiny seed=1 p0002 96 64 an owl [] 1 4 7 16 f32 exact png {0,0,0}");
    let file = "select file from generated_image where sample = 'p0002' and seed = 1";
    let bytes = db.artifact(file).await;
    let decoded = decode(&bytes, MAX_PIXELS).unwrap();
    assert_eq!((decoded.width, decoded.height), (96, 64));
    let text = String::from_utf8_lossy(&bytes).into_owned();
    for label in ["prompt", "an owl", "seed", "guidance", "denoiser", "vae"] {
        assert!(text.contains(label), "{label} is not in the file");
    }
    let latent = db.artifact("select encode(artifact, 'hex') from job_output natural join (select key from every_job where kind = 'denoise' limit 1) as one").await;
    assert!(String::from_utf8_lossy(&latent).contains("latent"));
    assert!(!db.home.path().join("artifacts/scratch").read_dir().is_ok_and(|mut it| it.next().is_some()));

    let report = fs::read_to_string(said[1]["report"].as_str().unwrap()).unwrap();
    for words in ["an owl", "tiny seed=1", "96×64", "Guidance"] {
        assert!(report.contains(words), "{words} is not in the report");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_prompt_is_encoded_once_across_all_sweeps() {
    let db = Database::new().await;
    let first = generate(&db, "first", &tiny(), FOUR);
    db.jobctl(["run", first.to_str().unwrap()], 0);
    let keys = FOUR.replace("[0, 1]", "[1, 2]").replace("an owl\"", "an owl\", \"a hut\"");
    let second = generate(&db, "second", &tiny(), &keys);
    let said = db.jobctl(["enqueue", second.to_str().unwrap(), "--json"], 0).json();
    // One new prompt; seed 1 is known for two prompts.
    assert_eq!(said["new"]["encode"], 1);
    assert_eq!((&said["new"]["denoise"], &said["new"]["decode"]), (&4.into(), &4.into()));
    assert_eq!(said["done"]["encode"], 3);
    db.spawn(["worker", "--slots", "1", "--until-idle"]).ends_with(0, LONG);
    assert_eq!(db.number("select count(*) from job_history where state <> 'done'").await, 0);
    assert_eq!(db.n_done("encode").await, 4);
    let again = db.jobctl(["enqueue", second.to_str().unwrap(), "--json"], 0).json();
    assert_eq!(again["new"], serde_json::json!({}));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_killed_goes_on_and_makes_the_same_pictures() {
    let keys = FOUR.replace("steps = 4", "steps = 60").replace("96x64", "384x256");
    let whole = Database::new().await;
    let path = generate(&whole, "same", &tiny(), &keys);
    whole.jobctl(["run", path.to_str().unwrap()], 0);
    let expected = whole.pixels("same").await;
    assert_eq!(expected.len(), 4);

    let db = Database::new().await;
    let path = generate(&db, "same", &tiny(), &keys);
    db.jobctl(["enqueue", path.to_str().unwrap()], 0);
    let mut n_killed = 0;
    for n_denoised in [1, 3] {
        let mut worker = db.spawn(["worker", "--slots", "1"]);
        wait_until("latents are there and one is being made", LONG, async || {
            db.n_done("denoise").await >= n_denoised
                && db.number("select count(*) from job where state = 'running'").await > 0
        })
        .await;
        worker.signal(Signal::KILL);
        worker.wait(LONG);
        n_killed += db.number("select count(*) from job where state = 'running'").await;
    }
    assert!(
        n_killed > 0 && db.number("select count(*) from job").await > 0,
        "the worker was done before it was killed"
    );
    let again = db.jobctl(["run", path.to_str().unwrap(), "--json"], 0).json_lines();
    assert_eq!(again[0]["new"], serde_json::json!({}));
    assert_eq!(db.pixels("same").await, expected);
    assert_eq!(db.n_done("denoise").await, 4);
    let twice = "select count(*) from (
        select job_id from attempt where outcome = 'done' group by job_id having count(*) > 1
    ) as twice";
    assert_eq!(db.number(twice).await, 0, "a job was done twice");
    db.check_laws().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prompts_come_from_files_and_samples_from_their_names() {
    let db = Database::new().await;
    let long = "a lighthouse ".repeat(300);
    let lines = format!("{{\"file_name\": \"x/1.jpg\", \"text\": \"a fox\"}}\n{{\"text\": \"{long}\"}}\n");
    fs::write(db.home.path().join("prompts.jsonl"), lines).unwrap();
    let keys = "prompts = \"prompts.jsonl\"\nsize = 64\nsteps = 1\nguidance = 1\nformat = \"jpeg95\"";
    let path = generate(&db, "files", &tiny(), keys);
    let said = db.jobctl(["run", path.to_str().unwrap(), "--json"], 0).json_lines();
    assert_eq!(said[0]["new"]["encode"], 2, "without guidance there is no negative prompt");
    let rows =
        "select string_agg(sample || ' ' || (n_cut[1] > 0) || ' ' || coalesce(negative, '-'), ', ' order by sample)
        from generated_image";
    assert_eq!(db.text(rows).await, "p0002 true -, x/1 false -");
    let bytes = db.artifact("select file from generated_image where sample = 'x/1'").await;
    assert!(bytes.starts_with(&[0xFF, 0xD8]) && String::from_utf8_lossy(&bytes).contains("\"prompt\":\"a fox\""));
    let report = fs::read_to_string(said[1]["report"].as_str().unwrap()).unwrap();
    assert!(report.contains("1 of 2"), "the report says how many prompts were cut off");
}
