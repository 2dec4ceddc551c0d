//! A database of the bench's own: on a server that was named, or on a throw-away one.

use std::str::FromStr as _;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, PgPool};
use uuid::Uuid;

use crate::database;
use crate::trial::bench::BenchError;
use crate::trial::postgres::{Durability, Embedded, Stop};

/// A migrated database; on a named server it must be [removed](Scratch::remove), on a throw-away one it goes with it.
#[derive(Debug)]
pub struct Scratch {
    url: String,
    host: Host,
}

#[derive(Debug)]
enum Host {
    Embedded(Embedded),
    Named { admin_url: String, database: String },
}

impl Scratch {
    /// Makes it on the server of `database_url`, or on an embedded one that commits as safely as a production server.
    pub async fn create(database_url: Option<&str>) -> Result<Scratch, BenchError> {
        let database = format!("chert_outbox_bench_{}", Uuid::new_v4().simple());
        let scratch = match database_url {
            Some(admin_url) => {
                let url = url_of(admin_url, &database)?;
                Scratch { url, host: Host::Named { admin_url: admin_url.to_owned(), database: database.clone() } }
            }
            None => {
                let server = Embedded::start(Durability::Full).await?;
                count_statements(&server).await?;
                Scratch { url: server.url(&database), host: Host::Embedded(server) }
            }
        };
        scratch.admin(format!("create database {database}")).await?;
        if let Err(error) = scratch.migrate().await {
            scratch.remove().await?;
            return Err(error);
        }
        Ok(scratch)
    }

    async fn migrate(&self) -> Result<(), BenchError> {
        let pool = self.connect(1).await?;
        database::migrate(&pool, "default").await?;
        // Not there, or not ours to create: then statements are not counted.
        let _ = sqlx::raw_sql("create extension if not exists pg_stat_statements").execute(&pool).await;
        pool.close().await;
        Ok(())
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// A pool that takes slow statements for granted: filling a million rows is one.
    pub async fn connect(&self, connections: u32) -> Result<PgPool, BenchError> {
        let options = PgConnectOptions::from_str(&self.url).map_err(|_| BenchError::Url)?;
        let options = options.disable_statement_logging();
        Ok(PgPoolOptions::new().max_connections(connections).connect_with(options).await?)
    }

    /// The process of the throw-away server; a named one's is not ours to look at.
    pub fn server_pid(&self) -> Option<u32> {
        match &self.host {
            Host::Embedded(server) => server.pid(),
            Host::Named { .. } => None,
        }
    }

    /// Drops the database, or ends the server.
    pub async fn remove(self) -> Result<(), BenchError> {
        if let Host::Named { database, .. } = &self.host {
            return self.admin(format!("drop database if exists {database} with (force)")).await;
        }
        match self.host {
            Host::Embedded(server) => Ok(server.stop().await?),
            Host::Named { .. } => Ok(()),
        }
    }

    async fn admin(&self, statement: String) -> Result<(), BenchError> {
        let url = match &self.host {
            Host::Embedded(server) => server.url("postgres"),
            Host::Named { admin_url, .. } => admin_url.clone(),
        };
        let failed = |error: sqlx::Error| BenchError::Scratch(database::describe(&error));
        let mut admin = PgConnection::connect(&url).await.map_err(failed)?;
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut admin).await.map_err(failed)?;
        admin.close().await.map_err(failed)
    }
}

/// Lets the throw-away server count statements, where its installation can.
async fn count_statements(server: &Embedded) -> Result<(), BenchError> {
    let mut admin = PgConnection::connect(&server.url("postgres")).await?;
    let available: bool =
        sqlx::query_scalar("select exists (select from pg_available_extensions where name = 'pg_stat_statements')")
            .fetch_one(&mut admin)
            .await?;
    if available {
        sqlx::raw_sql("alter system set shared_preload_libraries = 'pg_stat_statements'").execute(&mut admin).await?;
    }
    admin.close().await?;
    if available {
        server.restart(Stop::Fast).await?;
    }
    Ok(())
}

/// The same URL with another database.
fn url_of(url: &str, database: &str) -> Result<String, BenchError> {
    let mut url = reqwest::Url::parse(url).map_err(|_| BenchError::Url)?;
    url.set_path(database);
    Ok(url.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_database_on_the_same_server() {
        let url = |text: &str| url_of(text, "other").expect("a URL");
        assert_eq!(url("postgres://u:p@h:5432/app?sslmode=disable"), "postgres://u:p@h:5432/other?sslmode=disable");
        assert_eq!(url("postgres://h"), "postgres://h/other");
        assert!(url_of("nonsense", "other").is_err());
    }
}
