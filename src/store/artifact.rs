//! Files in the store, named by the hash of their bytes: never changed, verified whenever they are read. Storing equal bytes
//! again writes them again, so that a damaged file gives way, and the sweep sees that somebody counts on them.
//!
//! The store is a folder or a bucket of S3. What lies in a bucket is copied to a folder of this machine before it is
//! read, and stays there as long as there is room.

mod cache;
mod fault;
mod folder;
mod remote;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use tokio::task::spawn_blocking;

use self::cache::Cache;
pub use self::fault::Fault;
use self::folder::Folder;
use self::remote::Remote;
use crate::config::StoreSettings;
use crate::job::Hash;

/// The store of artifacts.
#[derive(Clone, Debug)]
pub struct Artifacts {
    name: String,
    scratch: PathBuf,
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    Folder(Folder),
    Bucket { remote: Remote, cache: Arc<Cache> },
}

/// An artifact as a file of this machine. It stays as long as this lives.
#[derive(Debug)]
pub struct Fetched {
    /// Where it is.
    pub path: PathBuf,
    _copy: Option<cache::Copy>,
}

/// Something in the store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Listed {
    /// Its name.
    pub hash: Hash,
    /// Its length.
    pub n_bytes: u64,
    /// When it was written, by the store's clock, in ns since 1970: another number whenever it is stored anew.
    pub stamp: i64,
}

impl Artifacts {
    /// The artifacts in a folder, which is made when the first one comes.
    pub fn new(root: PathBuf) -> Self {
        Self {
            name: root.display().to_string(),
            scratch: root.join("scratch"),
            place: Place::Folder(Folder::new(root)),
        }
    }

    /// The store that the settings name. Nothing is asked of it yet.
    ///
    /// # Errors
    /// Settings that make no sense.
    pub fn open(settings: &StoreSettings) -> anyhow::Result<Self> {
        let name = settings.place.to_string();
        let place = match (&settings.place, Remote::of(settings).with_context(|| format!("the store {name}"))?) {
            (_, Some(remote)) => {
                Place::Bucket { remote, cache: Arc::new(Cache::new(settings.cache.clone(), settings.cache_bytes)) }
            }
            (crate::config::StorePlace::Folder(root), None) => Place::Folder(Folder::new(root.clone())),
            (crate::config::StorePlace::S3 { .. }, None) => unreachable!("a bucket is remote"),
        };
        Ok(Self { name, scratch: settings.scratch.clone(), place })
    }

    /// Its name for people: the folder, or the bucket and prefix.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether machines without a shared disk reach it.
    pub fn is_remote(&self) -> bool {
        matches!(self.place, Place::Bucket { .. })
    }

    /// Where on this machine the artifact of this hash is or would be: in the store's folder, or among the copies.
    pub fn path(&self, hash: &Hash) -> PathBuf {
        match &self.place {
            Place::Folder(folder) => folder.path(hash),
            Place::Bucket { cache, .. } => cache.path(hash),
        }
    }

    /// A folder for files that are not artifacts yet.
    pub fn scratch(&self) -> PathBuf {
        self.scratch.clone()
    }

    /// Makes the store's folder, so that a disk which is not mounted can be told from one that is empty.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn prepare(&self) -> anyhow::Result<()> {
        match &self.place {
            Place::Folder(folder) => folder.make().with_context(|| format!("make the store {}", self.name)),
            Place::Bucket { .. } => Ok(()),
        }
    }

    /// Stores bytes and returns their hash. Equal bytes are one file, written anew each time; a reader never sees half of it.
    ///
    /// # Errors
    /// The disk is full or may not be written, the store is out of reach.
    pub async fn put(&self, bytes: Vec<u8>) -> anyhow::Result<Hash> {
        let hash = Hash::of(&bytes);
        match &self.place {
            Place::Folder(folder) => {
                let folder = folder.clone();
                spawn_blocking(move || folder.put(&hash, &bytes)).await??;
            }
            Place::Bucket { remote, .. } => remote.put(&hash, bytes).await.with_context(|| self.storing())?,
        }
        Ok(hash)
    }

    /// Stores a file, which is gone afterwards, and returns the hash and number of its bytes. A large one is never in
    /// memory as a whole.
    ///
    /// # Errors
    /// It cannot be read, the disk is full or may not be written, the store is out of reach; the file is still there then.
    pub async fn take(&self, file: &Path) -> anyhow::Result<(Hash, u64)> {
        let path = file.to_owned();
        let (hash, n_bytes) =
            spawn_blocking(move || hash_of_file(&path)).await?.with_context(|| format!("read {}", file.display()))?;
        let path = file.to_owned();
        match &self.place {
            Place::Folder(folder) => {
                let folder = folder.clone();
                spawn_blocking(move || folder.take(&hash, &path)).await??;
            }
            Place::Bucket { remote, cache } => {
                remote.put_file(&hash, file).await.with_context(|| self.storing())?;
                // What was made here is likely to be read here next.
                let cache = cache.clone();
                let kept = spawn_blocking(move || -> std::io::Result<()> {
                    let draft = cache.draft(&hash)?;
                    std::fs::rename(&path, draft.path())
                        .or_else(|_| std::fs::copy(&path, draft.path()).and_then(|_| std::fs::remove_file(&path)))?;
                    // The draft's name is another file now.
                    let draft = tempfile::NamedTempFile::from_parts(File::open(draft.path())?, draft.into_temp_path());
                    cache.keep(&hash, draft).map(drop)
                });
                if let Err(error) = kept.await? {
                    tracing::warn!(error = %error, "cannot keep a copy of an artifact");
                    let _ = std::fs::remove_file(file);
                }
            }
        }
        Ok((hash, n_bytes))
    }

    /// Stores a copy of a person's file, which must have this hash.
    ///
    /// # Errors
    /// It has changed or cannot be read; else as [`take`](Self::take).
    pub async fn upload(&self, hash: &Hash, file: &Path) -> anyhow::Result<()> {
        match &self.place {
            Place::Folder(folder) => {
                let (folder, hash, file) = (folder.clone(), *hash, file.to_owned());
                spawn_blocking(move || folder.copy(&hash, &file)).await?
            }
            Place::Bucket { remote, .. } => remote.put_file(hash, file).await.with_context(|| self.storing()),
        }
    }

    fn storing(&self) -> String {
        format!("store an artifact in {}", self.name)
    }

    /// An artifact as a file of this machine, its bytes verified.
    ///
    /// # Errors
    /// It is not there, it is damaged, or the store is out of reach.
    pub async fn fetch(&self, hash: &Hash) -> Result<Fetched, Fault> {
        let (remote, cache) = match &self.place {
            Place::Folder(folder) => return self.fetch_local(folder, hash).await,
            Place::Bucket { remote, cache } => (remote, cache),
        };
        let unreachable = |source: anyhow::Error| self.unreachable(source);
        let (from, of) = (cache.clone(), *hash);
        let copy = spawn_blocking(move || from.get(&of)).await.map_err(|it| unreachable(it.into()))?;
        if let Some(copy) = copy.context("read the cache").map_err(unreachable)? {
            return Ok(Self::held(copy));
        }
        // What arrives damaged may be whole when it is asked for again.
        for _ in 0..2 {
            let mut draft = cache.draft(hash).context("write to the cache").map_err(unreachable)?;
            match remote.read(hash, Some(draft.as_file_mut())).await.map_err(unreachable)? {
                None => return Err(Fault::Missing { hash: *hash, store: self.name.clone() }),
                Some(found) if found == *hash => {
                    let (to, of) = (cache.clone(), *hash);
                    let kept =
                        spawn_blocking(move || to.keep(&of, draft)).await.map_err(|it| unreachable(it.into()))?;
                    let copy = kept.context("write to the cache").map_err(unreachable)?;
                    return Ok(Self::held(copy));
                }
                Some(_) => {}
            }
        }
        Err(Fault::Damaged { hash: *hash, store: self.name.clone() })
    }

    /// A copy that is held; slots may be in another folder than this process.
    fn held(copy: cache::Copy) -> Fetched {
        let path = std::path::absolute(&copy.path).unwrap_or_else(|_| copy.path.clone());
        Fetched { path, _copy: Some(copy) }
    }

    async fn fetch_local(&self, folder: &Folder, hash: &Hash) -> Result<Fetched, Fault> {
        let (folder, of) = (folder.clone(), *hash);
        let looked = spawn_blocking(move || {
            let path = folder.path(&of);
            match hash_of_file(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    // A disk that is not mounted says the same of every file.
                    if folder.is_there()? { Ok((path, None)) } else { Err(error) }
                }
                Err(error) => Err(error),
                Ok((found, _)) => Ok((path, Some(found == of))),
            }
        });
        let looked = looked.await.map_err(|it| self.unreachable(it.into()))?;
        let (path, is_good) = looked.map_err(|it| self.unreachable(anyhow::Error::new(it)))?;
        match is_good {
            Some(true) => Ok(Fetched { path: std::path::absolute(&path).unwrap_or(path), _copy: None }),
            Some(false) => Err(Fault::Damaged { hash: *hash, store: self.name.clone() }),
            None => Err(Fault::Missing { hash: *hash, store: self.name.clone() }),
        }
    }

    fn unreachable(&self, source: anyhow::Error) -> Fault {
        Fault::Unreachable { store: self.name.clone(), source }
    }

    /// The bytes of an artifact.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch).
    pub async fn get(&self, hash: &Hash) -> Result<Vec<u8>, Fault> {
        let fetched = self.fetch(hash).await?;
        let bytes = tokio::fs::read(&fetched.path).await.map_err(|it| self.unreachable(it.into()))?;
        if Hash::of(&bytes) == *hash {
            Ok(bytes)
        } else {
            Err(Fault::Damaged { hash: *hash, store: self.name.clone() })
        }
    }

    /// Reads an artifact where it lies, copies left aside, and returns what is wrong with it.
    ///
    /// # Errors
    /// The store is out of reach.
    pub async fn check(&self, hash: &Hash) -> Result<Option<Fault>, Fault> {
        let found = match &self.place {
            Place::Folder(folder) => match self.fetch_local(folder, hash).await {
                Ok(_) => return Ok(None),
                Err(fault) if fault.is_loss() => return Ok(Some(fault)),
                Err(fault) => return Err(fault),
            },
            Place::Bucket { remote, .. } => remote.read(hash, None).await.map_err(|it| self.unreachable(it))?,
        };
        Ok(match found {
            None => Some(Fault::Missing { hash: *hash, store: self.name.clone() }),
            Some(found) if found != *hash => Some(Fault::Damaged { hash: *hash, store: self.name.clone() }),
            Some(_) => None,
        })
    }

    /// Everything in the store.
    ///
    /// # Errors
    /// It is out of reach.
    pub async fn list(&self) -> anyhow::Result<Vec<Listed>> {
        match &self.place {
            Place::Folder(folder) => {
                let folder = folder.clone();
                spawn_blocking(move || folder.list()).await?
            }
            Place::Bucket { remote, .. } => {
                remote.list().await.with_context(|| format!("list the store {}", self.name))
            }
        }
    }

    /// Removes an artifact that nothing names, unless it was stored anew since it was listed. False if it was. Of a folder
    /// this is exact. A bucket is looked at just before; what is stored in between is lost, and made again when it is wanted.
    ///
    /// # Errors
    /// The store is out of reach, or does not let us.
    pub async fn remove_unless_renewed(&self, listed: &Listed) -> anyhow::Result<bool> {
        match &self.place {
            Place::Folder(folder) => {
                let (folder, listed) = (folder.clone(), *listed);
                spawn_blocking(move || folder.remove_unless_renewed(&listed)).await?
            }
            Place::Bucket { remote, .. } => {
                remote.remove_unless_renewed(listed).await.with_context(|| format!("remove from {}", self.name))
            }
        }
    }

    /// Puts back what a sweep was about to remove when it was cut off.
    ///
    /// # Errors
    /// The store is out of reach.
    pub async fn recover(&self) -> anyhow::Result<()> {
        match &self.place {
            Place::Folder(folder) => {
                let folder = folder.clone();
                spawn_blocking(move || folder.recover()).await?
            }
            Place::Bucket { .. } => Ok(()),
        }
    }

    /// Removes an artifact of our own that nobody else can know.
    ///
    /// # Errors
    /// The store is out of reach, or does not let us.
    pub async fn remove(&self, hash: &Hash) -> anyhow::Result<()> {
        match &self.place {
            Place::Folder(folder) => {
                let (folder, hash) = (folder.clone(), *hash);
                spawn_blocking(move || folder.remove(&hash)).await?
            }
            Place::Bucket { remote, .. } => {
                remote.remove(hash).await.with_context(|| format!("remove from {}", self.name))
            }
        }
    }
}

/// The hash and number of a file's bytes.
fn hash_of_file(path: &Path) -> std::io::Result<(Hash, u64)> {
    let mut file = File::open(path)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(&mut file)?;
    Ok((Hash(*hasher.finalize().as_bytes()), hasher.count()))
}
