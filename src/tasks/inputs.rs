//! What the agent looked up for a task: files, artifacts, packages, scores, and where results may be put.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use serde::{Deserialize, Serialize};

use super::TaskError;
use crate::job::outcome::PoolInput;
use crate::job::task::making::Part;
use crate::job::{Hash, JobId};

/// What the agent looked up for a task.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Inputs {
    /// Where files and artifacts were seen; any of them may be gone or changed.
    pub files: Vec<FileAt>,
    /// The scores that a pool is computed from.
    pub scores: Vec<PoolInput>,
    /// Where the part of a package was seen that the task loads.
    pub parts: Vec<PartFolder>,
    /// What opens a package on the hub, where one must be downloaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hub_token: Option<HubToken>,
    /// The folder for what the task makes.
    pub scratch: OsString,
    /// Which attempt this is, from 1; one that was given back uncharged counts again.
    #[serde(default)]
    pub attempt: u32,
    /// The attempt's number among all attempts of all jobs.
    #[serde(default)]
    pub lease: i64,
    /// What earlier attempts have saved, the newest first.
    #[serde(default)]
    pub saved: Vec<Saved>,
}

/// A checkpoint that an earlier attempt has saved.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Saved {
    /// The file; it is the store's, and not to be changed.
    pub path: OsString,
    /// The hash of its bytes.
    pub content: Hash,
    /// How many steps were done.
    pub step: u64,
    /// What the task wanted to know.
    pub meta: serde_json::Value,
}

impl Saved {
    /// Whether its file is there and whole; what is wrong with it is said on standard error.
    pub fn is_whole(&self) -> bool {
        let path = Path::new(&self.path);
        match hash(path) {
            Ok(hash) if hash == self.content => return true,
            Ok(_) => eprintln!("the checkpoint of step {} is damaged: {}", self.step, path.display()),
            Err(error) => eprintln!("cannot read the checkpoint of step {}: {}: {error}", self.step, path.display()),
        }
        false
    }
}

/// A token of the Hugging Face hub, which goes through the pipe to the slot and is never shown.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HubToken(pub String);

impl std::fmt::Debug for HubToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// Where a file was seen.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FileAt {
    /// What the task calls it: the hash of its bytes, or the key of the job that made it.
    pub of: Hash,
    /// The hash of its bytes.
    pub content: Hash,
    /// Where.
    pub path: OsString,
    /// The job that made it; none for files that people have.
    pub job: Option<JobId>,
}

/// Where a part of a package was seen.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PartFolder {
    /// The package's folder.
    pub root: OsString,
    /// Its name in the sweep.
    pub name: String,
    /// Which part.
    pub part: Part,
}

impl Inputs {
    /// The bytes of what the task calls `of`, from the first place that still holds them.
    ///
    /// # Errors
    /// No place holds them: the machine's fault where they are gone, the task's where a person has changed them.
    pub fn read(&self, of: &Hash) -> Result<Vec<u8>, TaskError> {
        let mut last = None;
        for it in self.files.iter().filter(|it| it.of == *of) {
            let path = Path::new(&it.path);
            let again = it.job.map(|job| format!("job {job} made it: `jobctl retry {job}` makes it again"));
            match fs::read(path) {
                Ok(bytes) if Hash::of(&bytes) == it.content => return Ok(bytes),
                Ok(_) => {
                    let path = path.display();
                    last = Some(TaskError::Fatal(match again {
                        None => anyhow!("{path} has changed since it was enqueued; enqueue the sweep again"),
                        Some(again) => anyhow!("the artifact {path} is damaged; {again}"),
                    }));
                }
                Err(error) => {
                    let is_away = it.job.is_none() && error.kind() == std::io::ErrorKind::NotFound;
                    let mut error = anyhow::Error::new(error).context(format!("read {}", path.display()));
                    if is_away {
                        let help = "the file is not on this machine and no copy of it is in the store, where \
                                    `jobctl enqueue --upload` puts one";
                        error = error.context(help);
                    }
                    last = Some(TaskError::Retry(again.into_iter().fold(error, anyhow::Error::context)));
                }
            }
        }
        Err(last.unwrap_or_else(|| TaskError::Retry(anyhow!("no file with the content {of} is known"))))
    }

    /// The file that the job of this key has made, every byte of which is what it was: for what is too large to be read
    /// at once.
    ///
    /// # Errors
    /// It is gone or damaged.
    pub fn path(&self, of: &Hash) -> Result<PathBuf, TaskError> {
        let mut last = None;
        for it in self.files.iter().filter(|it| it.of == *of) {
            let path = PathBuf::from(&it.path);
            let again = it.job.map_or_else(String::new, |job| format!("; `jobctl retry {job}` makes it again"));
            match hash(&path) {
                Ok(found) if found == it.content => return Ok(path),
                Ok(_) => {
                    last = Some(TaskError::Fatal(anyhow!("the artifact {} is damaged{again}", path.display())));
                }
                Err(error) => {
                    last = Some(TaskError::Retry(anyhow!(error).context(format!("read {}{again}", path.display()))));
                }
            }
        }
        Err(last.unwrap_or_else(|| TaskError::Retry(anyhow!("nothing that the job of key {of} has made is known"))))
    }

    /// The newest checkpoint whose file is there and whole. What is passed over is said on standard error.
    pub fn resume(&self) -> Option<&Saved> {
        self.saved.iter().find(|it| it.is_whole())
    }

    /// Writes what the task made to a file of its own and returns its path.
    ///
    /// # Errors
    /// The disk is full, say.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, TaskError> {
        let path = Path::new(&self.scratch).join(name);
        let written = fs::create_dir_all(&self.scratch).and_then(|()| fs::write(&path, bytes));
        written.with_context(|| format!("write {}", path.display())).map_err(TaskError::Retry)?;
        Ok(path)
    }
}

/// The hash of a file's bytes, which need not fit in memory.
fn hash(path: &Path) -> std::io::Result<Hash> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(fs::File::open(path)?)?;
    Ok(Hash(*hasher.finalize().as_bytes()))
}
