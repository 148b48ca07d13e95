//! `jobctl score` as scripts see it.

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};

use assert_cmd::cargo::cargo_bin;
use jobctl::image::{self, Rgb};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{golden, golden_json, jobctl};

/// The JSON lines of a run that must end with `status`.
fn score(arguments: &[&dyn AsRef<OsStr>], status: i32) -> Vec<Value> {
    let mut command = jobctl();
    command.arg("score").args(["--json", "--metric"]);
    let output = command.args(arguments.iter().map(AsRef::as_ref)).output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr).into_owned());
    assert_eq!(output.status.code(), Some(status), "{out}{err}");
    out.lines().map(|it| serde_json::from_str(it).unwrap()).collect()
}

fn copy(names: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in names {
        fs::copy(golden("images").join(name), folder.path().join(name)).unwrap();
    }
    folder
}

fn line<'a>(lines: &'a [Value], key: &str, name: &str) -> &'a Value {
    lines.iter().find(|it| it[key].as_str().is_some_and(|it| it.ends_with(name))).unwrap_or_else(|| panic!("{name}"))
}

#[test]
fn an_image_and_metric_is_a_line_and_a_set_and_metric_another() {
    let folder = copy(&["64x64.png", "plain.jpg"]);
    let lines = score(&[&"glcm_score,compression_ratio,compression_ratio:file", &folder.path()], 0);
    assert_eq!(lines.len(), 9);
    let first = lines[0].as_object().unwrap();
    assert_eq!(first["path"], folder.path().join("64x64.png").to_str().unwrap());
    assert_eq!((&first["metric"], &first["variant"]), (&"glcm_score".into(), &"authors".into()));
    assert!(first["version"].is_u64() && first["value"].is_f64());
    let sets = &lines[6..];
    assert!(sets.iter().all(|it| it["set"] == folder.path().to_str().unwrap()));
    // The 45×29 photograph has no patch of 64×64.
    assert_eq!((&sets[0]["n"], &sets[0]["value"]), (&1.into(), &first["value"]));
    let bytes = |name| fs::metadata(folder.path().join(name)).unwrap().len() as f64;
    let pooled = f64::from(3 * (64 * 64 + 45 * 29)) / (bytes("64x64.png") + bytes("plain.jpg"));
    assert_eq!(sets[2]["n"], 2);
    assert!((sets[2]["value"].as_f64().unwrap() - pooled).abs() < 1e-9);
}

#[test]
fn what_is_undefined_says_why() {
    let folder = copy(&["63x64.png", "1x1.png"]);
    let lines = score(&[&"glcm_score", &folder.path()], 0);
    for name in ["63x64.png", "1x1.png"] {
        let line = line(&lines, "path", name);
        assert!(line["value"].is_null() && line["why"].as_str().unwrap().contains("64"), "{line}");
    }
    assert!(lines[2]["value"].is_null() && lines[2]["n"] == 0);
}

#[test]
fn every_bad_file_costs_one_line_and_the_rest_are_scored() {
    let bad = golden_json("images.json")["bad"].as_object().unwrap().clone();
    let names: Vec<_> = bad.keys().map(String::as_str).chain(["64x64.png", "rgba.png", "turned6.jpg"]).collect();
    let folder = copy(&names);
    let lines = score(&[&"compression_ratio", &folder.path()], 1);
    for (name, word) in &bad {
        let error = line(&lines, "path", &format!("/{name}"))["error"].as_str().unwrap();
        assert!(error.contains(word.as_str().unwrap()), "{name}: {error}");
    }
    assert_eq!(lines.iter().filter(|it| it["error"].is_string()).count(), bad.len());
    assert_eq!(lines.last().unwrap()["n"], 3);
}

#[test]
fn every_kind_of_good_file_is_scored() {
    let names: Vec<_> = golden_json("images.json")["good"].as_object().unwrap().keys().cloned().collect();
    let folder = copy(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let lines = score(&[&"compression_ratio", &folder.path()], 0);
    assert_eq!(lines.len(), names.len() + 1);
    assert_eq!(lines.last().unwrap()["n"], names.len());
}

#[test]
fn a_missing_place_is_a_line_and_not_the_end() {
    let folder = copy(&["64x64.png"]);
    let empty = tempfile::tempdir().unwrap();
    let gone = folder.path().join("gone");
    let single = folder.path().join("64x64.png");
    let lines = score(&[&"compression_ratio", &gone, &empty.path(), &single], 1);
    assert_eq!(lines[0]["path"], gone.to_str().unwrap());
    assert!(lines[0]["error"].as_str().unwrap().contains("No such file"));
    assert!(lines[1]["error"].as_str().unwrap().contains("no .jpg"));
    assert!(lines[2]["value"].is_f64());
    assert_eq!(line(&lines, "set", "files")["n"], 1);
}

#[test]
fn a_name_that_is_not_utf_8_is_read_and_printed_with_a_mark() {
    let folder = copy(&[]);
    let name = OsStr::from_bytes(b"caf\xe9.PNG");
    fs::copy(golden("images/64x64.png"), folder.path().join(name)).unwrap();
    let lines = score(&[&"compression_ratio", &folder.path()], 0);
    assert!(lines[0]["path"].as_str().unwrap().ends_with("caf\u{fffd}.PNG"));
    assert!(lines[0]["value"].is_f64());
}

#[test]
fn folders_are_searched_at_any_depth_and_in_order_whatever_the_number_of_threads() {
    let folder = copy(&["64x64.png", "plain.jpg", "text.jpg"]);
    fs::create_dir_all(folder.path().join("b/c")).unwrap();
    fs::copy(golden("images/lossy.webp"), folder.path().join("b/c/x.WebP")).unwrap();
    fs::copy(golden("images/444.jpg"), folder.path().join("b/a.JPEG")).unwrap();
    fs::write(folder.path().join("notes.txt"), "no image").unwrap();
    let lines = |threads| score(&[&"glcm_score,compression_ratio:*", &folder.path(), &"--threads", &threads], 1);
    let one = lines("1");
    assert_eq!(one, lines("7"));
    let paths: Vec<_> = one.iter().filter_map(|it| it["path"].as_str()).collect();
    assert!(paths.is_sorted());
    assert!(paths.iter().any(|it| it.ends_with("b/c/x.WebP")) && paths.iter().any(|it| it.ends_with("b/a.JPEG")));
}

#[test]
fn a_reference_has_the_same_place_and_stem_and_any_ending() {
    let (images, references) = (copy(&["text.jpg"]), copy(&[]));
    let put = |folder: &TempDir, name: &str, level: u8| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, image::png::encode(&Rgb { width: 64, height: 64, pixels: vec![level; 64 * 64 * 3] })).unwrap();
    };
    put(&images, "a/one.png", 100);
    put(&references, "a/one.jpeg", 110);
    put(&images, "two.png", 100);
    put(&references, "two.webp", 100);
    put(&references, "two.png", 101);
    put(&images, "alone.png", 100);
    put(&images, "broken.png", 100);
    fs::write(references.path().join("broken.jpg"), "").unwrap();
    let lines = score(&[&"psnr,compression_ratio", &images.path(), &"--reference", &references.path()], 1);
    let psnr = |level: f64| 10.0 * (255.0 * 255.0 / level.powi(2)).log10();
    let value = |name: &str| line(&lines, "path", name)["value"].as_f64().unwrap();
    assert!((value("a/one.png") - psnr(10.0)).abs() < 1e-9);
    assert!((value("two.png") - psnr(1.0)).abs() < 1e-9);
    let of = |name: &str| -> Vec<_> {
        lines.iter().filter(|it| it["path"].as_str().is_some_and(|it| it.ends_with(name))).collect()
    };
    let alone = of("alone.png");
    assert_eq!((alone.len(), &alone[0]["metric"]), (2, &"compression_ratio".into()));
    assert!(alone[1]["error"].as_str().unwrap().contains("no reference alone"));
    assert!(of("broken.png")[1]["error"].as_str().unwrap().contains("broken.jpg: the file is empty"));
    assert!(of("text.jpg")[0]["error"].as_str().unwrap().contains("text"));
}

#[test]
fn the_limit_on_pixels_is_a_flag() {
    let folder = copy(&["64x64.png"]);
    let lines = score(&[&"compression_ratio", &folder.path(), &"--max-pixels", &"4095"], 1);
    assert!(lines[0]["error"].as_str().unwrap().contains("64×64 is 4096 pixels, over the limit of 4095"));
}

#[test]
fn wrong_use_is_status_2_and_says_what_was_probably_meant() {
    let refused = |arguments: &[&str]| {
        let output = jobctl().arg("score").args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let message = refused(&["--metric", "glmc_score", "."]);
    assert!(message.contains("did you mean `glcm_score`") && message.contains("compression_ratio"), "{message}");
    assert!(refused(&["--metric", "psnr", "."]).contains("--reference"));
    assert!(refused(&["."]).contains("--metric"));
    assert!(refused(&["--metric", "psnr"]).contains("PATH"));
    assert!(refused(&["--metric", "glcm_score", "--threads", "0", "."]).contains("threads"));
}

#[test]
fn a_reader_that_leaves_ends_it_quietly() {
    let folder = copy(&[]);
    for i in 0..40 {
        fs::copy(golden("images/64x64.png"), folder.path().join(format!("{i}.png"))).unwrap();
    }
    let mut child = Command::new(cargo_bin!("jobctl"))
        .args(["score", "--json", "--metric", "glcm_score,compression_ratio:*"])
        .arg(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}

#[test]
fn a_full_disk_is_an_error() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let folder = copy(&["64x64.png"]);
    let output = Command::new(cargo_bin!("jobctl"))
        .args(["score", "--json", "--metric", "compression_ratio"])
        .arg(folder.path())
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("standard output"));
}

#[test]
fn people_get_a_table_and_the_faults_beside_it() {
    let folder = copy(&["64x64.png", "63x64.png", "empty.jpg"]);
    let output = jobctl().args(["score", "--metric", "glcm_score"]).arg(folder.path()).output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(1));
    assert!(out.contains("64x64.png") && out.contains("glcm_score:authors") && out.contains("undefined"), "{out}");
    assert!(err.contains("empty.jpg: the file is empty"), "{err}");
}

#[test]
fn a_folder_that_links_to_itself_is_searched_once() {
    let folder = copy(&["64x64.png"]);
    std::os::unix::fs::symlink(folder.path(), folder.path().join("loop")).unwrap();
    let lines = score(&[&"compression_ratio", &folder.path()], 1);
    let loops = lines.iter().filter(|it| it["error"].is_string()).count();
    assert_eq!((loops, lines.len()), (1, 3));
    assert!(Path::new(lines[0]["path"].as_str().unwrap()).starts_with(folder.path()));
}

#[test]
fn aesthetics_are_scored_by_the_network_that_is_named() {
    let expected: Value = golden_json("clip/expected.json");
    let folder = copy(&["64x64.png", "plain.jpg", "truncated.png"]);
    let network = format!("aesthetics={}", golden("clip/whole").display());
    let lines = score(&[&"glcm_score,aesthetics", &folder.path(), &"--network", &network], 1);
    for name in ["64x64.png", "plain.jpg"] {
        let mut of_picture = lines.iter().filter(|it| it["path"].as_str().is_some_and(|it| it.ends_with(name)));
        assert_eq!(of_picture.next().unwrap()["metric"], "glcm_score");
        let line = of_picture.next().unwrap();
        assert_eq!(
            (&line["metric"], &line["variant"], &line["version"]),
            (&"aesthetics".into(), &"laion".into(), &1.into())
        );
        let wanted = expected["whole"][name]["score"].as_f64().unwrap();
        assert!((line["value"].as_f64().unwrap() - wanted).abs() < 1e-4, "{line} {wanted}");
    }
    assert!(line(&lines, "path", "truncated.png")["error"].is_string());
    let set = lines.last().unwrap();
    assert_eq!((&set["metric"], &set["n"]), (&"aesthetics".into(), &2.into()));
}

#[test]
fn a_network_that_is_not_there_or_another_one_is_told() {
    let folder = copy(&["64x64.png"]);
    let check = |arguments: &[&str], status: i32, words: &[&str]| {
        let mut command = jobctl();
        command.args(["score", "--metric"]).args(arguments).arg(folder.path());
        let output = command.env("HF_HUB_OFFLINE", "1").env("HF_HOME", folder.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{said}");
        assert!(output.stdout.is_empty() && words.iter().all(|it| said.contains(it)), "{words:?}: {said}");
    };
    check(&["aesthetics"], 1, &["--network aesthetics=PACKAGE", "openai/clip-vit-large-patch14", "HF_HUB_OFFLINE"]);
    let pipeline = format!("aesthetics={}", golden("sd3/tiny").display());
    check(&["aesthetics", "--network", &pipeline], 1, &["no config.json", "the package of a pipeline"]);
    check(&["aesthetics", "--network", "aesthetics=/nowhere"], 1, &["`/nowhere` is neither a folder here"]);
    check(&["psnr:*,aesthetics", "--network", "aesthetics=x"], 2, &["--reference"]);
    check(&["glcm_score", "--network", "aesthetics=x"], 2, &["not asked for by --metric"]);
    check(&["aesthetics", "--network", "beauty=x"], 2, &["`beauty` is no metric"]);
    check(&["aesthetics", "--network", "x"], 2, &["METRIC=PACKAGE"]);
    let tiny = format!("aesthetics={}", golden("clip/whole").display());
    check(&["aesthetics", "--network", &tiny, "--device", "tpu"], 1, &["`tpu` is no device"]);
}
