//! The analysed value is pinned; the page is opened in a browser.

mod findings;

use std::path::{Path, PathBuf};

use jobctl::report::{self, Options};
use serde_json::Value;

use findings::findings;

/// A new, empty folder under the build's own temporary one, where a person can look at what a test left.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report").join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn the_page_has_everything_and_stays_small() {
    let folder = folder("page");
    let findings = findings(&folder);
    let start = std::time::Instant::now();
    let written = report::write(&findings, &folder, &Options::default()).unwrap();
    println!("written in {:?}", start.elapsed());
    let page = std::fs::read_to_string(&written.html).unwrap();
    assert!(page.len() < 10_000_000, "{} bytes", page.len());
    let json: Value = serde_json::from_slice(&std::fs::read(&written.json).unwrap()).unwrap();
    assert_eq!(json["run"]["sweep"], "demo-3f9a2c01");
}
