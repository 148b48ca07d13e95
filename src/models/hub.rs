//! Packages by their Hugging Face names: found in the hub's cache, or downloaded into it.
//!
//! The cache is the one that huggingface_hub keeps: `models--OWNER--NAME/{blobs,refs,snapshots}`. A snapshot's branch
//! is noted in `refs` only when all of it is there, so a name that is found offline is complete.

mod fetch;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use hf_hub::api::sync::ApiBuilder;
use hf_hub::{Cache, Repo, RepoType};

use super::clip::picture;
use super::package::{self, Layout, Package, STEMS, TOKENIZER_FILES, TOKENIZER_SETTINGS};
use fetch::{Fault, Remote};

/// The folder of a package: `name` itself where that is a folder, or else the Hugging Face name `owner/name` or
/// `owner/name@revision`, which is downloaded unless the cache has it.
///
/// Obeys HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN, HF_TOKEN_PATH and HF_HUB_OFFLINE. Progress goes to standard error.
///
/// # Errors
/// Neither a folder nor such a name; no such package, or access to it refused; not in the cache while offline; no
/// network; no space. Each says what to do.
pub fn locate(name: &str) -> anyhow::Result<PathBuf> {
    locate_as(name, Layout::Diffusers)
}

/// The same of a folder of this layout.
///
/// # Errors
/// Those of [`locate`].
pub fn locate_as(name: &str, layout: Layout) -> anyhow::Result<PathBuf> {
    if Path::new(name).is_dir() {
        return Ok(PathBuf::from(name));
    }
    Hub::from_env().locate_as(name, layout)
}

/// Where packages are looked for.
#[derive(Clone, Debug)]
pub struct Hub {
    /// Such as `https://huggingface.co`.
    pub endpoint: String,
    /// The folder of the cache.
    pub cache: PathBuf,
    /// What proves who asks.
    pub token: Option<String>,
    /// The cache alone is used.
    pub offline: bool,
}

/// `owner/name@revision`
struct Name {
    id: String,
    revision: String,
}

impl Name {
    fn parse(text: &str) -> Option<Self> {
        let (id, revision) = text.split_once('@').unwrap_or((text, "main"));
        let (owner, name) = id.split_once('/')?;
        let is_word = |it: &str| {
            let is_ok = |it: char| it.is_ascii_alphanumeric() || "-_.".contains(it);
            !it.is_empty() && it.len() <= 96 && it.chars().all(is_ok) && !it.starts_with(['.', '-'])
        };
        let is_revision = |it: &str| !it.is_empty() && it.split('/').all(is_word);
        (is_word(owner) && is_word(name) && is_revision(revision))
            .then(|| Self { id: id.to_owned(), revision: revision.to_owned() })
    }

    /// Whether the revision is a commit, which never changes.
    fn is_pinned(&self) -> bool {
        is_commit(&self.revision)
    }
}

fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|it| it.is_ascii_hexdigit())
}

impl Hub {
    /// As the environment says, with huggingface_hub's defaults.
    #[expect(clippy::disallowed_methods, reason = "these settings are Hugging Face's, read as its own tools read them")]
    pub fn from_env() -> Self {
        let var = |name: &str| std::env::var(name).ok().filter(|it| !it.is_empty());
        let home = var("HF_HOME").map(PathBuf::from).unwrap_or_else(|| {
            let caches = var("XDG_CACHE_HOME").map(PathBuf::from);
            let caches = caches.or_else(|| std::env::home_dir().map(|it| it.join(".cache")));
            caches.unwrap_or_else(|| PathBuf::from(".cache")).join("huggingface")
        });
        let token_path = var("HF_TOKEN_PATH").map_or_else(|| home.join("token"), PathBuf::from);
        let token = var("HF_TOKEN").or_else(|| fs::read_to_string(token_path).ok());
        let is_on = |it: String| ["1", "true", "yes", "on"].contains(&it.to_ascii_lowercase().as_str());
        Self {
            endpoint: var("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned()),
            cache: var("HF_HUB_CACHE").map_or_else(|| home.join("hub"), PathBuf::from),
            token: token.map(|it| it.trim().to_owned()).filter(|it| !it.is_empty()),
            offline: var("HF_HUB_OFFLINE").is_some_and(is_on),
        }
    }

    /// The folder of the package `owner/name` or `owner/name@revision`, downloaded if need be.
    ///
    /// # Errors
    /// Those of [`locate`].
    pub fn locate(&self, name: &str) -> anyhow::Result<PathBuf> {
        self.locate_as(name, Layout::Diffusers)
    }

    /// The same of a folder of this layout.
    ///
    /// # Errors
    /// Those of [`locate`].
    pub fn locate_as(&self, name: &str, layout: Layout) -> anyhow::Result<PathBuf> {
        let Some(wanted) = Name::parse(name) else {
            bail!(
                "`{name}` is neither a folder here nor a name on the Hugging Face hub (owner/name or owner/name@revision)"
            )
        };
        let cached = self.cached(&wanted, layout);
        if self.offline {
            return cached.with_context(|| {
                format!(
                    "`{name}` cannot be downloaded, for HF_HUB_OFFLINE is set: unset it, or copy the package into {}",
                    self.cache.display()
                )
            });
        }
        if wanted.is_pinned()
            && let Ok(folder) = cached
        {
            return Ok(folder);
        }
        match self.download(&wanted, layout) {
            Ok(folder) => Ok(folder),
            // Who has the package can go on working while the hub cannot be reached.
            Err(Fault::Unreachable(error)) => match cached {
                Ok(folder) => {
                    tracing::warn!("{name} is taken from the cache as it is: {error:#}");
                    Ok(folder)
                }
                Err(_) => Err(error).with_context(|| format!("download `{name}`")),
            },
            Err(Fault::Other(error)) => Err(error).with_context(|| format!("download `{name}`")),
        }
    }

    fn folder(&self, wanted: &Name) -> PathBuf {
        self.cache.join(Repo::model(wanted.id.clone()).folder_name())
    }

    fn snapshot(&self, wanted: &Name, commit: &str) -> PathBuf {
        self.folder(wanted).join("snapshots").join(commit)
    }

    /// The snapshot that the cache has of a name.
    fn cached(&self, wanted: &Name, layout: Layout) -> anyhow::Result<PathBuf> {
        let commit = if wanted.is_pinned() {
            wanted.revision.clone()
        } else {
            let noted = self.folder(wanted).join("refs").join(&wanted.revision);
            let commit = fs::read_to_string(&noted)
                .with_context(|| format!("the cache has no {}@{}", wanted.id, wanted.revision))?;
            commit.trim().to_owned()
        };
        ensure!(is_commit(&commit), "the cache notes `{commit}` as the commit of {}", wanted.id);
        let folder = self.snapshot(wanted, &commit);
        let complete = Package::open_as(&folder, layout)
            .and_then(|package| layout.parts().iter().try_for_each(|it| package.files(*it).map(drop)));
        complete.context("the copy in the cache is not complete")?;
        Ok(folder)
    }

    fn download(&self, wanted: &Name, layout: Layout) -> Result<PathBuf, Fault> {
        let cache = Cache::new(self.cache.clone());
        let token = self.token.clone();
        let endpoint = self.endpoint.trim_end_matches('/').to_owned();
        let builder =
            ApiBuilder::from_cache(cache).with_endpoint(endpoint.clone()).with_token(token).with_progress(false);
        let api = builder.with_user_agent("jobctl", env!("CARGO_PKG_VERSION")).build().map_err(anyhow::Error::from)?;
        let named = Repo::with_revision(wanted.id.clone(), RepoType::Model, wanted.revision.clone());
        let listing = fetch::list(&api.repo(named), wanted, &endpoint, self.token.is_some())?;
        if !is_commit(&listing.commit) {
            return Err(anyhow::anyhow!("{endpoint} says that the commit is `{}`", listing.commit).into());
        }

        let _alone = self.lock(wanted)?;
        let snapshot = self.snapshot(wanted, &listing.commit);
        // All files are those of one commit, whatever is pushed meanwhile.
        let repo = api.repo(Repo::with_revision(wanted.id.clone(), RepoType::Model, listing.commit.clone()));
        let mut remote = Remote::new(repo, self.folder(wanted), snapshot.clone(), listing);
        let files = match layout {
            Layout::Diffusers => {
                remote.fetch(&["model_index.json".to_owned()])?;
                let components = package::components(&snapshot.join("model_index.json"))?;
                wanted_files(&components, &mut remote)?
            }
            Layout::Transformers => network_files(&mut remote)?,
        };
        remote.fetch(&files)?;

        let note = self.folder(wanted).join("refs").join(&wanted.revision);
        if !wanted.is_pinned() {
            let parent = note.parent().unwrap_or(&note);
            let commit = &remote.listing.commit;
            fs::create_dir_all(parent).and_then(|()| fs::write(&note, commit)).map_err(anyhow::Error::from)?;
        }
        Ok(snapshot)
    }

    /// Waits until no other process downloads the package.
    fn lock(&self, wanted: &Name) -> anyhow::Result<File> {
        let folder = self.cache.join(".locks").join(Repo::model(wanted.id.clone()).folder_name());
        let locked = fs::create_dir_all(&folder).and_then(|()| {
            let file = File::create(folder.join("jobctl.lock"))?;
            file.lock()?;
            Ok(file)
        });
        locked.with_context(|| format!("lock {}", folder.display()))
    }
}

/// What the pipeline reads of a package: configs, tokenizers, and the weights in safetensors, whole or in shards.
/// Indices of shards are fetched on the way.
fn wanted_files(components: &BTreeMap<String, String>, remote: &mut Remote) -> Result<Vec<String>, Fault> {
    let mut files = Vec::new();
    for component in components.keys() {
        let is_tokenizer = component.starts_with("tokenizer");
        let has_weights = component.starts_with("text_encoder") || ["transformer", "vae"].contains(&component.as_str());
        if is_tokenizer {
            let is_new = remote.has(&format!("{component}/tokenizer.json"));
            let older = if is_new { &["tokenizer.json"][..] } else { &TOKENIZER_FILES[..] };
            let names = older.iter().chain(&TOKENIZER_SETTINGS).map(|it| format!("{component}/{it}"));
            files.extend(names.filter(|it| remote.has(it)));
        }
        if has_weights || component == "scheduler" {
            files.push(format!("{component}/{}", package::config_name(component)));
        }
        if has_weights {
            files.extend(weight_files(component, remote)?);
        }
    }
    Ok(files)
}

/// What is read of a network.
fn network_files(remote: &mut Remote) -> Result<Vec<String>, Fault> {
    let mut files = weight_files("", remote)?;
    files.push("config.json".to_owned());
    files.extend([picture::FILE.to_owned()].into_iter().filter(|it| remote.has(it)));
    Ok(files)
}

/// The weights in a folder of the package; the empty one is the package's own.
fn weight_files(component: &str, remote: &mut Remote) -> Result<Vec<String>, Fault> {
    let folder = if component.is_empty() { String::new() } else { format!("{component}/") };
    for stem in STEMS {
        let single = format!("{folder}{stem}.safetensors");
        if remote.has(&single) {
            return Ok(vec![single]);
        }
        let index = format!("{folder}{stem}.safetensors.index.json");
        if remote.has(&index) {
            remote.fetch(std::slice::from_ref(&index))?;
            let shards = package::shards(&remote.snapshot.join(&index))?;
            return Ok(shards.into_iter().map(|it| format!("{folder}{it}")).collect());
        }
    }
    Err(anyhow::anyhow!(
        "there is neither {folder}{}.safetensors nor {folder}{}.safetensors, whole or in shards; other forms \
         (.bin, fp16 variants) are not read",
        STEMS[0],
        STEMS[1]
    )
    .into())
}
