//! Sweeps that make pictures, with a tiny package and real workers.

mod faults;
mod generate;
mod reconstruct;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jobctl::job::Hash;

use crate::support::database::Database;
use crate::support::golden;

/// Far more than anything here takes.
const LONG: Duration = Duration::from_secs(120);

/// A Stable Diffusion 3 of some hundred kilobytes, random, its autoencoder of factor 16.
fn tiny() -> PathBuf {
    golden("sd3/tiny")
}

/// A copy of [`tiny`] under the test's home, to be spoilt.
fn copy_of_tiny(db: &Database) -> PathBuf {
    let to = db.home.path().join("package");
    for entry in walkdir::WalkDir::new(tiny()).into_iter().map(Result::unwrap).filter(|it| it.file_type().is_file()) {
        let path = to.join(entry.path().strip_prefix(tiny()).unwrap());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(entry.path(), path).unwrap();
    }
    to
}

/// Writes a sweep of one `[[generate]]` block, f32, as `NAME.toml`; `keys` may say more.
fn generate(db: &Database, name: &str, model: &Path, keys: &str) -> PathBuf {
    let text = format!(
        "name = \"{name}\"\n\n[[generate]]\nname = \"tiny\"\nmodel = {model:?}\ndtype = \"f32\"\nt5_tokens = 16\n{keys}\n\n\
         [evaluate]\nmetrics = [\"glcm_score\", \"compression_ratio:file\"]\n"
    );
    let path = db.home.path().join(format!("{name}.toml"));
    fs::write(&path, text).unwrap();
    path
}

/// Two prompts and two seeds.
const FOUR: &str = "prompts = [\"a fox\", \"an owl\"]\nsize = \"96x64\"\nsteps = 4\nseed = [0, 1]";

impl Database {
    /// The pixels of every picture of the one sweep whose id begins with `name`, by source and sample.
    pub async fn pixels(&self, name: &'static str) -> Vec<(String, String, String)> {
        sqlx::query_as(
            "select source.name, cell.sample, encode(image.pixels, 'hex')
            from sweep
            join source on source.sweep_id = sweep.id
            join cell on cell.sweep_id = sweep.id and cell.source_idx = source.idx
            join image on image.picture = cell.picture
            where sweep.name = $1
            order by 1, 2",
        )
        .bind(name)
        .fetch_all(&self.pool)
        .await
        .unwrap()
    }

    /// The bytes of the artifact whose hash `query` gives, which must be there.
    async fn artifact(&self, query: &'static str) -> Vec<u8> {
        let hash = self.text(query).await;
        let path = self.home.path().join("artifacts").join(&hash[..2]).join(&hash);
        let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(Hash::of(&bytes).to_string(), hash);
        bytes
    }

    /// How many jobs of a kind are done.
    async fn n_done(&self, kind: &'static str) -> i64 {
        sqlx::query_scalar("select count(*) from job_history where kind = $1 and state = 'done'")
            .bind(kind)
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }
}
