//! What is wrong with data, checkpoints, disks and losses, and what is said of it.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use super::{Held, LONG, block, dataset, killed_after, sweep, tiny};
use crate::support::database::Database;
use crate::support::pictures::{picture, pictures_of};
use crate::support::process::Running;
use crate::support::wait_until;

/// Enqueueing the sweep of this one block is wrong use, and says these words at the line.
fn is_refused(db: &Database, data: &Path, keys: &str, line: usize, words: &[&str]) {
    let path = sweep(db, "bad", &block("t", data, keys));
    let said = db.jobctl(["enqueue", path.to_str().unwrap()], 2);
    assert!(said.err.starts_with(&format!("{}:{line}:", path.display())), "{}", said.err);
    for word in words.iter().chain(&["nothing was enqueued"]) {
        assert!(said.err.contains(word), "{word} is not in {}", said.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn data_that_cannot_be_learnt_from_is_told_with_its_place() {
    let db = Database::new().await;
    let data = dataset(&db, "data", 3);
    let before = db.dump().await;
    // name, empty, header, name, model, data; the block's own keys come last.
    is_refused(&db, Path::new("./nowhere"), "", 6, &["nowhere"]);
    is_refused(&db, &data, "held_out = 3", 14, &["3 of 3 pictures are held out", "at most 2"]);
    let large = "min_side = 500";
    is_refused(&db, &data, large, 6, &["below 500 pixels", "the largest has 96"]);

    let bare = db.home.path().join("bare");
    fs::create_dir(&bare).unwrap();
    fs::copy(data.join("p000.png"), bare.join("p000.png")).unwrap();
    is_refused(&db, &bare, "", 6, &["has no picture with a caption", "metadata.jsonl"]);
    fs::write(bare.join("p000.txt"), "waves").unwrap();
    is_refused(&db, &bare, "held_out = 1", 14, &["1 of 1 pictures are held out", "take `held_out` out"]);
    assert_eq!(db.dump().await, before);

    // One picture and nothing held out is little, and enough.
    let path = sweep(&db, "one", &block("t", &bare, "steps = 2"));
    db.jobctl(["run", path.to_str().unwrap()], 0);
    assert_eq!(db.number("select n_pictures::bigint from trained").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_that_cannot_be_decoded_is_left_out_counted_and_named() {
    let db = Database::new().await;
    let data = dataset(&db, "data", 5);
    let broken = data.join("p002.png");
    let mut bytes = fs::read(&broken).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 64].fill(0);
    fs::write(&broken, &bytes).unwrap();
    let path = sweep(&db, "broken", &block("t", &data, "steps = 3"));
    let said = db.jobctl(["run", path.to_str().unwrap(), "--json"], 0).json_lines();
    let row = "select n_pictures || ' ' || jsonb_array_length(left_out) || ' ' || (left_out -> 0 ->> 0) from trained";
    let hash = jobctl::job::Hash::of(&bytes);
    assert_eq!(db.text(row).await, format!("4 1 {hash}"));
    let log = "select string_agg(line, ' ') from attempt_log";
    assert!(db.text(log).await.contains("p002.png is left out"));
    let report = fs::read_to_string(said[1]["report"].as_str().unwrap()).unwrap();
    assert!(report.contains("1 picture could not be decoded") && report.contains(&hash.short()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loss_that_is_no_number_ends_the_run_and_keeps_the_checkpoint() {
    let db = Database::new().await;
    let data = dataset(&db, "data", 4);
    // The first steps change next to nothing; then the weights go beyond all numbers.
    let text = block("t", &data, "steps = 40\nsave_every = 1\nclip = 0\nwarm_up = 20")
        .replace("learning_rate = 1e-3", "learning_rate = 1e25");
    let path = sweep(&db, "nan", &text);
    db.jobctl(["run", path.to_str().unwrap()], 1);
    let error = db.text("select error from job_history where kind = 'finetune'").await;
    assert!(error.contains("on images ") && error.contains("is not finite"), "{error}");
    assert_eq!(db.number("select n_attempts::bigint from job_history where kind = 'finetune'").await, 1);
    assert!(db.number("select count(*) from checkpoint").await > 0, "{error}");
    db.check_laws().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_the_machine_s_fault_and_costs_no_checkpoint() {
    let db = Database::new().await;
    let data = dataset(&db, "data", 4);
    let path = sweep(&db, "full", &block("t", &data, "steps = 4\nsave_every = 2"));
    db.jobctl(["enqueue", path.to_str().unwrap()], 0);
    // Files end at 100 KiB, as on a disk that is full: the checkpoint has more.
    let inner = db.command(["worker", "--slots", "1", "--until-idle"]);
    let mut command = Command::new("bash");
    let program = inner.get_program().to_str().unwrap().to_owned();
    command.args(["-c", "trap '' XFSZ; ulimit -f 100; exec \"$0\" worker --slots 1 --until-idle", &program]);
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.process_group(0);
    Running::start(command).ends_with(0, LONG);
    let error = db.text("select error from job_history where kind = 'finetune'").await;
    assert!(error.contains("save the checkpoint of step 2"), "{error}");
    let causes = "select string_agg(distinct cause, ' ') from attempt join every_job on every_job.id = job_id
        where kind = 'finetune'";
    assert_eq!(db.text(causes).await, "machine");
    // Where there is room, it is done.
    db.jobctl(["retry", "full"], 0);
    db.spawn(["worker", "--slots", "1", "--until-idle"]).ends_with(0, LONG);
    assert_eq!(db.number("select count(*) from job_history where kind = 'finetune' and state = 'done'").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_of_something_else_is_refused() {
    let db = Database::new().await;
    let (data, other) = (dataset(&db, "data", 4), dataset(&db, "other", 5));
    let keys = "steps = 500\nsave_every = 2";
    let slow = |name: &str, data: &Path, keys: &str| block(name, data, keys);
    // Another model: the same weights, with a number changed.
    let changed = db.home.path().join("package");
    for entry in walkdir::WalkDir::new(tiny()).into_iter().map(Result::unwrap).filter(|it| it.file_type().is_file()) {
        let path = changed.join(entry.path().strip_prefix(tiny()).unwrap());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(entry.path(), path).unwrap();
    }
    let weights = changed.join("transformer/diffusion_pytorch_model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&0.5_f32.to_le_bytes());
    fs::write(&weights, bytes).unwrap();
    let model = format!("{:?}", tiny());
    let blocks = [
        slow("first", &data, keys),
        slow("model", &data, keys).replace(&model, &format!("{changed:?}")),
        slow("data", &other, keys),
        slow("settings", &data, "steps = 500\nsave_every = 2\nseed = 1"),
    ];
    let path = sweep(&db, "mixed", &blocks.concat());
    db.jobctl(["enqueue", path.to_str().unwrap()], 0);
    let held = Held::after(2, &db).await;
    let mut worker = db.spawn(["worker", "--slots", "4"]);
    held.reached(4).await;
    assert_eq!(db.number("select count(distinct key) from checkpoint").await, 4, "each run has a checkpoint");
    worker.signal(Signal::KILL);
    worker.wait(LONG);
    held.let_go().await;
    // Everybody finds the checkpoint of the first.
    db.execute(
        "update checkpoint set artifact = (
            select artifact from checkpoint as c join training on training.key = c.key
            where name = 'first' order by step desc limit 1
        )",
    )
    .await;
    let mut worker = db.spawn(["worker", "--slots", "4"]);
    wait_until("three runs have failed", LONG, async || {
        db.number("select count(*) from job_history where kind = 'finetune' and state = 'failed'").await == 3
    })
    .await;
    worker.signal(Signal::KILL);
    worker.wait(LONG);
    for (name, words) in [
        ("model", "it is of another model"),
        ("data", "the data has changed"),
        ("settings", "other settings were used: seed"),
    ] {
        let error: String = sqlx::query_scalar(
            "select error from job_history join job_key on job_key.job_id = id join training on training.key = job_key.key
            where training.name = $1",
        )
        .bind(name)
        .fetch_one(&db.pool)
        .await
        .unwrap();
        assert!(error.contains(words), "{name}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_outside_the_bounds_are_left_out_counted_and_named() {
    let db = Database::new().await;
    let data = dataset(&db, "data", 5);
    // One picture without any texture.
    let flat = data.join("p002.png");
    let grey = jobctl::image::Rgb { pixels: vec![128; 3 * 128 * 96], ..jobctl::image::Rgb::new(128, 96) };
    fs::write(&flat, jobctl::image::png::encode(&grey)).unwrap();
    let keys = "steps = 2\nmin_glcm_score = 0.01\nmax_compression_ratio = 100";
    let path = sweep(&db, "curated", &block("t", &data, keys));
    let said = db.jobctl(["run", path.to_str().unwrap(), "--json"], 0).json_lines();
    let hash = jobctl::job::Hash::of(&fs::read(&flat).unwrap());
    let row = "select n_pictures || ' ' || jsonb_array_length(left_out) || ' ' || (left_out -> 0 ->> 0) from trained";
    assert_eq!(db.text(row).await, format!("4 1 {hash}"));
    let log = db.text("select string_agg(line, ' ') from attempt_log").await;
    let words = "p002.png is left out: its glcm score is 0.00";
    assert!(log.contains(words) && log.contains("1 of 5 pictures are left out by curation"), "{log}");
    let report = fs::read_to_string(said[1]["report"].as_str().unwrap()).unwrap();
    assert!(
        report.contains("1 picture lay outside the bounds of curation") && !report.contains("could not be decoded")
    );

    // Other bounds are other work; those that nothing fits are a fault of the sweep.
    let path = sweep(&db, "none", &block("t", &data, "steps = 2\nmin_glcm_score = 1000"));
    db.jobctl(["run", path.to_str().unwrap()], 1);
    let error = db.text("select error from job_history where kind = 'finetune' and state = 'failed'").await;
    assert!(error.contains("there is nothing to learn from: 5 pictures are left out; of the first: "), "{error}");
    is_refused(&db, &data, "min_glcm_score = 2\nmax_glcm_score = 1", 14, &["from 2 to 1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_are_curated_through_a_network_too() {
    let db = Database::new().await;
    let data = dataset(&db, "data", 5);
    let clip = crate::support::golden("clip/whole");
    let option = format!("aesthetics={}", clip.display());
    // Cut as they are here, the squares are the pictures' middles.
    let cut = |bounds: &str| {
        format!(
            "scale = \"native\"\ncrop = \"centre\"\nflip = false\nsteps = 2\n{bounds}\nnetworks = {{ aesthetics = {clip:?} }}"
        )
    };
    let middles = db.home.path().join("middles");
    fs::create_dir(&middles).unwrap();
    for it in fs::read_dir(&data).unwrap().map(|it| it.unwrap().path()) {
        if it.extension().is_some_and(|it| it == "jsonl") {
            continue;
        }
        let picture = jobctl::image::decode(&fs::read(&it).unwrap(), u64::MAX).unwrap();
        let middle = jobctl::image::apply(picture, &[jobctl::job::task::Step::Crop { size: 96 }]).unwrap();
        let name = it.with_extension("png");
        fs::write(middles.join(name.file_name().unwrap()), jobctl::image::png::encode(&middle)).unwrap();
    }
    let lines = db
        .jobctl(["score", "--json", "--metric", "aesthetics", "--network", &option, middles.to_str().unwrap()], 0)
        .json_lines();
    let mut scores: Vec<f64> = lines[..5].iter().map(|it| it["value"].as_f64().unwrap()).collect();
    scores.sort_by(f64::total_cmp);
    let bound = f64::midpoint(scores[1], scores[2]);
    let path = sweep(&db, "curated", &block("t", &data, &cut(&format!("min_aesthetics = {bound}"))));
    db.jobctl(["run", path.to_str().unwrap()], 0);
    assert_eq!(db.text("select n_pictures || ' ' || jsonb_array_length(left_out) from trained").await, "3 2");
    let log = db.text("select string_agg(line, ' ') from attempt_log").await;
    let words =
        [format!("its aesthetics is {:.4}, below {bound}", scores[0]), "2 of 5 pictures are left out by".to_owned()];
    assert!(words.iter().all(|it| log.contains(it)), "{words:?}: {log}");
    // A network that nothing asks for, and one that is none.
    is_refused(&db, &data, "networks = { aesthetics = \"clip\" }", 14, &["for which nothing asks"]);
    is_refused(
        &db,
        &data,
        "min_aesthetics = 5\nnetworks = { aesthetics = \"nowhere\" }",
        15,
        &["`nowhere`", "neither a folder"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_smaller_than_the_square_are_left_out_and_named_or_enlarged() {
    let db = Database::new().await;
    let data = dataset(&db, "data", 4);
    fs::remove_file(data.join("metadata.jsonl")).unwrap();
    for path in pictures_of(&db.home.path().join("small"), 2, 95, 200) {
        fs::rename(&path, data.join(format!("small-{}", path.file_name().unwrap().to_str().unwrap()))).unwrap();
    }
    // Squares have 96 pixels a side.
    let path = sweep(&db, "small", &block("t", &data, "steps = 2\ncaption = \"waves\""));
    let said = db.jobctl(["run", path.to_str().unwrap()], 0);
    assert!(said.err.contains("`t` leaves 2 files of "), "{}", said.err);
    for name in ["small-p000.png: 95x200 is smaller than 96 pixels", "small-p001.jpg: 95x200"] {
        assert!(said.err.contains(name), "{name} is not in {}", said.err);
    }
    assert_eq!(db.number("select n_pictures::bigint from trained").await, 4);

    let path = sweep(&db, "enlarged", &block("t", &data, "steps = 2\ncaption = \"waves\"\nmin_side = 0"));
    let said = db.jobctl(["run", path.to_str().unwrap()], 0);
    assert!(!said.err.contains("leaves"), "{}", said.err);
    assert_eq!(db.number("select max(n_pictures)::bigint from trained").await, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_on_with_the_pictures_that_it_began_with() {
    let keys = "steps = 12\nsave_every = 2\nviews = 2";
    let whole = Database::new().await;
    let path = sweep(&whole, "same", &block("t", &dataset(&whole, "data", 4), keys));
    whole.jobctl(["run", path.to_str().unwrap()], 0);

    let db = Database::new().await;
    let data = dataset(&db, "data", 4);
    let path = sweep(&db, "same", &block("t", &data, keys));
    db.jobctl(["enqueue", path.to_str().unwrap()], 0);
    let other = || jobctl::image::png::encode(&picture(128, 96, 77));
    killed_after(&db, 4, async || {
        fs::write(data.join("p000.png"), other()).unwrap();
        fs::remove_file(data.join("p001.jpg")).unwrap();
    })
    .await;
    assert_eq!(db.trained().await, whole.trained().await, "it learns from what was prepared when it began");

    // Who enqueues it now means the pictures of now: another model, from its first step.
    let listed = fs::read_to_string(data.join("metadata.jsonl")).unwrap();
    let said = db.jobctl(["enqueue", path.to_str().unwrap()], 2);
    assert!(said.err.contains("names p001.jpg, which is not there"), "{}", said.err);
    let listed: String = listed.lines().filter(|it| !it.contains("p001")).map(|it| format!("{it}\n")).collect();
    fs::write(data.join("metadata.jsonl"), listed).unwrap();
    let said = db.jobctl(["enqueue", path.to_str().unwrap(), "--json"], 0).json();
    assert!(said["new"]["finetune"] == 1 && said["new"]["prepare"] == 1, "{said}");
    db.spawn(["worker", "--slots", "1", "--until-idle"]).ends_with(0, LONG);
    let begins = "select count(*) from attempt join every_job on every_job.id = attempt.job_id
        where kind = 'finetune' and resumed_after is null";
    assert_eq!(db.number(begins).await, 2, "the first attempt of each");
    assert_eq!(db.number("select count(distinct artifact) from trained join job_output using (key)").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_that_change_before_they_are_prepared_are_named() {
    let db = Database::new().await;
    let data = dataset(&db, "data", 4);
    let path = sweep(&db, "late", &block("t", &data, "steps = 2"));
    db.jobctl(["enqueue", path.to_str().unwrap()], 0);
    fs::write(data.join("p002.png"), jobctl::image::png::encode(&picture(128, 96, 77))).unwrap();
    db.spawn(["worker", "--slots", "1", "--until-idle"]).ends_with(0, LONG);
    let error = db.text("select error from job_history where kind = 'prepare'").await;
    assert!(error.contains("p002.png has changed since it was enqueued; enqueue the sweep again"), "{error}");
    let skipped = "select count(*) from every_job where kind = 'finetune' and state = 'skipped'";
    assert_eq!(db.number(skipped).await, 1, "nothing is learnt from half of the pictures");
    db.jobctl(["run", path.to_str().unwrap()], 0);
    assert_eq!(db.number("select n_pictures::bigint from trained").await, 4);
}
