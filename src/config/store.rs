//! Where artifacts are kept: a folder, or a bucket of an S3-compatible store.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

use super::Secret;

/// How much of a remote store is kept on this machine, in GiB, unless `JOBCTL_CACHE_GIB` says otherwise.
const CACHE_GIB: f64 = 20.0;

/// Where artifacts are kept, and how they are reached.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// `JOBCTL_STORE`: a folder or `s3://BUCKET/PREFIX`; unset means `artifacts` under `$JOBCTL_HOME`.
    pub place: StorePlace,
    /// The `AWS_…` variables, which say how S3 is reached, by name.
    pub aws: Vec<(String, Secret)>,
    /// `AWS_CA_BUNDLE`: a PEM file of certificates that are trusted beside the system's.
    pub ca: Option<PathBuf>,
    /// The folder for what is being made and is no artifact yet: on the store's disk where there is one.
    pub scratch: PathBuf,
    /// The folder of copies of what lies in S3: `$JOBCTL_HOME/cache`.
    pub cache: PathBuf,
    /// The most bytes of it: `JOBCTL_CACHE_GIB`.
    pub cache_bytes: u64,
}

/// A folder or a bucket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StorePlace {
    /// A folder, on a disk of this machine or one that several share.
    Folder(PathBuf),
    /// A bucket of an S3-compatible store.
    S3 {
        /// Its name.
        bucket: String,
        /// What names of artifacts begin with, without a slash at its ends; may be empty.
        prefix: String,
    },
}

impl fmt::Display for StorePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(f),
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

impl StorePlace {
    /// Reads `text`: `s3://BUCKET`, `s3://BUCKET/PREFIX`, `file:///FOLDER` or a folder.
    ///
    /// # Errors
    /// An address of another kind, without a bucket, or with a key in it.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let Some((scheme, rest)) = text.split_once("://") else { return Ok(Self::Folder(PathBuf::from(text))) };
        // Nothing of the text is shown where it may hold a key.
        ensure!(!rest.contains('@'), "JOBCTL_STORE takes no key: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY");
        match scheme {
            "file" => {
                ensure!(rest.starts_with('/'), "JOBCTL_STORE: `{text}` names no folder; it is file:///FOLDER");
                Ok(Self::Folder(PathBuf::from(rest)))
            }
            "s3" => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                let prefix = prefix.trim_matches('/').to_owned();
                let is_plain = |it: char| it.is_ascii_alphanumeric() || "-_.".contains(it);
                ensure!(
                    !bucket.is_empty() && bucket.chars().all(is_plain),
                    "JOBCTL_STORE: `{text}` names no bucket; it is s3://BUCKET/PREFIX"
                );
                let is_word = |it: &str| !it.is_empty() && it != "." && it != ".." && it.chars().all(is_plain);
                ensure!(
                    prefix.is_empty() || prefix.split('/').all(is_word),
                    "JOBCTL_STORE: the prefix `{prefix}` may hold letters, digits, `-`, `_`, `.` and single slashes alone"
                );
                Ok(Self::S3 { bucket: bucket.to_owned(), prefix })
            }
            other => bail!("JOBCTL_STORE: `{other}://` is not known: it takes a folder or s3://BUCKET/PREFIX"),
        }
    }
}

impl StoreSettings {
    /// The folder of artifacts under `home`.
    pub fn under(home: &Path) -> Self {
        Self {
            place: StorePlace::Folder(home.join("artifacts")),
            aws: Vec::new(),
            ca: None,
            scratch: home.join("artifacts/scratch"),
            cache: home.join("cache"),
            cache_bytes: bytes(CACHE_GIB),
        }
    }

    /// As the environment says; `variable` reads it, `aws` are its variables of that prefix.
    ///
    /// # Errors
    /// A place that is none, or a size that is no number.
    pub(super) fn from_env(
        home: &Path,
        variable: impl Fn(&str) -> Option<String>,
        aws: Vec<(String, Secret)>,
    ) -> anyhow::Result<Self> {
        let mut settings = Self::under(home);
        if let Some(text) = variable("JOBCTL_STORE") {
            settings.place = StorePlace::parse(&text)?;
            settings.scratch = match &settings.place {
                // There, storing a file is giving it its name.
                StorePlace::Folder(root) => root.join("scratch"),
                StorePlace::S3 { .. } => home.join("scratch"),
            };
        }
        if let Some(text) = variable("JOBCTL_CACHE_GIB") {
            let gib: f64 = text.parse().with_context(|| format!("JOBCTL_CACHE_GIB is `{text}`, not a number"))?;
            ensure!(gib.is_finite() && gib > 0.0, "JOBCTL_CACHE_GIB must be above 0");
            settings.cache_bytes = bytes(gib);
        }
        settings.ca = variable("AWS_CA_BUNDLE").map(PathBuf::from);
        settings.aws = aws;
        Ok(settings)
    }

    /// Whether other machines reach it as this one does.
    pub fn is_remote(&self) -> bool {
        matches!(self.place, StorePlace::S3 { .. })
    }
}

fn bytes(gib: f64) -> u64 {
    (gib * 1024.0 * 1024.0 * 1024.0) as u64
}

#[cfg(test)]
mod tests {
    use super::StorePlace;

    #[test]
    fn a_place_is_a_folder_or_a_bucket() {
        let s3 = |bucket: &str, prefix: &str| StorePlace::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() };
        assert_eq!(StorePlace::parse("s3://b").unwrap(), s3("b", ""));
        assert_eq!(StorePlace::parse("s3://b/a/c/").unwrap(), s3("b", "a/c"));
        assert_eq!(StorePlace::parse("/x/y").unwrap(), StorePlace::Folder("/x/y".into()));
        assert_eq!(StorePlace::parse("file:///x").unwrap(), StorePlace::Folder("/x".into()));
    }

    #[test]
    fn what_is_no_place_is_refused_and_a_key_is_not_repeated() {
        for text in ["s3://", "s3:///x", "gs://b", "s3://b/../c", "s3://b/a//c", "s3://b/\u{1b}[2J", "file://x"] {
            let error = StorePlace::parse(text).unwrap_err().to_string();
            assert!(error.contains("JOBCTL_STORE"), "{text}: {error}");
        }
        let error = format!("{:#}", StorePlace::parse("s3://key:planted@bucket").unwrap_err());
        assert!(!error.contains("planted") && error.contains("AWS_SECRET_ACCESS_KEY"), "{error}");
    }
}
