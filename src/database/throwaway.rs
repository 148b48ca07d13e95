//! A database for one measurement, which is dropped afterwards.

use anyhow::Context;
use sqlx::{AssertSqlSafe, PgPool};

use super::{connect, migrate};
use crate::config::Secret;

/// A database of its own on a server that others use as well.
pub struct Throwaway {
    server: PgPool,
    name: String,
    url: Secret,
}

impl Throwaway {
    /// Makes an empty database beside the one that `url` names, its tables made.
    ///
    /// # Errors
    /// Our role may not make databases, or Postgres is out of reach.
    pub async fn new(url: &Secret) -> anyhow::Result<Self> {
        let server = connect(url, 1).await?;
        let name = format!("jobctl_bench_{}", uuid::Uuid::now_v7().simple());
        // The name is letters and digits.
        sqlx::query(AssertSqlSafe(format!("create database {name}")))
            .execute(&server)
            .await
            .context("make a database to measure in")?;
        let mut own = url::Url::parse(url.reveal()).context("DATABASE_URL is no Postgres address")?;
        own.set_path(&name);
        let it = Self { server, name, url: Secret::new(String::from(own)) };
        let pool = connect(&it.url, 1).await?;
        let migrated = migrate(&pool).await;
        pool.close().await;
        match migrated {
            Ok(()) => Ok(it),
            Err(error) => {
                it.end().await?;
                Err(error)
            }
        }
    }

    /// Its address.
    pub fn url(&self) -> &Secret {
        &self.url
    }

    /// Drops it, whoever is connected.
    ///
    /// # Errors
    /// Postgres is out of reach.
    pub async fn end(self) -> anyhow::Result<()> {
        sqlx::query(AssertSqlSafe(format!("drop database if exists {} with (force)", self.name)))
            .execute(&self.server)
            .await
            .with_context(|| format!("drop the database {}", self.name))?;
        self.server.close().await;
        Ok(())
    }
}
