//! Sweep files: what is read, and what is said of those that are wrong.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use jobctl::image::Rgb;
use jobctl::job::Hash;
use jobctl::sweep::inventory::{self, HashCache, Known};
use jobctl::sweep::{Inventory, Kind, Of, OnFailure, Point, Sweep};

use crate::support::diagnosed::diagnosed;

#[test]
fn every_mistake_is_diagnosed_with_its_place() {
    diagnosed("tests/bad_sweeps", 20, Sweep::parse);
}

/// A sweep with one images block of this path and these keys.
fn one_block(path: &str, keys: &str) -> Sweep {
    let text = format!(
        "name = 't'\n[[images]]\nname = 'photos'\npath = '{path}'\n{keys}\n[evaluate]\nmetrics = ['glcm_score']\n"
    );
    Sweep::parse(&text, "t.toml").unwrap_or_else(|it| panic!("{it}"))
}

fn scan_into(sweep: &Sweep, base: &Path, cache: &mut dyn HashCache) -> anyhow::Result<Inventory> {
    inventory::scan(sweep, base, cache, &|_| {})
}

fn samples(inventory: &Inventory) -> Vec<&str> {
    inventory.blocks[0].iter().map(|it| it.sample.as_str()).collect()
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// The smallest header that says a size: a PNG without pixels.
fn png(width: u32, height: u32) -> Vec<u8> {
    jobctl::image::png::encode(&Rgb::new(width, height))
}

#[test]
fn every_key_is_read() {
    let text = r#"
        name = "all.keys-1"
        on_failure = "stop"
        priority = -3
        [[images]]
        name = "photos"
        path = "a/b"
        captions = "metadata.jsonl"
        model = "Sana"
        crop = 0x400
        [[damage]]
        of = "photos"
        name = "worse"
        kind = "noise"
        sigma = [1, 2.5]
        seed = [7, 8]
        crop = 512
        expand = "zip"
        [[damage]]
        of = "worse"
        kind = "resize"
        factor = 1_0
        [evaluate]
        metrics = ["psnr", "glcm_score", "psnr", "glcm_entropy:*"]
        reference = "photos"
        max_pixels = 1_000_000
    "#;
    let sweep = Sweep::parse(text, "t.toml").unwrap();
    assert_eq!((sweep.name.as_str(), sweep.on_failure, sweep.priority), ("all.keys-1", OnFailure::Stop, -3));
    let images = &sweep.images[0];
    assert_eq!((images.name.as_str(), images.path.as_str(), images.crop), ("photos", "a/b", Some(1024)));
    assert_eq!((images.captions.as_deref(), images.model.as_deref()), (Some("metadata.jsonl"), Some("Sana")));
    let [worse, chain] = sweep.damage.as_slice() else { panic!("{:?}", sweep.damage) };
    assert_eq!((worse.name.as_str(), worse.of, worse.kind), ("worse", Of::Images(0), Kind::Noise));
    let points = [(1.0, 7), (2.5, 8)].map(|(level, seed)| Point { crop: Some(512), level, seed });
    assert_eq!(worse.points(), points);
    assert_eq!((chain.name.as_str(), chain.of), ("worse resize", Of::Damage(0)));
    assert_eq!(chain.points(), [Point { crop: None, level: 10.0, seed: 0 }]);
    let metrics: Vec<_> = sweep.evaluate.metrics.iter().map(|it| (it.name, it.variant)).collect();
    assert!(metrics.is_sorted() && metrics.len() >= 4, "{metrics:?}");
    assert_eq!((sweep.evaluate.reference, sweep.evaluate.max_pixels), (Some(0), Some(1_000_000)));
}

#[test]
fn a_grid_has_every_value_with_every_other() {
    let text = "name = 't'\n[[images]]\nname = 'a'\npath = 'a'\n[[damage]]\nof = 'a'\nkind = 'noise'\nsigma = [1, 2, 4]\n\
                seed = [0, 1]\ncrop = [64, 128]\n[evaluate]\nmetrics = ['psnr']\n";
    let damage = Sweep::parse(text, "t.toml").unwrap().damage.remove(0);
    assert_eq!((damage.n_points(), damage.points().len()), (12, 12));
    assert_eq!(damage.points()[1], Point { crop: Some(64), level: 1.0, seed: 1 });
}

#[test]
fn a_terminal_sees_place_and_help() {
    let faults = Sweep::parse("name = 't'\nnmae = 'u'\n", "t.toml").unwrap_err();
    let text = faults.for_terminal(80);
    assert!(text.contains("t.toml:2:1") && text.contains("did you mean `name`?"), "{text}");
}

#[test]
fn pictures_are_found_at_any_depth_and_by_any_spelling() {
    let base = tempfile::tempdir().unwrap();
    for name in ["b.JPG", "sub/a.jpeg", "sub/deep/c.webp", "d.PnG", "notes.txt", "jpg", "folder.jpg/e.png"] {
        write(&base.path().join("photos").join(name), name.as_bytes());
    }
    let inventory = scan_into(&one_block("photos", ""), base.path(), &mut ()).unwrap();
    assert_eq!(samples(&inventory), ["b", "d", "folder.jpg/e", "sub/a", "sub/deep/c"]);
    let first = &inventory.blocks[0][0];
    assert_eq!((first.content, first.size), (Hash::of(b"b.JPG"), None));
    assert_eq!(first.path, base.path().canonicalize().unwrap().join("photos/b.JPG"));

    let one = scan_into(&one_block("photos/sub/a.jpeg", ""), base.path(), &mut ()).unwrap();
    assert_eq!(samples(&one), ["a"]);
}

#[test]
fn links_are_followed_but_not_in_circles() {
    let base = tempfile::tempdir().unwrap();
    write(&base.path().join("elsewhere/a.png"), &png(3, 2));
    write(&base.path().join("photos/b.png"), &png(5, 4));
    symlink("../elsewhere", base.path().join("photos/linked")).unwrap();
    symlink("..", base.path().join("photos/circle")).unwrap();
    symlink("nowhere.png", base.path().join("photos/dead.png")).unwrap();
    let inventory = scan_into(&one_block("photos", ""), base.path(), &mut ()).unwrap();
    let names = samples(&inventory);
    assert!(names.contains(&"b") && names.contains(&"linked/a") && names.contains(&"dead"), "{names:?}");
    let by_name = |name: &str| inventory.blocks[0].iter().find(|it| it.sample == name).unwrap();
    assert_eq!((by_name("b").size, by_name("linked/a").size, by_name("dead").size), (Some((5, 4)), Some((3, 2)), None));
}

#[test]
fn a_missing_or_empty_folder_is_named_with_its_block() {
    let base = tempfile::tempdir().unwrap();
    fs::create_dir(base.path().join("empty")).unwrap();
    write(&base.path().join("notes.txt"), b"");
    for (path, what) in [("gone", "cannot open"), ("empty", "no JPEG"), ("notes.txt", "neither a folder nor")] {
        let error = format!("{:#}", scan_into(&one_block(path, ""), base.path(), &mut ()).unwrap_err());
        let resolved = base.path().join(path).display().to_string();
        for part in ["`photos`", &format!("`{path}`"), &resolved, what] {
            assert!(error.contains(part), "{part} in {error}");
        }
    }
}

#[test]
fn a_known_file_is_not_read_again_until_its_stamp_changes() {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("photos/a.png");
    write(&path, &png(3, 2));
    let (sweep, mut cache) = (one_block("photos", ""), HashMap::new());
    scan_into(&sweep, base.path(), &mut cache).unwrap();
    assert!(cache.is_empty(), "a file of this very moment may change within one tick");

    let set_mtime =
        |ago| File::options().write(true).open(&path).unwrap().set_modified(SystemTime::now() - ago).unwrap();
    set_mtime(Duration::from_secs(100));
    let scanned = scan_into(&sweep, base.path(), &mut cache).unwrap();
    assert_eq!(cache.len(), 1);
    // What the cache says is believed.
    let known = Known { content: Hash::of(b"cached"), size: None };
    cache.values_mut().for_each(|it| *it = known);
    let cached = scan_into(&sweep, base.path(), &mut cache).unwrap();
    assert_eq!(cached.blocks[0][0].content, known.content);
    set_mtime(Duration::from_secs(50));
    assert_eq!(scan_into(&sweep, base.path(), &mut cache).unwrap(), scanned);
}

#[test]
fn progress_ends_at_the_total() {
    let base = tempfile::tempdir().unwrap();
    for idx in 0..5 {
        write(&base.path().join(format!("photos/{idx}.png")), &png(idx + 1, 1));
    }
    let seen = Mutex::new(Vec::new());
    inventory::scan(&one_block("photos", ""), base.path(), &mut (), &|it| seen.lock().unwrap().push(it)).unwrap();
    let seen = seen.into_inner().unwrap();
    assert_eq!(seen.len(), 5);
    assert!(seen.iter().any(|it| it.done_bytes == it.total_bytes && it.total_bytes > 0), "{seen:?}");
}

#[test]
fn captions_belong_to_files() {
    let base = tempfile::tempdir().unwrap();
    write(&base.path().join("photos/a.png"), &png(1, 1));
    write(&base.path().join("photos/sub/b.png"), &png(1, 1));
    write(&base.path().join("photos/c.png"), &png(1, 1));
    let captions = base.path().join("photos/metadata.jsonl");
    write(&captions, b"{\"file_name\": \"a.png\", \"text\": \"a lake\"}\n\n{\"file_name\": \"./sub/b.png\", \"text\": \"b\", \"n\": 1}\n");
    let sweep = one_block("photos", "captions = 'metadata.jsonl'");
    let inventory = scan_into(&sweep, base.path(), &mut ()).unwrap();
    let found: Vec<_> = inventory.blocks[0].iter().map(|it| (it.sample.as_str(), it.caption.as_deref())).collect();
    assert_eq!(found, [("a", Some("a lake")), ("c", None), ("sub/b", Some("b"))]);

    write(&captions, b"{\"file_name\": \"a.png\", \"text\": \"a\"}\n{\"file_name\": \"b.png\"}\n");
    let error = format!("{:#}", scan_into(&sweep, base.path(), &mut ()).unwrap_err());
    assert!(error.contains("metadata.jsonl:2") && error.contains("text") && error.contains("`photos`"), "{error}");
}

#[test]
fn a_name_that_is_no_text_is_a_sample() {
    let base = tempfile::tempdir().unwrap();
    for name in [&b"caf\xe9.png"[..], b"caf\xe8.png", "café.png".as_bytes()] {
        write(&base.path().join("photos").join(OsStr::from_bytes(name)), &png(1, 1));
    }
    let inventory = scan_into(&one_block("photos", ""), base.path(), &mut ()).unwrap();
    assert_eq!(samples(&inventory), ["caf%E8", "caf%E9", "café"]);
    assert!(inventory.blocks[0].iter().all(|it| it.path.exists()));
}
