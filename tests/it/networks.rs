//! Sweeps whose metrics look through a network, with a tiny one and real workers.

use std::fs;
use std::path::PathBuf;

use jobctl::metrics;
use jobctl::models::package::Part;
use jobctl::sweep::Sweep;
use jobctl::sweep::packages::hash_part;

use crate::support::database::Database;
use crate::support::golden;
use crate::support::pictures::pictures;
use crate::support::process::Printed;

/// Writes a sweep of the folder `photos` with these lines in [evaluate].
fn sweep(db: &Database, name: &str, evaluate: &str) -> PathBuf {
    let images = "[[images]]\nname = \"photos\"\npath = \"photos\"\nmodel = \"Sana\"\n";
    let path = db.home.path().join(format!("{name}.toml"));
    fs::write(&path, format!("name = \"{name}\"\n\n{images}\n[evaluate]\n{evaluate}\n")).unwrap();
    path
}

fn network(name: &str) -> String {
    format!("networks = {{ aesthetics = {:?} }}", golden("clip").join(name))
}

/// Enqueues or runs a sweep where nothing is downloaded.
fn offline(db: &Database, verb: &[&str], path: &std::path::Path, status: i32) -> Printed {
    let mut command = db.command(verb.iter().map(AsRef::as_ref).chain([path.as_os_str()]));
    command.env("HF_HUB_OFFLINE", "1").env("HF_HOME", db.home.path());
    Printed::of(command.output().unwrap(), status)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_is_scored_through_the_network_that_it_names() {
    let db = Database::new().await;
    pictures(&db.home.path().join("photos"), 3);
    let metrics = "metrics = [\"glcm_score\", \"compression_ratio\", \"aesthetics\"]";
    let first = sweep(&db, "first", &format!("{metrics}\n{}", network("whole")));
    let said = db.jobctl(["enqueue", first.to_str().unwrap(), "--json"], 0).json();
    // What needs no network is a job of its own, which a set waits for.
    assert_eq!(said["new"], serde_json::json!({ "evaluate": 6, "pool": 1 }));
    assert_eq!(db.number("select count(distinct affinity) from job where task like '%\"network\"%'").await, 1);
    assert_eq!(db.number("select count(*) from job_edge").await, 3);
    db.jobctl(["run", first.to_str().unwrap()], 0);
    db.check_laws().await;

    let hash = hash_part(&golden("clip/whole"), Part::Network).unwrap();
    let row =
        "select metric || ' ' || variant || ' ' || version || ' ' || count(value) || ' ' || min(encode(network, 'hex'))
        from score where network <> '' group by metric, variant, version";
    assert_eq!(db.text(row).await, format!("aesthetics laion 1 3 {hash}"));
    assert_eq!(db.number("select count(*) from score where network = ''").await, 6);
    assert_eq!(db.text("select encode(hash, 'hex') || ' ' || part from package_part").await, format!("{hash} network"));
    // The values are those of the command that needs no database.
    let picture =
        db.text("select convert_from(path, 'UTF8') from source_file where width is not null order by 1 limit 1").await;
    let option = format!("aesthetics={}", golden("clip/whole").display());
    let line = db.jobctl(["score", "--json", "--metric", "aesthetics", "--network", &option, &picture], 0).json_lines();
    let stored =
        db.text("select value::text from metric_history where metric = 'aesthetics' order by sample limit 1").await;
    assert_eq!(line[0]["value"].as_f64().unwrap(), stored.parse::<f64>().unwrap());

    // The same again is known; through another network only that is scored again, and each sweep has its own.
    let again = sweep(&db, "again", &format!("{metrics}\n{}", network("whole")));
    let said = db.jobctl(["enqueue", again.to_str().unwrap(), "--json"], 0).json();
    assert_eq!(said["new"], serde_json::json!({}));
    let other = sweep(&db, "other", &format!("{metrics}\n{}", network("vision")));
    let said = db.jobctl(["enqueue", other.to_str().unwrap(), "--json"], 0).json();
    assert_eq!(said["new"], serde_json::json!({ "evaluate": 3 }));
    let said = db.jobctl(["run", other.to_str().unwrap(), "--json"], 0).json_lines();
    db.check_laws().await;
    let by_sweep = "select string_agg(n || ' ' || means, ', ') from (
        select count(*) as n, count(distinct network) as means from metric_history where metric = 'aesthetics' group by sweep
    ) as it";
    assert_eq!(db.text(by_sweep).await, "3 1, 3 1, 3 1");
    let means = "select count(distinct mean) from leaderboard where metric = 'aesthetics'";
    assert_eq!(db.number(means).await, 2);
    let html = fs::read_to_string(said[1]["report"].as_str().unwrap()).unwrap();
    assert!(html.contains("aesthetics"), "the report has it");
    let json = fs::read_to_string(said[1]["report"].as_str().unwrap().replace(".html", ".json")).unwrap();
    let mean = db.text("select mean::text from leaderboard where metric = 'aesthetics' and sweep like 'other%'").await;
    assert!(json.contains(&mean[..8]), "{mean} is the report's number");
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_that_are_gone_or_changed_fail_their_jobs_alone() {
    let db = Database::new().await;
    pictures(&db.home.path().join("photos"), 2);
    let folder = db.home.path().join("clip");
    fs::create_dir(&folder).unwrap();
    for it in fs::read_dir(golden("clip/whole")).unwrap() {
        let it = it.unwrap();
        fs::copy(it.path(), folder.join(it.file_name())).unwrap();
    }
    // A folder beside the sweep file.
    let evaluate = "metrics = [\"glcm_score\", \"aesthetics\"]\nnetworks = { aesthetics = \"clip\" }";
    let path = sweep(&db, "changed", evaluate);
    db.jobctl(["enqueue", path.to_str().unwrap()], 0);
    let config = fs::read_to_string(folder.join("config.json")).unwrap();
    fs::write(folder.join("config.json"), config.replace("1e-05", "1e-06")).unwrap();
    let mut worker = db.spawn(["worker", "--slots", "1", "--until-idle"]);
    worker.wait(std::time::Duration::from_secs(60));
    assert_eq!(db.number("select count(*) from score where metric = 'glcm_score'").await, 2);
    let error = db.text("select min(error) from job_history where state = 'failed'").await;
    assert!(error.contains("the network of") && error.contains("has changed since it was enqueued"), "{error}");
    assert_eq!(db.number("select count(*) from job_history where state = 'failed'").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_will_not_do_is_a_mistake_of_the_sweep() {
    let db = Database::new().await;
    pictures(&db.home.path().join("photos"), 1);
    let check = |name: &str, more: &str, line: usize, words: &[&str]| {
        let path = sweep(&db, name, &format!("metrics = [\"aesthetics\"]\n{more}"));
        let said = offline(&db, &["enqueue"], &path, 2);
        assert!(said.err.contains(&format!("{name}.toml:{line}:")), "{}", said.err);
        assert!(words.iter().all(|it| said.err.contains(it)), "{words:?}: {}", said.err);
    };
    check("default", "", 9, &["openai/clip-vit-large-patch14", "HF_HUB_OFFLINE", "networks = { aesthetics"]);
    let pipeline = format!("networks = {{ aesthetics = {:?} }}", golden("sd3/tiny"));
    check("pipeline", &pipeline, 10, &["no config.json", "the package of a pipeline"]);
    check("nowhere", "networks = { aesthetics = \"nowhere\" }", 10, &["`nowhere` is neither a folder here"]);
    assert_eq!(db.number("select count(*) from sweep").await, 0);
}

#[test]
fn jobs_that_load_a_network_go_where_models_go() {
    let text = |more: &str| {
        format!(
            "name = \"n\"\n[resources]\ndevice = \"cuda\"\ngpu = \"h100\"\nlabels = [\"lab\"]\n[[images]]\nname = \"p\"\n\
             path = \"p\"\n[evaluate]\nmetrics = [\"glcm_score\", \"aesthetics\"]\n{more}"
        )
    };
    let read = |more: &str| Sweep::parse(&text(more), "n.toml").unwrap_or_else(|it| panic!("{it}")).evaluate;
    let it = read("");
    assert_eq!((it.needs.n_gpus, it.network_needs.n_gpus, it.network_needs.gpu_model.as_str()), (0, 1, "h100"));
    assert_eq!((&it.needs.labels, &it.network_needs.labels), (&vec!["lab".to_owned()], &vec!["lab".to_owned()]));
    let it = read("[evaluate.resources]\ndevice = \"any\"\n");
    assert_eq!((it.needs.n_gpus, it.network_needs.n_gpus), (0, 0));
    assert_eq!(it.networks.len(), 1);
    assert_eq!(it.networks[0].package, metrics::network(metrics::parse("aesthetics").unwrap()[0]).unwrap().default);
}
