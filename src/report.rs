//! Reports: findings analysed to one plain value, and that value as a page that needs nothing else.

mod analysis;
mod comparison;
mod conclusions;
pub mod definition;
mod efforts;
mod entrants;
mod format;
mod gallery;
pub mod history;
mod ladders;
pub mod merge;
mod opinions;
mod page;
mod paper;
mod plot;
mod relation;
mod sets;
mod sizes;
mod table;
mod training;
mod unpaired;
pub mod view;

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use askama::Template as _;

pub use self::analysis::analyse;
pub use self::view::Report;
use crate::store::findings::Findings;

/// Where the pictures of a report are read from, by the paths that the findings give.
pub trait Files: Sync {
    /// The bytes of a file.
    ///
    /// # Errors
    /// It cannot be had.
    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>>;
}

/// The disks of this machine.
#[derive(Clone, Copy, Debug)]
pub struct Disks;

impl Files for Disks {
    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        std::fs::read(path)
    }
}

/// How much a report may show.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The page's limit in bytes. What the gallery may use is what the rest leaves of it.
    pub max_bytes: usize,
    /// At most so many samples in the gallery.
    pub max_samples: usize,
    /// Side of a detail in pixels.
    pub detail: u32,
    /// Longer side of a whole picture's small copy, in pixels.
    pub thumbnail: u32,
    /// Files with more pixels are not opened for the gallery.
    pub max_pixels: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { max_bytes: 10_000_000, max_samples: 6, detail: 192, thumbnail: 360, max_pixels: 1 << 26 }
    }
}

/// Where a report was written.
#[derive(Clone, Debug)]
pub struct Written {
    /// The page.
    pub html: PathBuf,
    /// The analysed value.
    pub json: PathBuf,
}

/// Writes `report.html` and `report.json` into `directory`, which is made if need be.
/// A reader sees either the files that were there before or the whole new ones.
///
/// # Errors
/// When the directory cannot be made or written to.
pub fn write(findings: &Findings, directory: &Path, options: &Options) -> anyhow::Result<Written> {
    write_from(findings, directory, options, &Disks)
}

/// As [`write`], with pictures from elsewhere.
///
/// # Errors
/// When the directory cannot be made or written to. A picture that cannot be had is said in the report.
pub fn write_from(
    findings: &Findings,
    directory: &Path,
    options: &Options,
    files: &dyn Files,
) -> anyhow::Result<Written> {
    write_report(&analyse(findings), findings, directory, options, files)
}

/// As [`write_from`], with the night against those before it.
///
/// # Errors
/// As [`write_from`].
pub fn write_night(
    findings: &Findings,
    nights: history::Nights,
    directory: &Path,
    options: &Options,
    files: &dyn Files,
) -> anyhow::Result<Written> {
    let report = Report { nights: Some(nights), ..analyse(findings) };
    write_report(&report, findings, directory, options, files)
}

/// As [`write_from`], of findings that have been analysed.
///
/// # Errors
/// As [`write_from`].
pub fn write_report(
    report: &Report,
    findings: &Findings,
    directory: &Path,
    options: &Options,
    files: &dyn Files,
) -> anyhow::Result<Written> {
    let page = render(report, findings, options, files)?;
    let json = serde_json::to_vec_pretty(report).context("report as JSON")?;

    std::fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    let written = Written { html: directory.join("report.html"), json: directory.join("report.json") };
    replace(&written.json, directory, &json)?;
    replace(&written.html, directory, page.as_bytes())?;
    Ok(written)
}

/// The page, with as many pictures as its limit allows.
fn render(report: &Report, findings: &Findings, options: &Options, files: &dyn Files) -> anyhow::Result<String> {
    let no_pictures = gallery::Gallery::default();
    let page = page::Page::of(report, &no_pictures);
    let n_without = page.render().context("render the report")?.len();
    // What the notes on what is left out may take.
    const SPARE: usize = 16 * 1024;
    let n_bytes = options.max_bytes.saturating_sub(n_without + SPARE);
    let gallery = gallery::gallery(report, findings, options, files, n_bytes);
    page.with(&gallery).render().context("render the report")
}

/// Writes a file beside a report, which a reader sees as it was or whole and new.
///
/// # Errors
/// When the directory cannot be made or written to.
pub fn write_file(directory: &Path, name: &str, bytes: &[u8]) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    let path = directory.join(name);
    replace(&path, directory, bytes)?;
    Ok(path)
}

fn replace(path: &Path, directory: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let write = || -> anyhow::Result<()> {
        // As readable as any other new file: temporary files are private unless told otherwise.
        let anyone = std::fs::Permissions::from_mode(0o666);
        let mut file = tempfile::Builder::new().permissions(anyone).tempfile_in(directory)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("write {}", path.display()))
}
