//! `jobctl model` as people and scripts use it.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::models::hub::server::{Habit, NAME, Server};
use crate::support::golden;
use crate::support::process::Printed;

/// Runs `jobctl model` with the hub's variables set to a server and a cache.
fn model(arguments: &[&str], variables: &[(&str, &str)], status: i32) -> Printed {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jobctl"));
    command.arg("model").args(arguments);
    for name in ["HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "http_proxy", "HTTP_PROXY", "ALL_PROXY"]
    {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied());
    Printed::of(command.output().unwrap(), status)
}

fn component<'a>(inspection: &'a Value, name: &str) -> &'a Value {
    let components = inspection["components"].as_array().unwrap();
    components.iter().find(|it| it["name"] == name).unwrap()
}

#[test]
fn a_package_that_was_made_is_inspected() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("tiny");
    let dir = dir.to_str().unwrap();
    let made = model(&["init", "--family", "sd3", "--preset", "tiny", "--seed", "3", dir], &[], 0);
    assert_eq!(made.out.trim_end(), dir);
    let again = model(&["init", "--family", "sd3", "--preset", "tiny", dir], &[], 1);
    assert!(again.err.contains("not empty"), "{}", again.err);

    let seen = model(&["inspect", dir, "--size", "512x256", "--dtype", "f32", "--json"], &[], 0).json();
    assert_eq!((&seen["usable"], &seen["dtype"]), (&json!(true), &json!("f32")));
    assert_eq!(seen["sizes"], json!({ "factor": 16, "unit": 32, "most": 2048 }));
    let plan = &seen["memory"][0];
    assert_eq!((&plan["width"], &plan["height"]), (&json!(512), &json!(256)));
    let vae = component(&seen, "vae");
    assert_eq!(vae["class"], "AutoencoderKL");
    assert_eq!(vae["dtypes"]["F32"], vae["parameters"]);
    assert_eq!(plan["vae"]["weights"].as_u64().unwrap(), 4 * vae["parameters"].as_u64().unwrap());
    assert_eq!(vae["files"], json!(["vae/config.json", "vae/diffusion_pytorch_model.safetensors"]));

    let text = model(&["inspect", dir], &[], 0).out;
    for word in
        ["transformer", "SD3Transformer2DModel", "factor is 16", "multiples of 32, from 32 to 2048", "2048x2048"]
    {
        assert!(text.contains(word), "`{word}` is not in:\n{text}");
    }
    let refused = model(&["inspect", dir, "--size", "500x500"], &[], 1).err;
    assert!(refused.contains("512x512 is the nearest"), "{refused}");
    model(&["inspect", dir, "--size", "large"], &[], 2);
}

#[test]
fn what_is_missing_is_named_and_gives_status_1() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("tiny");
    model(&["init", "--family", "sd3", "--preset", "tiny", "--no-t5", dir.to_str().unwrap()], &[], 0);
    let config = dir.join("transformer/config.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("\"num_layers\": 2", "\"num_layers\": 3")).unwrap();
    let said = model(&["inspect", dir.to_str().unwrap()], &[], 1).out;
    // Every one of them.
    assert!(said.contains("transformer_blocks.2.norm1_context.linear.weight [64, 32]"), "{said}");
    let seen = model(&["inspect", dir.to_str().unwrap(), "--json"], &[], 1).json();
    assert_eq!(seen["usable"], false);
    assert!(component(&seen, "transformer")["faults"]["missing"].as_array().unwrap().len() > 20);
    fs::remove_file(dir.join("vae/diffusion_pytorch_model.safetensors")).unwrap();
    assert!(model(&["inspect", dir.to_str().unwrap()], &[], 1).out.contains("vae has no weights"));
    fs::remove_file(dir.join("model_index.json")).unwrap();
    assert!(model(&["inspect", dir.to_str().unwrap()], &[], 1).err.contains("model_index.json"));
}

#[test]
fn a_hugging_face_name_goes_through_the_environment() {
    let server = Server::start(&golden("sd3/deep"), &[Habit::WantsToken]);
    let home = tempfile::tempdir().unwrap();
    let url = server.url();
    let at = home.path().to_str().unwrap();
    let inspect = |more: &[(&str, &str)], status| {
        let variables = [&[("HF_ENDPOINT", url.as_str()), ("HF_HOME", at)], more].concat();
        model(&["inspect", NAME, "--json"], &variables, status)
    };
    assert!(inspect(&[], 1).err.contains("HF_TOKEN"));
    assert!(inspect(&[("HF_HUB_OFFLINE", "1")], 1).err.contains("HF_HUB_OFFLINE"));
    // The token of a login.
    fs::write(Path::new(at).join("token"), "secret\n").unwrap();
    let seen = inspect(&[], 0).json();
    assert_eq!(seen["usable"], true);
    assert_eq!(component(&seen, "transformer")["dtypes"].as_object().unwrap().keys().collect::<Vec<_>>(), ["BF16"]);
    let n_asked = server.asked().len();
    assert_eq!(inspect(&[("HF_HUB_OFFLINE", "1")], 0).json()["usable"], true);
    assert_eq!(server.asked().len(), n_asked);
    let cache = tempfile::tempdir().unwrap();
    let other = [("HF_HUB_CACHE", cache.path().to_str().unwrap()), ("HF_TOKEN", "secret")];
    inspect(&other, 0);
    assert!(cache.path().join("models--team--sd3/refs/main").is_file());
}
