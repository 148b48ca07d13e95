//! A Postgres with a certificate of a private authority: verified, or refused with words that help.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use jobctl::config::Secret;
use jobctl::database::{connect, private::Postgres};

use crate::support::certificates::Authority;
use crate::support::process::Printed;

/// A server of this test's own, gone when this is dropped.
struct Server {
    home: tempfile::TempDir,
    data: PathBuf,
    url: url::Url,
}

impl Server {
    async fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let url = begin(home.path()).await;
        let pool = connect(&Secret::new(url.as_str()), 1).await.unwrap();
        let data: String = sqlx::query_scalar("show data_directory").fetch_one(&pool).await.unwrap();
        pool.close().await;
        Self { home, data: PathBuf::from(data), url }
    }

    async fn encrypt(&mut self, authority: &Authority) {
        authority.write_server(&self.data);
        let owner = self.data.metadata().unwrap();
        for name in ["server.pem", "server.key"] {
            chown(self.data.join(name), Some(owner.uid()), Some(owner.gid())).unwrap();
        }
        let mut settings = OpenOptions::new().append(true).open(self.data.join("postgresql.conf")).unwrap();
        settings.write_all(b"ssl = on\nssl_cert_file = 'server.pem'\nssl_key_file = 'server.key'\n").unwrap();
        Postgres::new(self.home.path()).stop().unwrap();
        self.url = begin(self.home.path()).await;
    }

    fn at(&self, host: &str, query: &str) -> String {
        let mut url = self.url.clone();
        url.set_host(Some(host)).unwrap();
        url.set_query(Some(query));
        url.into()
    }

    /// Runs `jobctl status` there.
    fn status(&self, url: &str, status: i32) -> Printed {
        let mut command = Command::new(env!("CARGO_BIN_EXE_jobctl"));
        command.arg("status").env("DATABASE_URL", url).env("JOBCTL_HOME", self.home.path());
        Printed::of(command.output().unwrap(), status)
    }
}

async fn begin(home: &Path) -> url::Url {
    let home = home.to_owned();
    let url = tokio::task::spawn_blocking(move || Postgres::new(&home).start().unwrap()).await.unwrap();
    url::Url::parse(url.reveal()).unwrap()
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = Postgres::new(self.home.path()).stop();
        let _ = fs::remove_dir_all(self.data.parent().unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_verified_and_a_strangers_is_refused() {
    let mut server = Server::start().await;
    let password = server.url.password().unwrap().to_owned();
    let said = server.status(&server.at("localhost", "sslmode=require"), 1).err;
    assert!(said.contains("does not encrypt") && !said.contains(&password), "{said}");

    let authority = Authority::new();
    server.encrypt(&authority).await;
    let right = server.home.path().join("right.pem");
    fs::write(&right, &authority.pem).unwrap();
    let wrong = server.home.path().join("wrong.pem");
    fs::write(&wrong, Authority::new().pem).unwrap();
    let verified = |ca: &Path| format!("sslmode=verify-full&sslrootcert={}", ca.display());

    let url = server.at("localhost", &verified(&right));
    server.status(&url, 0);
    let pool = connect(&Secret::new(url.as_str()), 1).await.unwrap();
    let encrypted: bool =
        sqlx::query_scalar("select ssl from pg_stat_ssl where pid = pg_backend_pid()").fetch_one(&pool).await.unwrap();
    assert!(encrypted);
    pool.close().await;

    for (url, words) in [
        (server.at("localhost", &verified(&wrong)), "not signed by anybody whom this machine trusts"),
        (server.at("127.0.0.1", &verified(&right)), "for another host"),
        (server.at("localhost", "sslmode=verify-full"), "not signed by anybody whom this machine trusts"),
        (server.at("localhost", "sslmode=verify-full&sslrootcert=/no/such.pem"), "connect to Postgres"),
    ] {
        let said = server.status(&url, 1).err;
        assert!(said.contains(words) && said.contains("connect to Postgres at"), "{said}");
        assert!(!said.contains(&password), "{said}");
    }
}
