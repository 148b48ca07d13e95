//! Artifacts in a bucket of an S3-compatible store.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use futures_util::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path as Key;
use object_store::{
    BackoffConfig, Certificate, ClientOptions, Error, ObjectMeta, ObjectStore, ObjectStoreExt, RetryConfig,
    WriteMultipart,
};

use super::Listed;
use crate::config::{StorePlace, StoreSettings};
use crate::job::Hash;

/// Larger files go up in parts of so many bytes.
const PART: usize = 16 << 20;
/// So many parts are under way at a time: with the one that is being filled, the memory of an upload.
const PARTS_AT_ONCE: usize = 3;
/// The most parts that S3 takes.
const MOST_PARTS: u64 = 10_000;

/// A bucket of artifacts.
#[derive(Clone, Debug)]
pub(super) struct Remote {
    bucket: Arc<dyn ObjectStore>,
    prefix: String,
}

impl Remote {
    /// The bucket that the settings name; nothing is asked of it yet.
    ///
    /// # Errors
    /// Settings that S3's client does not take.
    pub(super) fn new(settings: &StoreSettings, bucket: &str, prefix: &str) -> anyhow::Result<Self> {
        // Fails where it was done before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut client = ClientOptions::new()
            .with_connect_timeout(Duration::from_secs(5))
            .with_timeout(Duration::from_secs(300))
            .with_read_timeout(Duration::from_secs(30));
        if let Some(path) = &settings.ca {
            let place = || format!("read the certificates of AWS_CA_BUNDLE, {}", path.display());
            let certificates = Certificate::from_pem_bundle(&std::fs::read(path).with_context(place)?);
            let certificates = certificates.with_context(place)?;
            ensure!(!certificates.is_empty(), "AWS_CA_BUNDLE: {} holds no certificate in PEM", path.display());
            client = certificates.into_iter().fold(client, ClientOptions::with_root_certificate);
        }
        let mut builder = AmazonS3Builder::new();
        for (name, value) in &settings.aws {
            // Variables that other tools know are none of ours.
            let Ok(key) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() else { continue };
            if key == AmazonS3ConfigKey::Endpoint || key == AmazonS3ConfigKey::S3Endpoint {
                let url = url::Url::parse(value.reveal()).ok().filter(url::Url::has_host);
                let url = url.with_context(|| format!("{name} is no address such as https://minio.example.org"))?;
                ensure!(
                    url.username().is_empty() && url.password().is_none(),
                    "{name} takes no key: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
                );
                client = client.with_allow_http(url.scheme() == "http");
            }
            if !matches!(key, AmazonS3ConfigKey::Bucket | AmazonS3ConfigKey::Client(_)) {
                builder = builder.with_config(key, value.reveal());
            }
        }
        let retry = RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(100),
                max_backoff: Duration::from_secs(5),
                base: 2.0,
            },
            max_retries: 4,
            // The worker goes on trying, and sees meanwhile whether it still should.
            retry_timeout: Duration::from_secs(20),
        };
        let bucket = builder
            .with_bucket_name(bucket)
            .with_client_options(client)
            .with_retry(retry)
            .build()
            .context("the AWS_… variables do not say how S3 is reached")?;
        Ok(Self { bucket: Arc::new(bucket), prefix: prefix.to_owned() })
    }

    /// The bucket of a place that is one.
    pub(super) fn of(settings: &StoreSettings) -> anyhow::Result<Option<Self>> {
        match &settings.place {
            StorePlace::Folder(_) => Ok(None),
            StorePlace::S3 { bucket, prefix } => Self::new(settings, bucket, prefix).map(Some),
        }
    }

    fn key(&self, hash: &Hash) -> Key {
        let name = hash.to_string();
        let parts = self.prefix.split('/').filter(|it| !it.is_empty());
        Key::from_iter(parts.chain([&name[..2], &name]))
    }

    /// Stores bytes of this hash. Two that store the same hash store the same bytes.
    pub(super) async fn put(&self, hash: &Hash, bytes: Vec<u8>) -> anyhow::Result<()> {
        self.bucket.put(&self.key(hash), bytes.into()).await.map(drop).map_err(|it| plain(&it))
    }

    /// Stores a file, which must have this hash: a large one in parts.
    pub(super) async fn put_file(&self, hash: &Hash, file: &Path) -> anyhow::Result<()> {
        let n_bytes = file.metadata().with_context(|| format!("read {}", file.display()))?.len();
        if n_bytes <= PART as u64 {
            let bytes = tokio::fs::read(file).await.with_context(|| format!("read {}", file.display()))?;
            ensure!(Hash::of(&bytes) == *hash, "{} has changed while it was stored", file.display());
            return self.put(hash, bytes).await;
        }
        let key = self.key(hash);
        let part = PART.max(usize::try_from(n_bytes.div_ceil(MOST_PARTS - 1))?);
        let mut upload =
            WriteMultipart::new_with_chunk_size(self.bucket.put_multipart(&key).await.map_err(|it| plain(&it))?, part);
        let mut sending = async || -> anyhow::Result<()> {
            let mut source = std::fs::File::open(file).with_context(|| format!("read {}", file.display()))?;
            let mut hasher = blake3::Hasher::new();
            let mut buffer = vec![0; 1 << 20];
            loop {
                let n = source.read(&mut buffer).with_context(|| format!("read {}", file.display()))?;
                if n == 0 {
                    break;
                }
                hasher.update(&buffer[..n]);
                upload.wait_for_capacity(PARTS_AT_ONCE).await.map_err(|it| plain(&it))?;
                upload.write(&buffer[..n]);
            }
            ensure!(hasher.finalize() == hash.0, "{} has changed while it was stored", file.display());
            Ok(())
        };
        match sending().await {
            Ok(()) => upload.finish().await.map(drop).map_err(|it| plain(&it)),
            Err(error) => {
                // Parts that are not finished cost money until the bucket's own rules take them away.
                let _ = upload.abort().await;
                Err(error)
            }
        }
    }

    /// Reads an artifact, into `out` if there is one, and returns the hash of its bytes; none if it is not there.
    pub(super) async fn read(
        &self,
        hash: &Hash,
        mut out: Option<&mut (dyn Write + Send)>,
    ) -> anyhow::Result<Option<Hash>> {
        let found = match self.bucket.get(&self.key(hash)).await {
            Ok(found) => found,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(plain(&error)),
        };
        let mut chunks = found.into_stream();
        let mut hasher = blake3::Hasher::new();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|it| plain(&it))?;
            hasher.update(&chunk);
            if let Some(out) = &mut out {
                out.write_all(&chunk).context("write to the cache")?;
            }
        }
        Ok(Some(Hash(*hasher.finalize().as_bytes())))
    }

    /// Everything under the prefix that is named as an artifact is.
    pub(super) async fn list(&self) -> anyhow::Result<Vec<Listed>> {
        let prefix = (!self.prefix.is_empty()).then(|| Key::from(self.prefix.as_str()));
        let objects: Vec<_> = self.bucket.list(prefix.as_ref()).try_collect().await.map_err(|it| plain(&it))?;
        let named = objects.into_iter().filter_map(|it| {
            let hash = it.location.filename()?.parse::<Hash>().ok()?;
            (self.key(&hash) == it.location).then(|| Listed { hash, n_bytes: it.size, stamp: stamp(&it) })
        });
        Ok(named.collect())
    }

    /// Removes an artifact, unless it was stored anew since it was listed.
    pub(super) async fn remove_unless_renewed(&self, listed: &Listed) -> anyhow::Result<bool> {
        match self.bucket.head(&self.key(&listed.hash)).await {
            Ok(it) if stamp(&it) != listed.stamp => Ok(false),
            Ok(_) => self.remove(&listed.hash).await.map(|()| true),
            Err(Error::NotFound { .. }) => Ok(true),
            Err(error) => Err(plain(&error)),
        }
    }

    /// Removes an artifact; one that is gone already is no mistake.
    pub(super) async fn remove(&self, hash: &Hash) -> anyhow::Result<()> {
        match self.bucket.delete(&self.key(hash)).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(plain(&error)),
        }
    }
}

/// When an object was written, to the second: HTTP's dates have no more.
fn stamp(object: &ObjectMeta) -> i64 {
    object.last_modified.timestamp().wrapping_mul(1_000_000_000)
}

/// What people can do about what the client says. It names addresses, never keys.
fn plain(error: &Error) -> anyhow::Error {
    let chain = |error: &Error| {
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(it) = cause {
            if !text.contains(&it.to_string()) {
                text = format!("{text}: {it}");
            }
            cause = it.source();
        }
        text
    };
    let text = chain(error);
    let help = match error {
        _ if ["UnknownIssuer", "unknown issuer", "BadSignature", "invalid peer certificate"]
            .iter()
            .any(|it| text.contains(it)) =>
        {
            "its certificate is not signed by anybody whom this machine trusts: name a PEM file with the right certificate in AWS_CA_BUNDLE"
        }
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            "it refuses us: look at AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the bucket's policy"
        }
        _ if text.contains("NoSuchBucket") => "there is no such bucket",
        _ => return anyhow::anyhow!(text),
    };
    anyhow::anyhow!("{help} ({text})")
}
