//! Fine-tuning as jobs: with a tiny package, real pictures on disk, real workers.

mod faults;
mod package;
mod runs;
mod sweeps;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::database::Database;
use crate::support::golden;
use crate::support::pictures::pictures_of;

/// Far more than anything here takes.
const LONG: Duration = Duration::from_secs(240);

/// A Stable Diffusion 3 of some hundred kilobytes, random, its autoencoder of factor 16.
fn tiny() -> PathBuf {
    golden("sd3/tiny")
}

/// Makes `n` pictures of 128×96 with captions in `folder` under the test's home.
fn dataset(db: &Database, folder: &str, n: u32) -> PathBuf {
    let folder = db.home.path().join(folder);
    let paths = pictures_of(&folder, n, 128, 96);
    let line = |(idx, path): (usize, &PathBuf)| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        format!("{}\n", serde_json::json!({"file_name": name, "text": format!("waves of kind {idx}")}))
    };
    let lines: String = paths.iter().enumerate().map(line).collect();
    fs::write(folder.join("metadata.jsonl"), lines).unwrap();
    folder
}

/// What every block here says beside its own keys: short runs in f32.
const SHORT: &str = "batch = 2\naccumulate = 1\nlearning_rate = 1e-3\nsize = 96\nlook_levels = 2\ndtype = \"f32\"";

/// A `[[finetune]]` block of the tiny package's denoiser.
fn block(name: &str, data: &Path, keys: &str) -> String {
    let model = tiny();
    format!("[[finetune]]\nname = \"{name}\"\nmodel = {model:?}\ndata = {data:?}\nt5_tokens = 16\n{SHORT}\n{keys}\n\n")
}

/// Writes a sweep of these blocks as `NAME.toml`.
fn sweep(db: &Database, name: &str, blocks: &str) -> PathBuf {
    let path = db.home.path().join(format!("{name}.toml"));
    fs::write(&path, format!("name = \"{name}\"\n\n{blocks}")).unwrap();
    path
}

impl Database {
    /// The points of a curve of a model.
    async fn curve(&self, model: &str, curve: &str) -> Vec<(i64, f64)> {
        sqlx::query_as("select step, value from training_curve where model = $1 and curve = $2 order by step")
            .bind(model)
            .bind(curve)
            .fetch_all(&self.pool)
            .await
            .unwrap()
    }

    /// The file of a model's trained part.
    async fn artifact_of(&self, model: &str) -> PathBuf {
        let parts = self.trained().await;
        let hash = &parts.iter().find(|it| it.0 == model).unwrap().1;
        self.home.path().join("artifacts").join(&hash[..2]).join(hash)
    }

    /// The hash of the trained part of each model, by name.
    async fn trained(&self) -> Vec<(String, String)> {
        sqlx::query_as(
            "select training.name, encode(artifact, 'hex')
            from training join job_output on job_output.key = training.key order by 1",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap()
    }
}
