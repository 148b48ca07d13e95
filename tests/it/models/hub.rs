//! Packages by name, from a small server that answers as the Hugging Face hub does.

pub mod server;

use std::fs;
use std::path::{Path, PathBuf};

use jobctl::models::hub::{Hub, locate};
use jobctl::models::inspect;
use jobctl::models::package::{Layout, Package};

use self::server::{COMMIT, Habit, NAME, Server};
use super::golden;

struct Case {
    server: Server,
    hub: Hub,
    cache: tempfile::TempDir,
}

impl Case {
    fn of(package: &str, habits: &[Habit]) -> Self {
        let server = Server::start(&golden(package), habits);
        let cache = tempfile::tempdir().unwrap();
        let hub = Hub { endpoint: server.url(), cache: cache.path().join("hub"), token: None, offline: false };
        Self { server, hub, cache }
    }

    fn fault(&self, name: &str) -> String {
        format!("{:#}", self.hub.locate(name).unwrap_err())
    }

    fn folder(&self) -> PathBuf {
        self.hub.cache.join("models--team--sd3")
    }
}

fn assert_says(fault: &str, words: &[&str]) {
    for word in words {
        assert!(fault.contains(word), "`{word}` is not in: {fault}");
    }
}

/// The files below a folder, with their contents.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = walkdir::WalkDir::new(folder).follow_links(true).sort_by_file_name().into_iter().map(|it| it.unwrap());
    let files = files.filter(|it| it.file_type().is_file());
    files.map(|it| (it.path().strip_prefix(folder).unwrap().to_owned(), fs::read(it.path()).unwrap())).collect()
}

#[test]
fn a_name_is_downloaded_whole_and_nothing_else_is() {
    for package in super::PACKAGES {
        let case = Case::of(package, &[]);
        let folder = case.hub.locate(NAME).unwrap();
        inspect::check(&Package::open(&folder).unwrap()).unwrap();
        for (path, bytes) in contents(&folder) {
            assert!(fs::read(golden(package).join(&path)).unwrap() == bytes, "{}", path.display());
        }
        // The server also has other forms of the weights, a picture and a checkpoint in one file.
        let asked = case.server.asked();
        let surplus = asked.iter().find(|it| [".bin", "fp16", ".png", "single"].iter().any(|word| it.contains(word)));
        assert_eq!(surplus, None);
        // huggingface_hub's layout.
        assert_eq!(folder, case.folder().join("snapshots").join(COMMIT));
        assert_eq!(fs::read_to_string(case.folder().join("refs/main")).unwrap(), COMMIT);
    }
}

#[test]
fn a_network_is_downloaded_with_what_is_read_of_it() {
    let mut case = Case::of("../clip/whole", &[]);
    let folder = case.hub.locate_as(NAME, Layout::Transformers).unwrap();
    let files: Vec<PathBuf> = contents(&folder).into_iter().map(|it| it.0).collect();
    assert_eq!(files, ["config.json", "model.safetensors", "preprocessor_config.json"].map(PathBuf::from));
    case.hub.offline = true;
    assert_eq!(case.hub.locate_as(NAME, Layout::Transformers).unwrap(), folder);
    fs::remove_file(folder.join("model.safetensors")).unwrap();
    let fault = format!("{:#}", case.hub.locate_as(NAME, Layout::Transformers).unwrap_err());
    assert_says(&fault, &["not complete", "has no weights"]);
    // A package of a pipeline is none.
    let case = Case::of("tiny", &[]);
    let fault = format!("{:#}", case.hub.locate_as(NAME, Layout::Transformers).unwrap_err());
    assert_says(&fault, &["nor model.safetensors", "whole or in shards"]);
}

#[test]
fn what_the_cache_has_is_not_downloaded_again() {
    let mut case = Case::of("deep", &[]);
    let first = case.hub.locate(NAME).unwrap();
    let n_asked = case.server.asked().len();
    assert_eq!(case.hub.locate(NAME).unwrap(), first);
    // Once more what the name stands for, and no file.
    assert_eq!(case.server.asked().len(), n_asked + 1);
    // A commit never changes: nothing is asked.
    assert_eq!(case.hub.locate(&format!("{NAME}@{COMMIT}")).unwrap(), first);
    assert_eq!(case.server.asked().len(), n_asked + 1);
    case.hub.offline = true;
    assert_eq!(case.hub.locate(NAME).unwrap(), first);
    assert_eq!(case.server.asked().len(), n_asked + 1);
    // The hub cannot be reached: what is here does.
    case.hub = Hub { endpoint: "http://127.0.0.1:9".to_owned(), offline: false, ..case.hub };
    assert_eq!(case.hub.locate(NAME).unwrap(), first);
    assert_says(&case.fault("team/other"), &["http://127.0.0.1:9 cannot be reached", "network"]);
}

#[test]
fn offline_and_not_in_the_cache_says_what_to_do() {
    let mut case = Case::of("tiny", &[]);
    case.hub.offline = true;
    assert_says(&case.fault(NAME), &[NAME, "HF_HUB_OFFLINE", "unset it", "the cache has no team/sd3@main"]);
    // A snapshot that is not complete does not count.
    case.hub.offline = false;
    let folder = case.hub.locate(NAME).unwrap();
    fs::remove_file(folder.join("vae/config.json")).unwrap();
    case.hub.offline = true;
    assert_says(&case.fault(NAME), &["not complete", "vae/config.json"]);
}

#[test]
fn a_download_that_breaks_off_goes_on_where_it_stopped() {
    for habit in [Habit::BreaksOff, Habit::BreaksOffQuietly, Habit::IgnoresRanges] {
        let case = Case::of("tiny", &[habit]);
        let folder = case.hub.locate(NAME).unwrap();
        inspect::check(&Package::open(&folder).unwrap()).unwrap();
        for (path, bytes) in contents(&folder) {
            assert!(fs::read(golden("tiny").join(&path)).unwrap() == bytes, "{habit:?}: {}", path.display());
        }
        let parts = walkdir::WalkDir::new(case.cache.path()).into_iter().map(|it| it.unwrap().into_path());
        assert!(parts.into_iter().all(|it| it.extension().is_none_or(|it| it != "part")), "{habit:?}");
        if habit == Habit::BreaksOff {
            assert!(case.server.was_resumed());
        }
    }
}

#[test]
fn a_file_that_is_not_what_the_hub_announced_is_never_used() {
    let case = Case::of("tiny", &[Habit::Damages]);
    assert_says(&case.fault(NAME), &["vae/diffusion_pytorch_model.safetensors", "SHA-256"]);
    assert!(!case.folder().join("refs/main").exists());
    assert!(!case.folder().join("snapshots").join(COMMIT).join("vae/diffusion_pytorch_model.safetensors").exists());
}

#[test]
fn restricted_packages_ask_for_the_licence_and_the_token() {
    let mut case = Case::of("tiny", &[Habit::WantsToken]);
    assert_says(&case.fault(NAME), &["licence", "HF_TOKEN"]);
    case.hub.token = Some("wrong".to_owned());
    assert_says(&case.fault(NAME), &["access to", "licence", "HF_TOKEN"]);
    case.hub.token = Some("secret".to_owned());
    case.hub.locate(NAME).unwrap();
    let mut case = Case::of("tiny", &[Habit::HidesFromStrangers]);
    assert_says(&case.fault(NAME), &["no public team/sd3", "HF_TOKEN", "/team/sd3"]);
    case.hub.token = Some("wrong".to_owned());
    assert_says(&case.fault(NAME), &["access to team/sd3 is refused", "licence"]);
}

#[test]
fn what_the_hub_does_not_have_is_said() {
    let case = Case::of("tiny", &[]);
    assert_says(&case.fault("team/other"), &["has no team/other", "check the name"]);
    assert_says(&case.fault("team/sd3@v9"), &["has no team/sd3", "`v9`"]);
    let case = Case::of("tiny", &[Habit::HasNoSafetensors]);
    assert_says(&case.fault(NAME), &["neither vae/diffusion_pytorch_model.safetensors", "fp16"]);
}

#[test]
fn a_package_of_another_family_is_refused_before_its_weights_are_downloaded() {
    let case = Case::of("tiny", &[Habit::IsAnotherFamily]);
    assert_says(&case.fault(NAME), &["FluxPipeline"]);
    assert!(!case.server.asked().iter().any(|it| it.ends_with(".safetensors")));
}

#[test]
fn what_is_neither_a_folder_nor_a_name_is_refused_without_a_request() {
    let case = Case::of("tiny", &[]);
    for name in ["sd3", "a/b/c", "/nowhere/sd3", "../x/y", "a/..", "team/sd3@", "team/sd3@../../x", "", "team/s d3"] {
        assert_says(&case.fault(name), &["neither a folder here nor a name"]);
    }
    assert!(case.server.asked().is_empty());
}

#[test]
fn a_folder_stays_as_it_is() {
    let path = golden("tiny");
    assert_eq!(locate(path.to_str().unwrap()).unwrap(), path);
}
