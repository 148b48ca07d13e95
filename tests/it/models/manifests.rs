//! The full-size models ask for exactly the tensors that diffusers and transformers have in them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use jobctl::models::clip::{picture::Preparation, vision};
use jobctl::models::text::{clip, t5};
use jobctl::models::weights::Weights;
use jobctl::models::{sd3, vae};
use serde_json::Value;

/// The tensors that the model of a config asks for.
fn asked(kind: &str, config: &Path) -> BTreeMap<String, Vec<usize>> {
    let weights = Weights::blueprint();
    match kind {
        "transformer" => drop(sd3::Sd3::load(&sd3::Config::read(config).unwrap(), &weights).unwrap()),
        "vae" => drop(vae::Vae::load(&vae::Config::read(config).unwrap(), &weights).unwrap()),
        "t5" => drop(t5::T5Encoder::load(&t5::Config::read(config).unwrap(), &weights).unwrap()),
        "clip" => drop(clip::ClipText::load(&clip::Config::read(config).unwrap(), &weights).unwrap()),
        "vision" => {
            let config = vision::Config::read(config).unwrap();
            drop(vision::ClipVision::load(&config, Preparation::default(), &weights).unwrap());
        }
        other => panic!("{other}"),
    }
    weights.asked().into_iter().collect()
}

fn kind(name: &str) -> &'static str {
    match name {
        _ if name.ends_with("transformer") => "transformer",
        _ if name.ends_with("vae") => "vae",
        "sd3-text-encoder-3" => "t5",
        _ if name.ends_with("vision") => "vision",
        _ => "clip",
    }
}

fn manifests() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/manifests");
    let files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()).collect();
    assert_eq!(files.len(), 8);
    files
}

#[test]
fn every_full_size_model_asks_for_every_tensor_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    for file in manifests() {
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let manifest: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        let config = folder.path().join("config.json");
        fs::write(&config, manifest["config"].to_string()).unwrap();
        let theirs: BTreeMap<String, Vec<usize>> = serde_json::from_value(manifest["tensors"].clone()).unwrap();
        let ours = asked(kind(&name), &config);
        let missing: Vec<_> = theirs.iter().filter(|it| ours.get(it.0) != Some(it.1)).collect();
        let surplus: Vec<_> = ours.iter().filter(|it| theirs.get(it.0) != Some(it.1)).collect();
        assert!(missing.is_empty() && surplus.is_empty(), "{name}: only theirs {missing:?}, only ours {surplus:?}");
    }
}
