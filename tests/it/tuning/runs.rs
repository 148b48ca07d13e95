//! Models that are trained and used by one sweep; runs that are killed and go on.

use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;

use super::{LONG, SHORT, block, dataset, killed_after, sweep, tiny};
use crate::support::database::Database;
use crate::support::wait_until;

const GENERATE: &str = "prompts = [\"a fox\"]\nsize = \"96x64\"\nsteps = 3\ndtype = \"f32\"\nt5_tokens = 16\n\n\
                        [evaluate]\nmetrics = [\"glcm_score\"]\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_generates_with_the_models_that_it_trains() {
    let db = Database::new().await;
    let data = dataset(&db, "data", 6);
    let keys = "bands = [[1, 1, 1, 1], [1, 2, 2, 4]]\nsteps = 6\nviews = 2\nheld_out = 2\nlook_every = 3";
    let models = format!("model = [{:?}, \"wlf\"]", tiny());
    let blocks = format!("{}[[generate]]\nname = \"g\"\n{models}\n{GENERATE}", block("wlf", &data, keys));
    let path = sweep(&db, "use", &blocks);

    let dry = db.jobctl(["enqueue", path.to_str().unwrap(), "--dry-run", "--json"], 0).json();
    // Six captions, the prompt, the empty negative one; four and two pictures, once for both models.
    let expected = serde_json::json!({
        "encode": 8, "prepare": 2, "finetune": 2, "denoise": 3, "decode": 3, "evaluate": 3, "pool": 0
    });
    for kind in ["encode", "prepare", "finetune", "denoise", "decode", "evaluate"] {
        assert_eq!(dry["new"][kind], expected[kind], "{kind}: {dry}");
    }
    let dry = db.jobctl(["plan", path.to_str().unwrap()], 0).out;
    assert!(dry.contains("; not in it: 3 decode, 8 encode, 2 finetune, 2 prepare\n"), "{dry}");
    let said = db.jobctl(["run", path.to_str().unwrap(), "--json"], 0).json_lines();
    db.check_laws().await;

    let pixels = db.pixels("use").await;
    let sources: Vec<&str> = pixels.iter().map(|it| it.0.as_str()).collect();
    assert_eq!(sources[1..], ["g model=wlf bands=[1, 1, 1, 1]", "g model=wlf bands=[1, 2, 2, 4]"]);
    assert!(pixels[0].2 != pixels[1].2 && pixels[1].2 != pixels[2].2 && pixels[0].2 != pixels[2].2, "{pixels:?}");

    let plain = "wlf bands=[1, 1, 1, 1]";
    let held_out = db.curve(plain, "held_out").await;
    assert_eq!(held_out.iter().map(|it| it.0).collect::<Vec<_>>(), [0, 3, 6]);
    assert_eq!(held_out[0], db.curve("wlf bands=[1, 2, 2, 4]", "held_out").await[0], "both begin at the same model");
    let loss = db.curve(plain, "loss").await;
    assert_eq!(loss.len(), 6);
    let mut bands = 0.0;
    for band in ["LL1", "LH1", "HL1", "HH1"] {
        bands += db.curve(plain, &format!("loss/{band}")).await[3].1;
    }
    assert!((bands - loss[3].1).abs() < 1e-5 * loss[3].1, "equal bands sum to the loss: {bands} {}", loss[3].1);
    for curve in ["gradient_norm", "learning_rate", "images_per_s", "memory_gib"] {
        let points = db.curve(plain, curve).await;
        assert!(points.len() == 6 && points.iter().all(|it| it.1 > 0.0), "{curve}: {points:?}");
    }
    let row = "select n_pictures || ' ' || left_out::text || ' ' || (held_out is not null) from trained limit 1";
    assert_eq!(db.text(row).await, "4 [] true");
    assert_eq!(db.number("select count(*) from checkpoint").await, 0, "nobody goes on from a run that is over");

    let report = fs::read_to_string(said[1]["report"].as_str().unwrap()).unwrap();
    for words in ["Fine-tuning", "wlf bands=[1, 2, 2, 4]", "change nothing but"] {
        assert!(report.contains(words), "{words} is not in the report");
    }
    let again = db.jobctl(["enqueue", path.to_str().unwrap(), "--json"], 0).json();
    assert_eq!(again["new"], serde_json::json!({}));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_out_is_a_source_and_each_picture_has_its_loss() {
    let db = Database::new().await;
    let data = dataset(&db, "data", 6);
    let keys = "loss = [\"flow\", \"wlf\"]\nseed = [0, 1]\nsteps = 4\nviews = 2\nheld_out = 2\nlook_every = 2\n\
                sample_every = 3\nsample_steps = 2\nsample_guidance = 3\nsample_prompts = [\"a fox\"]";
    let images = "[[images]]\nname = \"left\"\npath = \"data\"\ncrop = 64\nheld_out_of = \"t\"\n\n";
    let models = format!("model = [{:?}, \"t\"]", tiny());
    let blocks = format!("{images}{}[[generate]]\nname = \"g\"\n{models}\n{GENERATE}", block("t", &data, keys));
    let path = sweep(&db, "left", &blocks);
    let said = db.jobctl(["run", path.to_str().unwrap(), "--json"], 0).json_lines();
    db.check_laws().await;
    let shown =
        "select count(distinct sample) from cell join source on source.idx = source_idx where source.name = 'left'";
    assert_eq!(db.number(shown).await, 2, "two of six pictures");

    let name = "t loss=wlf seed=1";
    let (mean, mut sums) = (db.curve(name, "held_out").await, [0.0; 3]);
    let pictures: Vec<String> =
        sqlx::query_scalar("select distinct curve from training_curve where curve like 'picture/%'")
            .fetch_all(&db.pool)
            .await
            .unwrap();
    assert_eq!(pictures.len(), 2);
    for picture in &pictures {
        let points = db.curve(name, picture).await;
        assert_eq!(points.iter().map(|it| it.0).collect::<Vec<_>>(), [0, 2, 4]);
        sums.iter_mut().zip(points).for_each(|(sum, it)| *sum += it.1 / 2.0);
    }
    for (sum, mean) in sums.iter().zip(mean) {
        assert!((sum - mean.1).abs() < 1e-9 * mean.1, "the loss is the mean over the pictures: {sum} {mean:?}");
    }

    let html = said[1]["report"].as_str().unwrap();
    let report = fs::read_to_string(html).unwrap();
    for words in
        ["Which differences are more than chance", "2 seeds × 2 pictures", "Beside what was held out", "On the way"]
    {
        assert!(report.contains(words), "{words} is not in the report");
    }
    let json = fs::read(html.replace(".html", ".json")).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let tuning = &json["tuning"];
    assert_eq!(tuning["differences"].as_array().unwrap().len(), 3);
    let models: Vec<&str> =
        tuning["samples"].as_array().unwrap().iter().map(|it| it["model"].as_str().unwrap()).collect();
    assert_eq!(models, [tiny().to_str().unwrap(), "t loss=flow", "t loss=wlf"]);
    let strips = tuning["strips"].as_array().unwrap();
    let steps: Vec<u64> = strips[1]["frames"].as_array().unwrap().iter().map(|it| it[0].as_u64().unwrap()).collect();
    assert!(strips.len() == 4 && strips[1]["prompt"] == "a fox" && steps == [0, 3, 4], "{strips:?}");
    let picture = |at: usize| fs::read(strips[1]["frames"][at][1].as_str().unwrap()).unwrap();
    assert!(picture(0) != picture(2), "what the model makes changes while it learns");
    assert!(tuning["samples"][0]["n_held_out"] == 2 && tuning["samples"][1]["n"] == 2, "{tuning}");
}

/// Does the sweep of this block once at a stroke, and once with a slot that is killed after step `killed`; `data` makes the
/// pictures, `seen` is what only the second one watches. Both must come to the same bits, and to the same curves.
async fn same_bits(data: impl Fn(&Database, &str) -> PathBuf, keys: &str, seen: &str, killed: i64) -> Database {
    let whole = Database::new().await;
    let path = sweep(&whole, "same", &block("wlf", &data(&whole, "data"), keys));
    whole.jobctl(["run", path.to_str().unwrap()], 0);
    let expected = whole.trained().await;
    assert_eq!(expected.len(), 1);

    let db = Database::new().await;
    let path = sweep(&db, "same", &block("wlf", &data(&db, "elsewhere"), &format!("{keys}\n{seen}")));
    db.jobctl(["enqueue", path.to_str().unwrap()], 0);
    let after = killed_after(&db, killed, async || {}).await;
    assert!((killed..=killed + 4).contains(&after), "it began after step {after}");
    assert_eq!(db.trained().await, expected, "the trained part has other bits");
    for curve in ["loss", "loss/HH1", "gradient_norm", "held_out"] {
        let points = whole.curve("wlf", curve).await;
        assert!(points.len() > 2 && db.curve("wlf", curve).await == points, "{curve}");
    }
    db.check_laws().await;
    db
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_slot_is_killed_ends_with_the_same_bits() {
    let keys = "steps = 32\nsave_every = 4\nheld_out = 1\nlook_every = 8\nbands = [1, 2, 2, 4]\nviews = 3\nema = 0.9";
    // Pictures on the way change nothing about the weights.
    let seen = "sample_every = 16\nsample_steps = 2";
    let db = same_bits(|db, folder| dataset(db, folder, 5), keys, seen, 12).await;
    let shown = "select count(*) from job_output join artifact on artifact = hash where media = 'image/png'";
    assert_eq!(db.number(shown).await, 3, "one prompt, before the first step and after 16 and 32");
}

/// Makes three wide and three tall pictures.
fn two_shapes(db: &Database, folder: &str) -> PathBuf {
    let data = dataset(db, folder, 3);
    for path in crate::support::pictures::pictures_of(&db.home.path().join(format!("{folder}-tall")), 3, 96, 128) {
        let name = path.file_name().unwrap().to_str().unwrap();
        fs::rename(&path, data.join(format!("tall-{name}"))).unwrap();
    }
    fs::remove_file(data.join("metadata.jsonl")).unwrap();
    data
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_over_several_shapes_whose_slot_is_killed_ends_with_the_same_bits() {
    // Killed in the middle of a pass: five pictures of two shapes in batches of two are three batches.
    let keys = "buckets = [\"2:1\", \"1:2\"]\nsteps = 23\nsave_every = 4\nheld_out = 1\nlook_every = 5\nviews = 2\n\
                caption = \"waves\"";
    same_bits(two_shapes, keys, "keep_last = 1", 8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sweeps_that_only_save_and_look_otherwise_share_one_job() {
    let db = Database::new().await;
    let data = dataset(&db, "data", 4);
    let keys = "steps = 4\nheld_out = 1";
    let first = sweep(&db, "first", &block("wlf", &data, &format!("{keys}\nlook_every = 2\nsave_every = 1")));
    let second = sweep(&db, "second", &block("wlf", &data, &format!("{keys}\nlook_every = 1\nkeep_last = 7")));
    db.jobctl(["enqueue", first.to_str().unwrap()], 0);
    let said = db.jobctl(["enqueue", second.to_str().unwrap(), "--json"], 0).json();
    assert_eq!(said["new"], serde_json::json!({}), "{said}");
    db.jobctl(["run", second.to_str().unwrap()], 0);
    // What was enqueued first is what is done.
    let looks = db.curve("wlf", "held_out").await;
    assert_eq!(looks.iter().map(|it| it.0).collect::<Vec<_>>(), [0, 0, 2, 2, 4, 4], "one run, seen by two sweeps");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_best_weights_come_out_whoever_is_killed_on_the_way() {
    // The rate of the first step is 0, and the second throws every weight so far away that the loss is 10¹¹ times as large,
    // whatever the processor: the best look is after the first step.
    let keys = "steps = 24\nsave_every = 4\nkeep_last = 1\nkeep = \"best\"\nheld_out = 2\nlook_every = 1\n\
                warm_up = 2\nclip = 0\nviews = 3";
    let block = |data: &std::path::Path| block("wlf", data, keys).replace("learning_rate = 1e-3", "learning_rate = 10");
    let whole = Database::new().await;
    let data = dataset(&whole, "data", 6);
    let path = sweep(&whole, "best", &block(&data));
    whole.jobctl(["run", path.to_str().unwrap()], 0);
    let looks = whole.curve("wlf", "held_out").await;
    let best = looks[1..].iter().copied().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
    assert!(best == (1, looks[0].1) && looks[2..].iter().all(|it| it.1 > 1e3 * best.1), "{looks:?}");
    assert_eq!(whole.text("select held_out::text from trained").await.parse::<f64>().unwrap(), best.1);
    let part = whole.artifact_of("wlf").await;
    assert_eq!(jobctl::train::part::look(&part).unwrap().n_steps as i64, best.0, "the best look's weights come out");

    let db = Database::new().await;
    let data = dataset(&db, "elsewhere", 6);
    let path = sweep(&db, "best", &block(&data));
    db.jobctl(["enqueue", path.to_str().unwrap()], 0);
    killed_after(&db, 12, async || {
        assert_eq!(db.number("select min(step) from checkpoint").await, best.0, "the best checkpoint stays");
    })
    .await;
    assert_eq!(db.trained().await, whole.trained().await, "the trained part has other bits");
    db.check_laws().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_looked_at_is_what_comes_out() {
    let db = Database::new().await;
    let data = dataset(&db, "data", 5);
    let looked = "held_out = 2\nsample_every = 100\nsample_steps = 2\nsample_prompts = [\"a fox\"]";
    // As far as weights can go in so few steps, so that they are far from their mean.
    let far = |name: &str, keys: &str| {
        let block = block(name, &data, &format!("{looked}\nsteps = 6\nlook_every = 2\n{keys}"));
        block.replace("learning_rate = 1e-3", "learning_rate = 2e-2")
    };
    // Whoever starts from what came out looks at it before its first step.
    let next = |name: &str, of: &str| {
        let block = block(name, &data, &format!("{looked}\nsteps = 1"));
        block.replace(&format!("{:?}", tiny()), &format!("{of:?}"))
    };
    let blocks = [
        far("trained", ""),
        far("mean", "ema = 0.7"),
        far("best", "ema = 0.7\nkeep = \"best\""),
        next("after trained", "trained"),
        next("after mean", "mean"),
        next("after best", "best"),
    ];
    let path = sweep(&db, "out", &blocks.concat());
    db.jobctl(["run", path.to_str().unwrap()], 0);
    db.check_laws().await;
    let mut ends = Vec::new();
    for name in ["trained", "mean", "best"] {
        let said: f64 =
            sqlx::query_scalar("select held_out from trained join training using (key) where training.name = $1")
                .bind(name)
                .fetch_one(&db.pool)
                .await
                .unwrap();
        let looks = db.curve(name, "held_out").await;
        let next = format!("after {name}");
        assert_eq!(db.curve(&next, "held_out").await[0], (0, said), "{name}: {looks:?}");
        if name != "best" {
            assert_eq!(looks.last().unwrap().1, said);
            assert_eq!(db.sample(name, 6).await, db.sample(&next, 0).await, "{name}: another picture");
        }
        ends.push(said);
    }
    assert!(ends[0] != ends[1], "the mean is another model: {ends:?}");
    assert!(ends[2] <= ends[1], "the least of the looks: {ends:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_of_several_shapes_are_learnt_from_bucket_by_bucket() {
    let db = Database::new().await;
    let data = two_shapes(&db, "data");
    let keys = "buckets = [\"2:1\", \"1:2\"]\nsteps = 8\nheld_out = 2\nlook_every = 8\ncaption = \"waves\"";
    let path = sweep(&db, "shapes", &block("t", &data, keys));
    db.jobctl(["run", path.to_str().unwrap()], 0);
    assert_eq!(db.curve("t", "loss").await.len(), 8);
    let mut shapes = Vec::new();
    let prepared = "select encode(artifact, 'hex') from job_output join every_job on every_job.id = job_output.job_id
        where every_job.kind = 'prepare'";
    for hash in sqlx::query_scalar::<_, String>(prepared).fetch_all(&db.pool).await.unwrap() {
        let file = db.home.path().join("artifacts").join(&hash[..2]).join(&hash);
        let tensors = candle_core::safetensors::load(file, &candle_core::Device::Cpu).unwrap();
        shapes.extend(tensors.values().map(|it| it.dims()[1..].to_vec()));
    }
    shapes.sort();
    // 64 by 128 and 128 by 64 pixels, in latents 16 times smaller.
    assert_eq!(shapes, [[vec![4, 8], vec![4, 8], vec![4, 8]], [vec![8, 4], vec![8, 4], vec![8, 4]]].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_run_is_saved_where_it_was() {
    let db = Database::new().await;
    let data = dataset(&db, "data", 4);
    let path = sweep(&db, "stopped", &block("wlf", &data, "steps = 40000"));
    db.jobctl(["enqueue", path.to_str().unwrap()], 0);
    let mut command = db.command(["worker", "--slots", "1"]);
    command.env("JOBCTL_GRACE_MS", "20000");
    let mut worker = crate::support::process::Running::start(command);
    wait_until("some steps are done", LONG, async || {
        db.number("select count(*) from curve where name = 'loss'").await > 3
    })
    .await;
    let status = db.jobctl(["status", "stopped", "--json"], 0).json();
    let live = &status["training"][0];
    assert!(live["model"] == "wlf" && live["step"].as_u64().unwrap() > 0, "{live}");
    assert!(live["loss"].as_f64().unwrap() > 0.0 && live["images_per_s"].as_f64().unwrap() > 0.0, "{live}");
    let said = db.jobctl(["status"], 0).out;
    assert!(said.contains(" trains wlf, loss ") && said.contains(" images a second"), "{said}");
    worker.signal(Signal::TERM);
    worker.wait(LONG);
    let idle = db.jobctl(["status", "--json"], 0).json();
    assert_eq!(idle["training"], serde_json::json!([]), "nothing is being trained any more");
    let step = db.number("select max(step) from checkpoint").await;
    assert!((1..40_000).contains(&step), "{step}");
    let charged = "select count(*) from job where kind = 'finetune' and state = 'ready' and n_attempts = 0";
    assert_eq!(db.number(charged).await, 1, "a run that saves itself is charged no attempt");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trained_autoencoder_is_what_other_blocks_start_from() {
    let db = Database::new().await;
    let data = dataset(&db, "data", 4);
    let model = tiny();
    let vae = format!(
        "[[finetune]]\nname = \"vae\"\npart = \"vae\"\nmodel = {model:?}\ndata = {data:?}\n{SHORT}\nsteps = 8\n\
         held_out = 1\nrescale = true\nscale = \"native\"\n\n"
    )
    .replace("look_levels = 2\n", "");
    let tuned = format!(
        "[[finetune]]\nname = \"lora\"\nmodel = \"vae\"\ndata = {data:?}\n{SHORT}\nsteps = 4\nt5_tokens = 16\n\
         lora = {{ rank = 4 }}\n\n"
    );
    let rest = "[[images]]\nname = \"photos\"\npath = \"data\"\ncrop = 64\n\n[[reconstruct]]\nname = \"back\"\n\
                of = \"photos\"\nmodel = [\"vae\", PACKAGE]\ndtype = \"f32\"\n\n[[generate]]\nname = \"g\"\n\
                model = \"lora\"\n"
        .replace("PACKAGE", &format!("{model:?}"));
    let path = sweep(&db, "chain", &format!("{vae}{tuned}{rest}{GENERATE}"));
    db.jobctl(["run", path.to_str().unwrap()], 0);
    db.check_laws().await;
    let held_out = db.curve("vae", "held_out").await;
    assert!(held_out[1].1 != held_out[0].1 && db.curve("vae", "loss/square").await.len() == 8);
    let back = db.pixels("chain").await;
    let of = |source: &str| back.iter().filter(|it| it.0.starts_with(source)).map(|it| &it.2).collect::<Vec<_>>();
    let (trained, before) = (of("back model=vae"), of(&format!("back model={}", model.display())));
    assert!(trained.len() == 4 && before.len() == 4 && trained != before, "{back:?}");
    assert_eq!(of("g").len(), 1);

    let out = db.home.path().join("exported");
    let sweep = db.text("select slug from sweep").await;
    db.jobctl(["model", "export", &sweep, "lora", out.to_str().unwrap()], 0);
    let config = fs::read_to_string(out.join("vae/config.json")).unwrap();
    assert!(!config.contains("\"scaling_factor\": 1.5305"), "the autoencoder was scaled anew: {config}");
    assert!(out.join("pytorch_lora_weights.safetensors").is_file());
    let made = db.home.path().join("made.png");
    let arguments = ["--prompt", "a fox", "--size", "96x64", "--steps", "3", "--t5-tokens", "16", "--dtype", "f32"];
    let package = ["generate", "--model", out.to_str().unwrap(), "--out", made.to_str().unwrap()];
    db.jobctl(package.into_iter().chain(arguments).chain(["--guidance", "7", "--seed", "0"]), 0);
    let same = jobctl::image::decode(&fs::read(&made).unwrap(), jobctl::image::MAX_PIXELS).unwrap();
    assert_eq!(&&jobctl::job::Hash::of(&same.pixels).to_string(), &of("g")[0], "the package makes the same picture");
}
