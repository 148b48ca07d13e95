//! Schedules: when they come due, that each firing is done once, and what is said of them.

mod calendar;
mod firing;
mod workers;

use jobctl::queue::schedule::{self, Action, Missed, New};

use crate::support::database::Database;

impl Database {
    /// Makes a schedule that enqueues nothing that exists.
    async fn schedule(&self, name: &str, cron: &str, missed: Missed) -> i32 {
        let action = Action::Enqueue { file: "/x/x.toml".to_owned(), base: "/nowhere".to_owned(), text: String::new() };
        let new = New { name, cron, zone: "Europe/Berlin", missed, action: &action };
        schedule::add(&self.pool, &new).await.unwrap();
        schedule::find(&self.pool, name).await.unwrap().id
    }

    /// The firings' states, from the oldest on.
    async fn firings(&self) -> Vec<String> {
        sqlx::query_scalar("select state from firing order by due_at").fetch_all(&self.pool).await.unwrap()
    }
}
