//! What goes wrong with packages, prompts, devices and artifacts, and what is said of it.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{FOUR, LONG, copy_of_tiny, generate, tiny};
use crate::support::database::Database;

/// Makes the last numbers of a safetensors file no numbers.
fn spoil(path: &Path) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    let n_bytes = file.metadata().unwrap().len();
    file.write_all_at(&f32::NAN.to_le_bytes(), n_bytes - 4).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_that_only_the_package_shows_are_told_with_their_place() {
    let db = Database::new().await;
    fs::write(db.home.path().join("bad.jsonl"), "{\"text\": \"a\"}\n{\"text\": \"\"}\n").unwrap();
    let before = db.dump().await;
    let check = |keys: &str, model: &Path, line: usize, words: &[&str]| {
        let path = generate(&db, "bad", model, keys);
        let said = db.jobctl(["enqueue", path.to_str().unwrap()], 2);
        assert!(said.err.starts_with(&format!("{}:{line}:", path.display())), "{}", said.err);
        for word in words.iter().chain(&["nothing was enqueued"]) {
            assert!(said.err.contains(word), "{word} is not in {}", said.err);
        }
    };
    let prompts = "prompts = [\"a\"]";
    check(&format!("{prompts}\nsize = [64, \"100x64\"]"), &tiny(), 9, &["100x64", "96x64 is the nearest"]);
    check(&format!("{prompts}\nsize = 4096"), &tiny(), 9, &["4096x4096", "384x384"]);
    check(&format!("{prompts}\nsize = 64"), Path::new("./no-such"), 5, &["./no-such", "neither a folder"]);
    check("prompts = \"none.jsonl\"\nsize = 64", &tiny(), 8, &["none.jsonl"]);
    check("prompts = \"bad.jsonl\"\nsize = 64", &tiny(), 8, &["bad.jsonl:2: the prompt is empty"]);
    let shard = copy_of_tiny(&db);
    fs::remove_file(shard.join("vae/diffusion_pytorch_model.safetensors")).unwrap();
    check(&format!("{prompts}\nsize = 64"), &shard, 5, &["vae"]);
    assert_eq!(db.dump().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_latent_that_is_not_finite_fails_its_pictures_with_the_step() {
    let db = Database::new().await;
    let package = copy_of_tiny(&db);
    spoil(&package.join("transformer/diffusion_pytorch_model.safetensors"));
    let path = generate(&db, "nan", &package, FOUR);
    db.jobctl(["run", path.to_str().unwrap()], 1);
    db.check_laws().await;
    let failed = "select count(*) from job_history where kind = 'denoise' and state = 'failed' and n_attempts = 1
        and error like '%no longer finite after step 1 of 4%'";
    assert_eq!(db.number(failed).await, 4);
    let skipped = "select count(*) from job_history where kind in ('decode', 'evaluate') and state = 'skipped'";
    assert_eq!(db.number(skipped).await, 8);
    // Another sweep that needs the same latents is told at once.
    let other = generate(&db, "other", &package, &format!("{FOUR}\nformat = \"jpeg95\""));
    db.jobctl(["enqueue", other.to_str().unwrap()], 0);
    assert_eq!(db.number("select count(*) from job where kind = 'decode'").await, 0);
    db.check_laws().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_that_has_changed_is_not_used() {
    let db = Database::new().await;
    let package = copy_of_tiny(&db);
    let path = generate(&db, "changed", &package, FOUR);
    db.jobctl(["enqueue", path.to_str().unwrap()], 0);
    spoil(&package.join("vae/diffusion_pytorch_model.safetensors"));
    db.spawn(["worker", "--until-idle"]).ends_with(0, LONG);
    let failed = "select count(*) from job_history where kind = 'decode' and state = 'failed'
        and error like '%has changed since it was enqueued%'";
    assert_eq!(db.number(failed).await, 4);
    assert_eq!(db.n_done("denoise").await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_artifact_says_which_job_makes_it_again() {
    let db = Database::new().await;
    let keys = "prompts = [\"a fox\"]\nsize = 64\nsteps = 1";
    let first = generate(&db, "first", &tiny(), keys);
    db.jobctl(["run", first.to_str().unwrap()], 0);
    let hash = db.text("select encode(artifact, 'hex') from generation").await;
    let file = db.home.path().join("artifacts").join(&hash[..2]).join(&hash);
    fs::remove_file(&file).unwrap();

    let text = fs::read_to_string(&first).unwrap().replace("glcm_score", "glcm_entropy").replace("first", "second");
    let second = db.home.path().join("second.toml");
    fs::write(&second, text).unwrap();
    db.jobctl(["enqueue", second.to_str().unwrap()], 0);
    db.execute("update job set max_attempts = 1").await;
    db.spawn(["worker", "--until-idle"]).ends_with(0, LONG);
    let job = db.number("select job_id from generation").await.to_string();
    let error = db.text("select error from job_history where kind = 'evaluate' and state = 'failed'").await;
    assert!(error.contains(&format!("job {job} made it: `jobctl retry {job}`")), "{error}");

    db.jobctl(["retry", &job], 0);
    db.spawn(["worker", "--until-idle"]).ends_with(0, LONG);
    assert!(file.exists(), "equal work makes equal bytes");
    assert_eq!(db.number("select count(*) from job_history where state <> 'done'").await, 0);
    assert_eq!(db.number("select count(*) from score where metric = 'glcm_entropy'").await, 1);
    db.check_laws().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_cuda_is_said_before_it_waits_for_ever() {
    let db = Database::new().await;
    let path = generate(&db, "cuda", &tiny(), &format!("{FOUR}\nlimit = 1"));
    let text = fs::read_to_string(&path).unwrap().replace("\"f32\"", "[\"bf16\", \"f32\"]");
    fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap();
    let before = db.dump().await;
    let said = db.jobctl(["run", path, "--device", "cpu"], 2).err;
    // Two prompts to encode, two latents, two pictures.
    assert!(said.contains("6 jobs of this sweep need a GPU") && said.contains("dtype = \"f32\""), "{said}");
    assert_eq!(db.dump().await, before);

    db.jobctl(["enqueue", path], 0);
    let status = db.jobctl(["status"], 0).out;
    assert!(status.contains("2 jobs wait for a GPU: no worker is alive"), "{status}");
    let jobs = db.jobctl(["jobs", "--state", "ready"], 0).out;
    assert!(jobs.contains("a GPU"), "{jobs}");
    let mut worker = db.spawn(["worker", "--device", "cpu"]);
    crate::support::wait_until("all that a processor does is done", LONG, async || {
        db.number("select count(*) from job where lane = 0 and state <> 'waiting'").await == 0
            && db.n_done("decode").await == 2
    })
    .await;
    assert_eq!(db.number("select count(*) from job_history where lane = 1").await, 0);
    worker.signal(rustix::process::Signal::TERM);
    worker.ends_with(0, LONG);
    assert!(db.jobctl(["worker", "--device", "gpu"], 2).err.contains("no device"));
}
