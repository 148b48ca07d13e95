//! `jobctl dataset stats` as scripts and people see it.

use std::fs;
use std::path::Path;

use jobctl::image::{self, Rgb};
use serde_json::Value;

use crate::support::{golden, jobctl, photos};

fn stats(folder: &Path, status: i32) -> Vec<Value> {
    let output = jobctl().args(["dataset", "stats", "--json"]).arg(folder).output().unwrap();
    assert_eq!(output.status.code(), Some(status));
    String::from_utf8(output.stdout).unwrap().lines().map(|it| serde_json::from_str(it).unwrap()).collect()
}

#[test]
fn the_photographs_have_the_statistics_that_their_sizes_give() {
    let lines = stats(&photos(), 0);
    assert_eq!(lines.len(), 1);
    let line = &lines[0];
    assert_eq!((&line["n"], &line["unreadable"]), (&14.into(), &0.into()));
    // From the sizes that Pillow prints: tests/golden/images.json has them.
    let sizes = crate::support::golden_json("images.json")["photos"].clone();
    for side in ["height", "width"] {
        let mut values: Vec<f64> = sizes.as_object().unwrap().values().map(|it| it[side].as_f64().unwrap()).collect();
        values.sort_by(f64::total_cmp);
        assert_eq!(line[side]["median"], (values[6] + values[7]) / 2.0);
        assert!((line[side]["mean"].as_f64().unwrap() - values.iter().sum::<f64>() / 14.0).abs() < 1e-9);
        assert_eq!((line[side]["min"].as_f64(), line[side]["max"].as_f64()), (Some(values[0]), Some(values[13])));
        let bins = line["histograms"][side].as_array().unwrap();
        assert_eq!(bins.iter().map(|it| it["n"].as_u64().unwrap()).sum::<u64>(), 14);
    }
}

#[test]
fn sizes_are_those_after_the_turn_and_what_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["turned6.jpg", "turned6-after-pixels.png", "turned5.webp", "truncated-header.jpg", "text.jpg"] {
        fs::copy(golden("images").join(name), folder.path().join(name)).unwrap();
    }
    let lines = stats(folder.path(), 1);
    assert_eq!(lines.len(), 3);
    assert!(lines[0]["path"].as_str().unwrap().ends_with("text.jpg"));
    assert!(lines[1]["error"].as_str().unwrap().contains("truncated"));
    let line = &lines[2];
    assert_eq!((&line["n"], &line["unreadable"]), (&3.into(), &2.into()));
    assert_eq!((line["height"]["median"].as_f64(), line["width"]["median"].as_f64()), (Some(45.0), Some(29.0)));
}

#[test]
fn headers_are_enough_for_images_that_are_too_large_or_cut_off_later() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["40000.png", "40000.jpg", "truncated.jpg", "truncated.webp"] {
        fs::copy(golden("images").join(name), folder.path().join(name)).unwrap();
    }
    let lines = stats(folder.path(), 0);
    assert_eq!((&lines[0]["n"], &lines[0]["height"]["max"]), (&4.into(), &40000.into()));
    assert_eq!(lines[0]["histograms"]["megapixels"].as_array().unwrap().len(), 2);
}

#[test]
fn an_empty_or_missing_folder_is_a_fault() {
    let folder = tempfile::tempdir().unwrap();
    let lines = stats(folder.path(), 1);
    assert!(lines[0]["error"].as_str().unwrap().contains("no .jpg"));
    assert_eq!((&lines[1]["n"], lines[1].get("height")), (&0.into(), None));
    assert!(stats(&folder.path().join("gone"), 1)[0]["error"].as_str().unwrap().contains("No such file"));
}

#[test]
fn people_get_a_table_and_bars() {
    let folder = tempfile::tempdir().unwrap();
    for (i, width) in [100, 110, 160].into_iter().enumerate() {
        let bytes = image::png::encode(&Rgb::new(width, 100));
        fs::write(folder.path().join(format!("{i}.png")), bytes).unwrap();
    }
    let output = jobctl().args(["dataset", "stats", "--bin", "20"]).arg(folder.path()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap().replace(folder.path().to_str().unwrap(), "FOLDER");
    insta::assert_snapshot!(text, @"
    FOLDER: 3 images, 0 unreadable
    ┌────────┬────────┬──────┬───────┬──────────┐
    │        ┆ median ┆ mean ┆ least ┆ greatest │
    ╞════════╪════════╪══════╪═══════╪══════════╡
    │ height ┆    100 ┆  100 ┆   100 ┆      100 │
    │ width  ┆    110 ┆  123 ┆   100 ┆      160 │
    └────────┴────────┴──────┴───────┴──────────┘

    height
         100 to 120           3 ████████████████████████████████████████

    width
         100 to 120           2 ████████████████████████████████████████
         120 to 140           0
         140 to 160           0
         160 to 180           1 ████████████████████

    megapixels
           0 to 2             3 ████████████████████████████████████████

    aspect (width / height)
        1.00 to 1.25          2 ████████████████████████████████████████
        1.25 to 1.50          0
        1.50 to 1.75          1 ████████████████████
    ");
}
