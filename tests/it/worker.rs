//! Workers as real processes: what they finish, and what survives when they, their slots or Postgres die.

mod beats;
mod child;
mod death;
mod disk;
mod faults;
mod input;
mod orders;
mod rehearse;
mod together;
mod wake;

use std::path::PathBuf;
use std::time::Duration;

use crate::support::database::Database;
use crate::support::pictures::{pictures_of, sweep};

/// Far more than anything here takes.
const LONG: Duration = Duration::from_secs(90);

/// A sweep over `n` pictures that take some milliseconds each.
fn quick(db: &Database, n: u32) -> PathBuf {
    let folder = db.home.path().join("photos");
    pictures_of(&folder, n, 320, 240);
    sweep(&folder, "quick", "", &["glcm_score", "compression_ratio"])
}

/// A sweep over `n` pictures that take a second or more each.
fn slow(db: &Database, n: u32) -> PathBuf {
    let folder = db.home.path().join("photos");
    pictures_of(&folder, n, 3000, 3000);
    let ladder = "[[damage]]\nof = \"photos\"\nkind = \"noise\"\nsigma = [4]\nseed = 0";
    sweep(&folder, "slow", ladder, &["glcm_score", "glcm_texture", "compression_ratio", "psnr", "ssim"])
}

impl Database {
    fn enqueue(&self, sweep: &std::path::Path) {
        self.jobctl(["enqueue", sweep.to_str().unwrap()], 0);
    }

    async fn n_ended(&self) -> i64 {
        self.number("select count(*) from job_history").await
    }

    async fn n_running(&self) -> i64 {
        self.number("select count(*) from job where state = 'running'").await
    }

    /// Every job of the one sweep is done, every image has each of `n_metrics` scores once.
    async fn check_complete(&self, n_images: i64, n_metrics: i64) {
        self.check_laws().await;
        assert_eq!(self.number("select count(*) from job").await, 0, "unfinished jobs");
        assert_eq!(self.number("select count(*) from job_history where state <> 'done'").await, 0);
        assert_eq!(self.number("select count(*) from image").await, n_images);
        assert_eq!(self.number("select count(*) from score").await, n_images * n_metrics);
        let distinct =
            "select count(*) from (select distinct image_id, metric, variant, version, reference from score) as one";
        assert_eq!(self.number(distinct).await, n_images * n_metrics, "an image was scored twice");
        let done_twice = "select count(*) from (
            select job_id from attempt where outcome = 'done' group by job_id having count(*) > 1
        ) as twice";
        assert_eq!(self.number(done_twice).await, 0, "a job was done twice");
        assert_eq!(self.number("select count(*) from attempt where ended_at is null").await, 0);
    }
}
