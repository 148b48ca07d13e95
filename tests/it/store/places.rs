//! What both kinds of store do alike, and what S3 does beside.

use std::fs;
use std::path::Path;

use jobctl::job::Hash;
use jobctl::store::artifact::{Artifacts, Fault};

use crate::support::certificates::Authority;
use crate::support::s3::{S3, SECRET};

/// Seeded bytes.
fn bytes(n: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..n).map(|_| next()).collect()
}

/// Writes a file to be taken.
fn file(folder: &Path, bytes: &[u8]) -> std::path::PathBuf {
    let path = folder.join("made");
    fs::write(&path, bytes).unwrap();
    path
}

async fn keeps_its_laws(artifacts: &Artifacts, spoil: impl AsyncFn(&Hash)) {
    let scratch = tempfile::tempdir().unwrap();
    let small = bytes(1000, 1);
    let hash = artifacts.put(small.clone()).await.unwrap();
    assert_eq!(hash, Hash::of(&small));
    assert_eq!(artifacts.put(small.clone()).await.unwrap(), hash, "equal bytes are one artifact");
    assert_eq!(artifacts.get(&hash).await.unwrap(), small);

    let taken = file(scratch.path(), &small);
    assert_eq!(artifacts.take(&taken).await.unwrap(), (hash, 1000));
    assert!(!taken.exists(), "a taken file is gone");
    let other = bytes(5000, 2);
    let (second, _) = artifacts.take(&file(scratch.path(), &other)).await.unwrap();
    assert_eq!(artifacts.get(&second).await.unwrap(), other);
    let mut listed: Vec<(Hash, u64)> = artifacts.list().await.unwrap().iter().map(|it| (it.hash, it.n_bytes)).collect();
    listed.sort();
    let mut expected = vec![(hash, 1000), (second, 5000)];
    expected.sort();
    assert_eq!(listed, expected);

    let unknown = Hash::of(b"nobody stored this");
    let fault = artifacts.fetch(&unknown).await.unwrap_err();
    assert!(matches!(fault, Fault::Missing { hash, .. } if hash == unknown), "{fault}");
    assert!(fault.to_string().contains(&unknown.to_string()), "{fault}");

    spoil(&hash).await;
    let fault = artifacts.check(&hash).await.unwrap().unwrap();
    assert!(matches!(fault, Fault::Damaged { .. }), "{fault}");
    if artifacts.is_remote() {
        // A whole copy hides it.
        fs::remove_file(artifacts.path(&hash)).unwrap();
        let fault = artifacts.fetch(&hash).await.unwrap_err();
        assert!(matches!(fault, Fault::Damaged { .. }) && fault.to_string().contains(&hash.to_string()), "{fault}");
    }
    // What is made again takes the damaged one's place.
    artifacts.put(small.clone()).await.unwrap();
    assert_eq!(artifacts.get(&hash).await.unwrap(), small);
    assert!(artifacts.check(&hash).await.unwrap().is_none());

    // Stored anew after the sweep has listed it, it stays; else it goes. S3's clock goes by seconds.
    let listed = async |hash| artifacts.list().await.unwrap().into_iter().find(|it| it.hash == hash).unwrap();
    let before = listed(hash).await;
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    artifacts.put(small.clone()).await.unwrap();
    assert!(!artifacts.remove_unless_renewed(&before).await.unwrap());
    assert!(artifacts.check(&hash).await.unwrap().is_none());
    let taken = listed(second).await;
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    artifacts.take(&file(scratch.path(), &other)).await.unwrap();
    assert!(!artifacts.remove_unless_renewed(&taken).await.unwrap());
    assert!(artifacts.check(&second).await.unwrap().is_none());
    let now = listed(hash).await;
    for _ in 0..2 {
        assert!(artifacts.remove_unless_renewed(&now).await.unwrap(), "what is gone already is no mistake");
        assert!(matches!(artifacts.check(&hash).await.unwrap(), Some(Fault::Missing { .. })));
    }
    artifacts.remove(&second).await.unwrap();
    artifacts.remove(&second).await.unwrap();
    assert!(matches!(artifacts.check(&second).await.unwrap(), Some(Fault::Missing { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_keeps_the_laws_of_a_store() {
    let home = tempfile::tempdir().unwrap();
    let artifacts = Artifacts::new(home.path().join("artifacts"));
    keeps_its_laws(&artifacts, async |hash| fs::write(artifacts.path(hash), b"spoilt").unwrap()).await;
    // A disk that is not mounted is no store that has lost everything.
    fs::remove_dir_all(home.path().join("artifacts")).unwrap();
    let fault = artifacts.fetch(&Hash::of(b"x")).await.unwrap_err();
    assert!(matches!(fault, Fault::Unreachable { .. }), "{fault}");
    // Nor is an empty mount point, once the store was seen.
    artifacts.prepare().unwrap();
    let hash = artifacts.put(b"x".to_vec()).await.unwrap();
    let away = home.path().join("away");
    fs::rename(home.path().join("artifacts"), &away).unwrap();
    fs::create_dir(home.path().join("artifacts")).unwrap();
    let fault = artifacts.fetch(&hash).await.unwrap_err();
    assert!(
        matches!(fault, Fault::Unreachable { .. }) && format!("{fault}").contains("is its disk mounted"),
        "{fault}"
    );
    assert!(format!("{:#}", artifacts.put(b"y".to_vec()).await.unwrap_err()).contains("is its disk mounted"));
    fs::remove_dir(home.path().join("artifacts")).unwrap();
    fs::rename(away, home.path().join("artifacts")).unwrap();
    assert_eq!(artifacts.get(&hash).await.unwrap(), b"x");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_keeps_the_laws_of_a_store() {
    let server = S3::start();
    let bucket = S3::bucket();
    let home = tempfile::tempdir().unwrap();
    let artifacts = server.store(&bucket, home.path());
    let raw = raw(&server, &bucket);
    keeps_its_laws(&artifacts, async |hash| raw.overwrite(hash).await).await;
    large_files_go_up_in_parts(&server, &bucket).await;
    tls_is_verified(&server, &bucket).await;
    wrong_keys_are_refused_and_not_shown(&server, &bucket).await;
}

async fn large_files_go_up_in_parts(server: &S3, bucket: &str) {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let large = bytes(41 << 20, 3);
    let path = file(here.path(), &large);
    let (hash, n_bytes) = server.store(bucket, here.path()).take(&path).await.unwrap();
    assert_eq!(n_bytes, 41 << 20);
    // What was made here is read from the copy here; elsewhere it comes from the bucket.
    let elsewhere = server.store(bucket, there.path());
    assert!(elsewhere.get(&hash).await.unwrap() == large);
    assert!(elsewhere.path(&hash).starts_with(there.path()) && elsewhere.path(&hash).exists());
    // A file that changes while it is stored is not stored.
    let other = file(here.path(), &bytes(20 << 20, 4));
    let wrong = Hash::of(b"another");
    for hash in [&hash, &wrong] {
        let error = format!("{:#}", elsewhere.upload(hash, &other).await.unwrap_err());
        assert!(error.contains("has changed"), "{error}");
    }
    assert!(elsewhere.check(&hash).await.unwrap().is_none(), "it takes the place of what was there");
    assert!(matches!(elsewhere.check(&wrong).await.unwrap(), Some(Fault::Missing { .. })), "half of it was stored");
}

async fn tls_is_verified(server: &S3, bucket: &str) {
    let home = tempfile::tempdir().unwrap();
    let ca = home.path().join("ca.pem");
    let over_tls = |pem: Option<&str>| {
        let mut settings = server.settings(bucket, home.path());
        settings.aws.retain(|it| it.0 != "AWS_ENDPOINT_URL");
        settings.aws.push(("AWS_ENDPOINT_URL".to_owned(), jobctl::config::Secret::new(server.tls_url())));
        settings.ca = pem.map(|it| {
            fs::write(&ca, it).unwrap();
            ca.clone()
        });
        Artifacts::open(&settings)
    };
    over_tls(Some(&server.authority.pem)).unwrap().put(b"over TLS".to_vec()).await.unwrap();
    for pem in [None, Some(Authority::new().pem)] {
        let error = format!("{:#}", over_tls(pem.as_deref()).unwrap().put(b"x".to_vec()).await.unwrap_err());
        assert!(error.contains("AWS_CA_BUNDLE") && error.contains("not signed by anybody"), "{error}");
    }
    let error = format!("{:#}", over_tls(Some("no certificate")).unwrap_err());
    assert!(error.contains("AWS_CA_BUNDLE") && error.contains("ca.pem"), "{error}");
}

async fn wrong_keys_are_refused_and_not_shown(server: &S3, bucket: &str) {
    let home = tempfile::tempdir().unwrap();
    let mut settings = server.settings(bucket, home.path());
    settings.aws.retain(|it| it.0 != "AWS_ACCESS_KEY_ID");
    settings.aws.push(("AWS_ACCESS_KEY_ID".to_owned(), jobctl::config::Secret::new("stranger")));
    let artifacts = Artifacts::open(&settings).unwrap();
    for error in [
        format!("{:#}", artifacts.put(b"x".to_vec()).await.unwrap_err()),
        format!("{:#}", anyhow::Error::new(artifacts.fetch(&Hash::of(b"x")).await.unwrap_err())),
    ] {
        assert!(error.contains("it refuses us") && !error.contains(SECRET), "{error}");
    }
    let said = format!("{settings:?} {artifacts:?}");
    assert!(!said.contains(SECRET), "{said}");
}

/// The bucket as a vandal sees it.
struct Raw {
    bucket: Box<dyn object_store::ObjectStore>,
}

fn raw(server: &S3, bucket: &str) -> Raw {
    let store = object_store::aws::AmazonS3Builder::new()
        .with_endpoint(server.url())
        .with_allow_http(true)
        .with_region("us-east-1")
        .with_access_key_id(crate::support::s3::KEY)
        .with_secret_access_key(SECRET)
        .with_bucket_name(bucket)
        .build()
        .unwrap();
    Raw { bucket: Box::new(store) }
}

impl Raw {
    async fn overwrite(&self, hash: &Hash) {
        use object_store::ObjectStoreExt;
        let name = hash.to_string();
        let path = object_store::path::Path::from(format!("some/prefix/{}/{name}", &name[..2]));
        self.bucket.head(&path).await.unwrap();
        self.bucket.put(&path, b"spoilt".to_vec().into()).await.unwrap();
    }
}
