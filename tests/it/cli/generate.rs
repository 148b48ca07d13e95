//! `jobctl generate`: from words to a picture, against diffusers.

use std::path::Path;

use candle_core::Device;
use jobctl::models::pipeline::latent_from_bytes;

use crate::models::{PACKAGES, difference, golden, json, outputs, psnr, values};
use crate::support::jobctl;

#[test]
fn words_become_the_pictures_that_diffusers_makes() {
    let folder = tempfile::tempdir().unwrap();
    let (out, latent_out) = (folder.path().join("out.png"), folder.path().join("latent.safetensors"));
    for package in PACKAGES {
        let theirs = outputs(package);
        let runs = json(&format!("{package}.json"))["runs"].as_array().unwrap().clone();
        for (idx, run) in runs.iter().enumerate() {
            let text = |key: &str| run[key].as_str().unwrap_or_default().to_owned();
            let number = |key: &str| run[key].to_string();
            let size = format!("{}x{}", number("width"), number("height"));
            let mut command = jobctl();
            command.args(["generate", "--model"]).arg(golden(package)).arg("--out").arg(&out);
            command.arg("--latent-out").arg(&latent_out).args(["--prompt", &text("prompt"), "--size", &size]);
            command.args(["--negative", &text("negative_prompt"), "--steps", &number("steps")]);
            command.args(["--guidance", &number("guidance"), "--seed", &number("seed")]);
            command.args(["--t5-tokens", &number("t5_tokens"), "--json"]);
            let output = command.assert().success().get_output().stdout.clone();
            let report: serde_json::Value = serde_json::from_slice(&output).unwrap();
            assert_eq!(report["width"], run["width"]);

            let latent = latent_from_bytes(&std::fs::read(&latent_out).unwrap()).unwrap();
            let wanted = &theirs[&format!("run.{idx}.latent")];
            assert!(difference(&latent, wanted) < 1e-3, "{package} {idx}: {}", difference(&latent, wanted));
            let wanted = values(&theirs[&format!("run.{idx}.image")].to_device(&Device::Cpu).unwrap());
            let psnr = psnr(&pixels(&out), &wanted);
            assert!(psnr >= 55.0, "{package} {idx}: {psnr} dB");
        }
    }
}

fn pixels(path: &Path) -> Vec<u8> {
    jobctl::image::decode(&std::fs::read(path).unwrap(), 1 << 24).unwrap().pixels
}

#[test]
fn a_picture_says_what_it_was_made_from() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["out.png", "out.jpg"] {
        let out = folder.path().join(name);
        let mut command = jobctl();
        command.args(["generate", "--model"]).arg(golden("tiny")).arg("--out").arg(&out);
        command.args(["--prompt", "a fox & <b>\u{1f98a}</b>", "--size", "64", "--steps", "1", "--seed", "7"]);
        command.assert().success();
        let bytes = std::fs::read(&out).unwrap();
        let found = String::from_utf8_lossy(&bytes).contains("a fox & <b>\u{1f98a}</b>");
        assert!(found, "{name}");
        assert_eq!(pixels(&out).len(), 64 * 64 * 3);
    }
}

#[test]
fn mistakes_are_told_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let refusal = |model: &Path, out: &str, more: &[&str]| {
        let mut command = jobctl();
        command.args(["generate", "--prompt", "x", "--steps", "1", "--model"]).arg(model);
        command.arg("--out").arg(folder.path().join(out)).args(more);
        let output = command.assert().failure().get_output().clone();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        String::from_utf8(output.stderr).unwrap()
    };
    let tiny = golden("tiny");
    assert!(refusal(&tiny, "out.tiff", &[]).contains(".png or a .jpg"));
    assert!(refusal(&tiny, "nowhere/out.png", &[]).contains("there is no folder"));
    assert!(refusal(&tiny, "out.png", &["--size", "60x64"]).contains("64x64 is the nearest"));
    assert!(refusal(&tiny, "out.png", &["--dtype", "bf16"]).contains("needs CUDA"));
    assert!(refusal(&tiny, "out.png", &["--device", "gpu"]).contains("cuda:N"));
    assert!(refusal(&golden("captions.json"), "out.png", &[]).contains("captions.json"));
    assert!(refusal(&golden("odd"), "out.png", &["--partition", "legacy", "--size", "64"]).contains("stride 1"));
}
