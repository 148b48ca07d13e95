//! Packages: what each part reads, and what is said of those that are damaged.

mod damage;

use std::fs;
use std::path::{Path, PathBuf};

use jobctl::job::Hash;
use jobctl::models::package::{Package, Part};

use super::golden;

/// A copy of a golden package.
pub fn copy(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in walkdir::WalkDir::new(golden(name)).min_depth(1) {
        let entry = entry.unwrap();
        let to = folder.path().join(entry.path().strip_prefix(golden(name)).unwrap());
        if entry.file_type().is_dir() {
            fs::create_dir(&to).unwrap();
        } else {
            fs::copy(entry.path(), &to).unwrap();
        }
    }
    folder
}

fn files(package: &Package, part: Part) -> Vec<String> {
    let files: Vec<PathBuf> = package.files(part).unwrap();
    files.iter().map(|it| it.strip_prefix(&package.root).unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn each_part_names_the_files_that_it_reads() {
    let deep = Package::open(&golden("deep")).unwrap();
    let shards = |folder: &str, stem: &str, n: usize| {
        let shards = (1..=n).map(move |it| format!("{folder}/{stem}-{it:05}-of-{n:05}.safetensors"));
        shards.chain([format!("{folder}/{stem}.safetensors.index.json")]).collect::<Vec<_>>()
    };
    let stem = "diffusion_pytorch_model";
    let with = |more: &[&str], mut files: Vec<String>| {
        files.extend(more.iter().map(|it| (*it).to_owned()));
        files.sort_by_key(|it| PathBuf::from(it));
        files
    };
    let denoiser = with(
        &["scheduler/scheduler_config.json", "transformer/config.json", "vae/config.json"],
        shards("transformer", stem, 5),
    );
    assert_eq!(files(&deep, Part::Denoiser), denoiser);
    assert_eq!(files(&deep, Part::Vae), with(&["vae/config.json"], shards("vae", stem, 2)));
    let text = files(&deep, Part::Text);
    for wanted in ["tokenizer_3/tokenizer.json", "tokenizer/merges.txt", "text_encoder_3/model.safetensors.index.json"]
    {
        assert!(text.iter().any(|it| it == wanted), "{wanted} is not in {text:?}");
    }
    assert!(!text.iter().any(|it| it.starts_with("transformer") || it == "model_index.json"), "{text:?}");
    // Without T5 the transformer's config says how wide the zeros are.
    let odd = files(&Package::open(&golden("odd")).unwrap(), Part::Text);
    assert!(odd.iter().any(|it| it == "transformer/config.json"), "{odd:?}");
    assert!(odd.iter().any(|it| it == "tokenizer/tokenizer.json"), "{odd:?}");
}

#[test]
fn the_same_files_elsewhere_have_the_same_hash() {
    let hash = |root: &Path, part| {
        let package = Package::open(root).unwrap();
        package.part_hash(part, |it| Ok(Hash::of(&fs::read(it)?))).unwrap()
    };
    let other = copy("tiny");
    let parts = [Part::Text, Part::Denoiser, Part::Vae];
    let before = parts.map(|it| hash(&golden("tiny"), it));
    assert_eq!(parts.map(|it| hash(other.path(), it)), before);

    let index = other.path().join("model_index.json");
    fs::write(&index, fs::read_to_string(&index).unwrap() + "\n").unwrap();
    assert_eq!(parts.map(|it| hash(other.path(), it)), before);

    let weights = other.path().join("transformer/diffusion_pytorch_model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&weights, bytes).unwrap();
    let after = parts.map(|it| hash(other.path(), it));
    assert!(after[0] == before[0] && after[1] != before[1] && after[2] == before[2]);
}
