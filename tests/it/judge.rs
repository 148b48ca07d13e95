//! Machines that judge and caption: what is asked, what is made of the answers, and what happens when anything dies.

mod asking;
mod batch;
mod captions;
mod deaths;
mod pace;
mod replies;
mod rights;
mod server;
mod troubles;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use jobctl::queue::rescue::rescue;

use self::server::{KEY, Server};
use crate::support::database::Database;
use crate::support::pictures::pictures;
use crate::support::process::Running;
use crate::support::wait_until;

/// How long a worker may be silent where no test waits for that.
const PATIENT_MS: &str = "60000";

/// Far more than anything here takes.
const LONG: Duration = Duration::from_secs(120);

/// A sweep whose judge compares `n` photographs with blurred ones; `keys` may say more of the judge.
fn judged(db: &Database, name: &str, n: u32, keys: &str) -> PathBuf {
    let folder = db.home.path().join("photos");
    let captions: Vec<String> = pictures(&folder, n)
        .iter()
        .map(|it| {
            let file_name = it.file_name().unwrap().to_str().unwrap();
            serde_json::json!({ "file_name": file_name, "text": format!("what {file_name} shows") }).to_string()
        })
        .collect();
    fs::write(folder.join("metadata.jsonl"), captions.join("\n")).unwrap();
    let budget = if keys.contains("budget") { "" } else { "budget = 5.0" };
    let text = format!(
        "name = \"{name}\"\n\n[[images]]\nname = \"photos\"\npath = \"photos\"\ncaptions = \"metadata.jsonl\"\n\n\
         [[damage]]\nof = \"photos\"\nname = \"soft\"\nkind = \"blur\"\nsigma = 2\n\n\
         [[judge]]\nname = \"gpt\"\nof = [\"photos\", \"soft\"]\n{budget}\n{keys}\n"
    );
    let path = db.home.path().join(format!("{name}.toml"));
    fs::write(&path, text).unwrap();
    path
}

impl Database {
    /// The program where its agent asks this server. However slow the machine, it is not taken for dead.
    fn asking(&self, server: &Server, arguments: &[&str]) -> Command {
        let mut command = self.command(arguments);
        command.env("JOBCTL_OPENAI_URL", server.url()).env("JOBCTL_OPENAI_KEY", KEY);
        command.env("JOBCTL_STALE_MS", PATIENT_MS);
        command
    }

    /// A worker whose agent asks this server.
    fn asker(&self, server: &Server) -> Running {
        Running::start(self.asking(server, &["worker", "--slots", "1"]))
    }

    /// Works until nothing is left to be done.
    fn ask_all(&self, server: &Server) -> String {
        let mut worker = Running::start(self.asking(server, &["worker", "--slots", "1", "--until-idle"]));
        worker.ends_with(0, LONG)
    }

    /// Gives up every worker, as if each had been silent for long, and takes back what they held: others wait longer for that.
    async fn give_up(&self) {
        let moment = Duration::from_millis(1);
        wait_until("they are given up", LONG, async || {
            rescue(&self.pool, moment, LONG).await.unwrap();
            let left = "select (select count(*) from worker where stopped_at is null)
                + (select count(*) from job where state = 'running')";
            self.number(left).await == 0
        })
        .await;
    }

    fn enqueue_judged(&self, name: &str, n: u32, keys: &str) -> PathBuf {
        let path = judged(self, name, n, keys);
        self.jobctl(["enqueue", path.to_str().unwrap()], 0);
        path
    }

    /// Every job of this database is done, each answered question has one answer, each verdict is there once.
    async fn check_judged(&self, n_requests: i64, n_verdicts: i64) {
        self.check_laws().await;
        assert_eq!(self.number("select count(*) from job").await, 0, "unfinished jobs");
        assert_eq!(self.number("select count(*) from job_history where state <> 'done'").await, 0);
        assert_eq!(self.number("select count(*) from asked where outcome = 'answered'").await, n_requests);
        assert_eq!(self.number("select count(*) from asked where outcome = 'open'").await, 0);
        assert_eq!(self.number("select count(*) from verdict").await, n_verdicts);
    }
}
