//! The files under deploy/: they parse, their commands exist, their times fit together, and they hold no secret.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde::Deserialize;
use serde_yaml_ng::Value;

use crate::support::database::Database;
use crate::support::pictures::{pictures_of, sweep};
use crate::support::process::{Running, lives};
use crate::support::{jobctl, root, wait_until};

const LONG: Duration = Duration::from_secs(60);

fn text(name: &str) -> String {
    fs::read_to_string(root().join("deploy").join(name)).unwrap()
}

/// The documents of a YAML file, its merge keys resolved.
fn yaml(name: &str) -> Vec<Value> {
    let text = text(name);
    let read = serde_yaml_ng::Deserializer::from_str(&text).map(|it| {
        let mut value = Value::deserialize(it).unwrap_or_else(|error| panic!("{name}: {error}"));
        value.apply_merge().unwrap();
        value
    });
    read.collect()
}

/// Every flag that stands in `words` after `jobctl VERB` exists there.
#[track_caller]
fn check_command(words: &[&str]) {
    let (verb, rest) = words.split_first().unwrap();
    let help = jobctl().args([verb, "--help"]).output().unwrap();
    assert!(help.status.success(), "there is no `jobctl {verb}`");
    let help = String::from_utf8(help.stdout).unwrap();
    for flag in rest.iter().filter(|it| it.starts_with("--")) {
        assert!(help.split_whitespace().any(|it| it.trim_matches(',') == *flag), "`jobctl {verb}` has no {flag}");
    }
}

fn words(value: &Value) -> Vec<&str> {
    value.as_sequence().unwrap().iter().map(|it| it.as_str().unwrap()).collect()
}

/// Milliseconds of grace in a text that sets JOBCTL_GRACE_MS.
fn grace_ms(text: &str) -> u64 {
    // In the script the number is the variable's own default: it stands behind the second mention.
    let number = |after: &str| {
        let digits = after.chars().skip_while(|it| !it.is_ascii_digit()).take_while(char::is_ascii_digit);
        digits.collect::<String>().parse().ok()
    };
    text.split("JOBCTL_GRACE_MS").skip(1).find_map(number).unwrap()
}

#[test]
fn no_file_holds_a_secret() {
    for entry in walkdir::WalkDir::new(root().join("deploy")) {
        let entry = entry.unwrap();
        if !entry.file_type().is_file() {
            continue;
        }
        let text = fs::read_to_string(entry.path()).unwrap();
        for line in text.lines().filter(|it| it.contains("postgres://")) {
            let rest = line.split("postgres://").nth(1).unwrap();
            let password = rest.split('@').next().unwrap().split_once(':').map_or("", |it| it.1);
            assert!(["", "PASSWORD"].contains(&password) || password.starts_with("$$(cat"), "{line}");
        }
    }
}

#[test]
fn the_compose_file_starts_workers_that_exist() {
    let [file] = yaml("compose/docker-compose.yml").try_into().unwrap();
    let services = file["services"].as_mapping().unwrap();
    for name in ["worker", "gpu-worker"] {
        let service = &services[name];
        check_command(&words(&service["command"]));
        assert!(words(&service["entrypoint"]).iter().any(|it| it.contains("/usr/local/bin/jobctl")), "{name}");
        let grace_s = grace_ms(
            service["environment"]["JOBCTL_GRACE_MS"]
                .as_str()
                .map(|it| format!("JOBCTL_GRACE_MS {it}"))
                .unwrap()
                .as_str(),
        ) / 1000;
        let stop: u64 = service["stop_grace_period"].as_str().unwrap().trim_end_matches('s').parse().unwrap();
        assert!(stop > grace_s, "{name}: killed after {stop} s, but may save for {grace_s} s");
    }
    assert!(words(&services["worker"]["healthcheck"]["test"]).last().unwrap().ends_with("/healthz"));
    // On the socket a server answers that the image stops again.
    assert!(words(&services["postgres"]["healthcheck"]["test"]).contains(&"127.0.0.1"));
    for (_, service) in services {
        for secret in service["secrets"].as_sequence().into_iter().flatten() {
            assert!(file["secrets"].get(secret).is_some(), "{secret:?} is not declared");
        }
        for volume in service["volumes"].as_sequence().into_iter().flatten().filter_map(Value::as_str) {
            let from = volume.split(':').next().unwrap();
            let is_declared = file["volumes"].get(from).is_some();
            let is_there = from.starts_with('.') && root().join("deploy/compose").join(from).exists();
            assert!(is_declared || is_there, "{volume}");
        }
    }
    let dockerfile = text("compose/Dockerfile");
    let default = dockerfile.lines().find_map(|it| it.strip_prefix("CMD ")).unwrap();
    let default: Vec<String> = serde_json::from_str(default).unwrap();
    check_command(&default.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(dockerfile.lines().any(|it| it == "USER 10001"), "the image runs as root");
}

#[test]
fn the_kubernetes_manifest_probes_what_a_worker_answers() {
    let documents = yaml("kubernetes/worker.yaml");
    let deployment = documents.iter().find(|it| it["kind"] == "Deployment").unwrap();
    assert!(deployment["spec"].get("replicas").is_none(), "applying the file again would undo a scale");
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    check_command(&words(&container["args"]));
    for (probe, path) in [("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
        assert_eq!(container[probe]["httpGet"]["path"], path, "{probe}");
        assert!(container[probe]["timeoutSeconds"].as_u64().unwrap() > 5, "{probe} gives up before the worker does");
    }
    let grace_ms: u64 = variable(container, "JOBCTL_GRACE_MS")["value"].as_str().unwrap().parse().unwrap();
    assert!(pod["terminationGracePeriodSeconds"].as_u64().unwrap() * 1000 > grace_ms);
    let url = variable(container, "DATABASE_URL");
    assert!(url.get("value").is_none() && url["valueFrom"]["secretKeyRef"]["name"].is_string());
    assert_eq!(container["resources"]["limits"]["nvidia.com/gpu"], 1);
    let claims: Vec<&Value> = documents.iter().filter(|it| it["kind"] == "PersistentVolumeClaim").collect();
    let named = &pod["volumes"][0]["persistentVolumeClaim"]["claimName"];
    assert!(claims.iter().any(|it| it["metadata"]["name"] == *named), "{named:?} is not declared");
}

fn variable<'a>(container: &'a Value, name: &str) -> &'a Value {
    container["env"].as_sequence().unwrap().iter().find(|it| it["name"] == name).unwrap()
}

#[test]
fn the_unit_starts_a_worker_and_gives_it_time_to_drain() {
    let unit = text("systemd/jobctl-worker@.service");
    let setting = |name: &str| unit.lines().find_map(|it| it.strip_prefix(name)?.strip_prefix('=')).unwrap();
    let start = setting("ExecStart");
    let command = start.split("/usr/local/bin/jobctl ").nth(1).unwrap().split('\'').next().unwrap();
    check_command(&command.split_whitespace().collect::<Vec<_>>());
    check_command(&["worker", "--device"]);
    assert!(setting("TimeoutStopSec").parse::<u64>().unwrap() * 1000 > grace_ms(&unit));
    // A signal to the slots as well would kill what they are told to save.
    assert_eq!(setting("KillMode"), "mixed");
    assert!(!start.contains("postgres://"));
}

#[test]
fn every_alert_is_about_a_metric_that_workers_tell() {
    let [file] = yaml("prometheus/jobctl.rules.yml").try_into().unwrap();
    let told: BTreeSet<String> = ["src/worker/vitals.rs", "src/worker/health.rs"]
        .into_iter()
        .flat_map(|it| metrics_in(&fs::read_to_string(root().join(it)).unwrap()))
        .collect();
    let docs = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let rules = file["groups"][0]["rules"].as_sequence().unwrap();
    assert!(rules.len() >= 8);
    for rule in rules {
        let expr = rule["expr"].as_str().unwrap();
        let named = metrics_in(expr);
        assert!(!named.is_empty(), "{expr}");
        for name in named {
            assert!(told.contains(&name), "{name} of {:?} is told by no worker", rule["alert"]);
        }
        let alert = rule["alert"].as_str().unwrap();
        assert!(docs.contains(&format!("`{alert}`")), "docs/operations.md does not say what to do about {alert}");
    }
    for name in told {
        assert!(docs.contains(&format!("`{name}`")), "docs/operations.md does not name {name}");
    }
}

fn metrics_in(text: &str) -> BTreeSet<String> {
    let is_word = |it: char| it.is_ascii_lowercase() || it == '_';
    text.match_indices("jobctl_")
        .map(|(at, _)| text[at..].chars().take_while(|it| is_word(*it)).collect::<String>())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_batch_script_gives_back_what_runs_when_the_limit_is_near() {
    let db = Database::new().await;
    let folder = db.home.path().join("photos");
    pictures_of(&folder, 2, 3000, 3000);
    let path = sweep(&folder, "slow", "", &["glcm_score", "glcm_texture", "compression_ratio"]);
    db.jobctl(["enqueue", path.to_str().unwrap()], 0);
    let address = db.home.path().join("url");
    fs::write(&address, format!("{}\n", db.url)).unwrap();
    let script = root().join("deploy/slurm/worker.sbatch");
    let text = fs::read_to_string(&script).unwrap();
    assert!(grace_ms(&text) < 120_000, "it saves for longer than it has");
    let prepared = db.command(["worker"]);
    // What the script asks of Slurm, as the last task of an array, whose number is the whole array's too.
    let (tools, asked) = (db.home.path().join("tools"), db.home.path().join("asked"));
    fs::create_dir(&tools).unwrap();
    let told = format!("echo \"$@\" >>'{}'", asked.display());
    for (name, does) in [("squeue", "echo RUNNING"), ("scontrol", told.as_str())] {
        fs::write(tools.join(name), format!("#!/bin/sh\n{does}\n")).unwrap();
        fs::set_permissions(tools.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = Command::new("bash");
    command.args(["-c", r#"PATH="$0:$PATH" exec bash "$1""#]).arg(&tools).arg(&script);
    for (name, value) in prepared.get_envs().filter(|it| it.0 != "DATABASE_URL") {
        command.env(name, value.unwrap_or_default());
    }
    command.env("JOBCTL", env!("CARGO_BIN_EXE_jobctl")).env("JOBCTL_DATABASE_URL_FILE", &address);
    command.env("SLURM_JOB_ID", "7").env("SLURM_ARRAY_JOB_ID", "7").env("SLURM_ARRAY_TASK_ID", "3");
    command.env_remove("DATABASE_URL");
    let mut batch = Running::start(command);
    wait_until("a job runs", LONG, async || db.number("select count(*) from job where state = 'running'").await > 0)
        .await;
    let worker = batch.slots();
    batch.signal(Signal::USR1);
    batch.ends_with(0, LONG);
    assert_eq!(fs::read_to_string(&asked).unwrap(), "requeue 7_3\n");
    assert!(!worker.iter().any(|it| lives(*it)), "the worker outlives its script");
    assert_eq!(db.number("select count(*) from job where state = 'running' or n_attempts > 0").await, 0);
    assert!(db.number("select count(*) from attempt where outcome = 'released'").await > 0);
    assert_eq!(db.number("select count(*) from worker where stopped_at is null").await, 0);
}
