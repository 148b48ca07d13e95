//! Files of one commit on the hub, downloaded whole and checked: what is interrupted goes on where it stopped.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use hf_hub::api::Progress;
use hf_hub::api::sync::{ApiError, ApiRepo};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::Name;

/// How often a file is tried whose download breaks off.
const N_TRIES: u32 = 4;
/// The wait before the second try; it doubles with each.
const FIRST_WAIT: Duration = Duration::from_millis(250);

/// Why nothing was downloaded.
#[derive(Debug)]
pub enum Fault {
    /// The hub cannot be reached, or not now.
    Unreachable(anyhow::Error),
    /// Anything else.
    Other(anyhow::Error),
}

impl From<anyhow::Error> for Fault {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

/// What a commit holds.
#[derive(Deserialize)]
pub struct Listing {
    /// Its hash.
    #[serde(rename = "sha")]
    pub commit: String,
    siblings: Vec<Sibling>,
}

/// One of its files.
#[derive(Clone, Deserialize)]
struct Sibling {
    #[serde(rename = "rfilename")]
    path: String,
    size: Option<u64>,
    lfs: Option<Lfs>,
}

/// What is known of a large one.
#[derive(Clone, Deserialize)]
struct Lfs {
    sha256: Option<String>,
    size: Option<u64>,
}

/// What stands for a revision at the moment.
pub fn list(repo: &ApiRepo, wanted: &Name, endpoint: &str, has_token: bool) -> Result<Listing, Fault> {
    let request = repo.info_request().query("blobs", "true");
    let answer = request.call().map_err(|it| it.to_string());
    let mut answer = answer.map_err(|error| explain(&error, wanted, endpoint, has_token))?;
    // The listing of a repository with thousands of files takes more than the client's default of 10 MB.
    let text = answer.body_mut().with_config().limit(100 << 20).read_to_string();
    let text = text.map_err(|it| Fault::Unreachable(anyhow!("{endpoint}: {it}")))?;
    Ok(serde_json::from_str(&text).with_context(|| format!("{endpoint} lists no files of {}", wanted.id))?)
}

/// What a refused request means to who asked.
fn explain(error: &str, wanted: &Name, endpoint: &str, has_token: bool) -> Fault {
    let Name { id, revision } = wanted;
    let page = format!("{endpoint}/{id}");
    match status(error) {
        // The hub answers 401 to strangers who ask for what does not exist, too.
        Some(401) if !has_token => Fault::Other(anyhow!(
            "there is no public {id}. Check the name; if its access is restricted, accept its licence at {page} and \
             set HF_TOKEN"
        )),
        Some(401 | 403) => Fault::Other(anyhow!(
            "access to {id} is refused: accept its licence at {page}, and set HF_TOKEN to a token that may read it"
        )),
        Some(404) => Fault::Other(anyhow!("{endpoint} has no {id} with a revision `{revision}`: check the name")),
        Some(429) => Fault::Unreachable(anyhow!("{endpoint} asks to wait (429): try again later, or set HF_TOKEN")),
        _ => Fault::Unreachable(anyhow!(
            "{endpoint} cannot be reached ({error}): check the network, or HF_ENDPOINT; a folder with the package does \
             as well as its name"
        )),
    }
}

/// The HTTP status in an error's text, which is all that the client's errors let others see.
fn status(error: &str) -> Option<u16> {
    let (_, code) = error.split_once("http status: ")?;
    code.get(..3)?.parse().ok()
}

/// The files of a commit, there and here.
pub struct Remote {
    repo: ApiRepo,
    /// The package's folder in the cache.
    folder: PathBuf,
    /// Where the commit's files come to lie.
    pub snapshot: PathBuf,
    /// What the commit holds.
    pub listing: Listing,
}

impl Remote {
    pub fn new(repo: ApiRepo, folder: PathBuf, snapshot: PathBuf, listing: Listing) -> Self {
        Self { repo, folder, snapshot, listing }
    }

    /// Whether the commit has a file.
    pub fn has(&self, path: &str) -> bool {
        self.listing.siblings.iter().any(|it| it.path == path)
    }

    /// Downloads those of the files that are not here yet.
    pub fn fetch(&self, paths: &[String]) -> Result<(), Fault> {
        let by_path: BTreeMap<&str, &Sibling> = self.listing.siblings.iter().map(|it| (it.path.as_str(), it)).collect();
        let mut missing = Vec::new();
        for path in paths {
            let file = by_path.get(path.as_str()).with_context(|| format!("the package has no {path}"))?;
            if !self.snapshot.join(path).exists() {
                missing.push(*file);
            }
        }
        let n_bytes = missing.iter().filter_map(|it| it.len()).sum();
        let bar = ProgressBar::new(n_bytes);
        let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
        bar.set_style(style.expect("the template is right"));
        for file in missing {
            self.fetch_one(file, &bar)?;
        }
        bar.finish_and_clear();
        Ok(())
    }

    fn fetch_one(&self, file: &Sibling, bar: &ProgressBar) -> Result<(), Fault> {
        let start = bar.position();
        let mut wait = FIRST_WAIT;
        for n_try in 1.. {
            let fault = match self.try_one(file, Bar { bar, start }) {
                Ok(()) => break,
                Err(fault) => fault,
            };
            let Fault::Unreachable(error) = fault else { return Err(fault) };
            if n_try == N_TRIES {
                return Err(Fault::Unreachable(error.context(format!(
                    "{} broke off {N_TRIES} times: run it again, and it goes on where it stopped",
                    file.path
                ))));
            }
            tracing::warn!("{}: {error:#}; trying again", file.path);
            std::thread::sleep(wait);
            wait *= 2;
        }
        bar.set_position(start + file.len().unwrap_or(0));
        Ok(())
    }

    fn try_one(&self, file: &Sibling, bar: Bar) -> Result<(), Fault> {
        let path = self.repo.download_with_progress(&file.path, bar).map_err(|error| self.fault(file, error))?;
        let whole = check(file, &path);
        if let Err(error) = whole {
            // The link goes before the file that it names, so that no broken link stays.
            let blob = fs::canonicalize(&path).map_err(anyhow::Error::from)?;
            fs::remove_file(&path).and_then(|()| fs::remove_file(blob)).map_err(anyhow::Error::from)?;
            return Err(Fault::Unreachable(error));
        }
        Ok(())
    }

    /// What a failed download means; a part that cannot go on is taken away, so that the next try starts anew.
    fn fault(&self, file: &Sibling, error: ApiError) -> Fault {
        let text = error.to_string();
        match (&error, status(&text)) {
            // More bytes are here than there are there, or all of them, and no checksum was looked at.
            (ApiError::InvalidResume, _) | (_, Some(416)) => {
                self.drop_parts();
                Fault::Unreachable(anyhow!(error))
            }
            (_, Some(401 | 403)) => Fault::Other(anyhow!(
                "access to {} is refused: accept the package's licence on its page, and set HF_TOKEN to a token that \
                 may read it",
                file.path
            )),
            (_, Some(code @ 400..=499)) if code != 408 && code != 429 => Fault::Other(anyhow!("{}: {text}", file.path)),
            (ApiError::IoError(error), _)
                if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::PermissionDenied) =>
            {
                Fault::Other(anyhow!("{}: {text}; the cache is {}", file.path, self.folder.display()))
            }
            (ApiError::RequestError(_) | ApiError::IoError(_) | ApiError::LockAcquisition(_), _) => {
                Fault::Unreachable(anyhow!(error))
            }
            _ => Fault::Other(anyhow!(error)),
        }
    }

    /// Takes away the beginnings of files; only this process downloads the package.
    fn drop_parts(&self) {
        let entries = fs::read_dir(self.folder.join("blobs")).into_iter().flatten().flatten();
        for path in entries.map(|it| it.path()).filter(|it| it.extension().is_some_and(|it| it == "part")) {
            let _ = fs::remove_file(path);
        }
    }
}

/// Whether a file is as the hub describes it.
fn check(file: &Sibling, path: &Path) -> anyhow::Result<()> {
    let found = fs::metadata(path)?.len();
    if let Some(wanted) = file.len() {
        anyhow::ensure!(found == wanted, "{found} bytes came, {wanted} were announced");
    }
    let Some(wanted) = file.lfs.as_ref().and_then(|it| it.sha256.as_ref()) else { return Ok(()) };
    let mut hasher = Sha256::new();
    io::copy(&mut File::open(path)?, &mut Sink(&mut hasher))?;
    let found: String = hasher.finalize().iter().map(|it| format!("{it:02x}")).collect();
    anyhow::ensure!(&found == wanted, "its SHA-256 is {found}, that of the hub's is {wanted}");
    Ok(())
}

impl Sibling {
    fn len(&self) -> Option<u64> {
        self.lfs.as_ref().and_then(|it| it.size).or(self.size)
    }
}

/// Hashes what is written to it.
struct Sink<'a>(&'a mut Sha256);

impl io::Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One bar for all files.
struct Bar<'a> {
    bar: &'a ProgressBar,
    /// Where this file begins.
    start: u64,
}

impl Progress for Bar<'_> {
    fn init(&mut self, _size: usize, path: &str) {
        self.bar.set_message(path.to_owned());
        self.bar.set_position(self.start);
    }

    fn update(&mut self, n_bytes: usize) {
        self.bar.inc(n_bytes as u64);
    }

    fn finish(&mut self) {}
}
