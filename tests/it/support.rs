//! What several tests need: the photographs, the golden files, the program.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

pub mod certificates;
pub mod database;
pub mod diagnosed;
pub mod graph;
pub mod pictures;
pub mod process;
pub mod s3;
pub mod smtp;

/// The checkout.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file beside the golden numbers.
pub fn golden(name: &str) -> PathBuf {
    root().join("tests/golden").join(name)
}

/// A golden table.
pub fn golden_json(name: &str) -> serde_json::Value {
    serde_json::from_str(&fs::read_to_string(golden(name)).unwrap()).unwrap()
}

/// The program under test.
pub fn jobctl() -> assert_cmd::Command {
    assert_cmd::Command::new(assert_cmd::cargo::cargo_bin!("jobctl"))
}

/// The folder of the 14 photographs, fetched once whichever test asks first.
///
/// # Panics
/// When they cannot be had: a test that needs them must fail, never skip.
pub fn photos() -> PathBuf {
    let home = root().join(".jobctl");
    fs::create_dir_all(&home).unwrap();
    let lock = File::create(home.join("photos.lock")).unwrap();
    lock.lock().unwrap();
    let folder = home.join("photos");
    let script = Command::new(root().join("jobs/photos.sh")).arg(&folder).output().unwrap();
    assert!(script.status.success(), "jobs/photos.sh: {}", String::from_utf8_lossy(&script.stderr));
    folder
}

/// The photographs, sorted by name.
pub fn photo_files() -> Vec<PathBuf> {
    let entries = fs::read_dir(photos()).unwrap().map(|it| it.unwrap().path());
    let mut files: Vec<_> = entries.filter(|it| it.extension().is_some_and(|it| it == "jpg")).collect();
    files.sort();
    assert_eq!(files.len(), 14);
    files
}

/// Waits until `condition` holds, looking every 20 ms.
///
/// # Panics
/// When it does not hold within `limit`; `what` says what was waited for.
pub async fn wait_until(what: &str, limit: Duration, mut condition: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
