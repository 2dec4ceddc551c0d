//! Where a trial takes place: a database of its own, never the one that holds somebody's jobs. A worker of a trial talks
//! to a simulator, so a real job in its reach would be called sent and reach nobody.

use std::str::FromStr as _;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection as _, PgPool};
use uuid::Uuid;

use crate::database::{self, DatabaseError, describe};
use crate::trial::postgres::{Container, Durability, Embedded, PostgresError, docker, docker_answers};

/// The roles that migrations make; they belong to the whole server.
const ROLES: [&str; 3] = ["outbox_producer", "outbox_worker", "outbox_viewer"];

/// An empty, migrated outbox. With a server of our own it goes when this is dropped; what was made on another's server
/// goes with [`Ground::clear`].
pub struct Ground {
    url: String,
    deployment: String,
    place: Place,
}

enum Place {
    Embedded(Embedded),
    Docker(Container),
    /// A new database on the server that DATABASE_URL names.
    Database {
        admin: Box<PgConnectOptions>,
        name: String,
        new_roles: Vec<&'static str>,
    },
    /// The schema in the very database that DATABASE_URL names, where there was none.
    Schema {
        new_roles: Vec<&'static str>,
    },
}

/// Why there is no ground, as a sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum GroundError {
    #[error(
        "no Postgres to run on: install its server (Debian and Ubuntu: apt install postgresql; Fedora: dnf install \
         postgresql-server; macOS: brew install postgresql), or start Docker, or set DATABASE_URL"
    )]
    NoPostgres,
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(
        "the user of DATABASE_URL may not create a database, and the outbox that is there is left alone: grant CREATEDB, or \
         unset DATABASE_URL to use a Postgres of this machine"
    )]
    Occupied,
    #[error("preparing a database beside the one that DATABASE_URL names: {0}")]
    Prepare(String),
    #[error("removing what the trial made on the server that DATABASE_URL names: {0}")]
    Clear(String),
}

impl Ground {
    /// Finds a server and makes an empty outbox on it: the server of `database_url` if there is one, else one from this
    /// machine's own Postgres programs, else one in Docker.
    pub async fn find(database_url: Option<&str>) -> Result<Ground, GroundError> {
        // A name of its own for the deployment: a worker of somebody else that finds this outbox refuses it.
        let name = format!("chert_outbox_trial_{}", &Uuid::new_v4().simple().to_string()[..12]);
        let (url, place) = match database_url {
            Some(url) => beside(url, &name).await?,
            None => of_this_machine().await?,
        };
        let ground = Ground { url, deployment: name, place };
        match ground.migrate().await {
            Ok(()) => Ok(ground),
            Err(error) => {
                let _ = ground.clear().await;
                Err(error)
            }
        }
    }

    /// The database's URL; it may hold a password.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What `OUTBOX_DEPLOYMENT` must be for a worker here.
    pub fn deployment(&self) -> &str {
        &self.deployment
    }

    /// Where it is, for people.
    pub fn describe(&self) -> String {
        match &self.place {
            Place::Embedded(_) => "a throw-away server from this machine's own programs".to_owned(),
            Place::Docker(_) => "a throw-away server in Docker".to_owned(),
            Place::Database { name, .. } => format!("a new database {name} on the server that DATABASE_URL names"),
            Place::Schema { .. } => "a new schema outbox in the database that DATABASE_URL names".to_owned(),
        }
    }

    /// How people reach it, without a password.
    pub fn shown_url(&self) -> String {
        match &self.place {
            Place::Embedded(_) | Place::Docker(_) => self.url.clone(),
            Place::Database { name, .. } => format!("\"$DATABASE_URL\" with the database {name}"),
            Place::Schema { .. } => "\"$DATABASE_URL\"".to_owned(),
        }
    }

    /// What a person runs to remove it later; none if it goes with this process.
    pub fn removal(&self) -> Option<String> {
        match &self.place {
            Place::Embedded(_) | Place::Docker(_) => None,
            Place::Database { name, .. } => Some(format!("drop database {name}")),
            Place::Schema { .. } => Some("drop schema outbox cascade".to_owned()),
        }
    }

    /// Removes all that was made.
    pub async fn clear(self) -> Result<(), GroundError> {
        let failed = |error: sqlx::Error| GroundError::Clear(describe(&error));
        match self.place {
            Place::Embedded(server) => server.stop().await?,
            // Its removal waits for a process.
            Place::Docker(container) => drop(tokio::task::spawn_blocking(move || drop(container)).await),
            Place::Database { admin, name, new_roles } => {
                let mut conn = PgConnection::connect_with(&admin).await.map_err(failed)?;
                execute(&mut conn, format!("drop database if exists {name} with (force)")).await.map_err(failed)?;
                drop_roles(&mut conn, &new_roles).await;
            }
            Place::Schema { new_roles } => {
                let mut conn = PgConnection::connect(&self.url).await.map_err(failed)?;
                execute(&mut conn, "drop schema if exists outbox cascade".to_owned()).await.map_err(failed)?;
                drop_roles(&mut conn, &new_roles).await;
            }
        }
        Ok(())
    }

    async fn migrate(&self) -> Result<(), GroundError> {
        let pool: PgPool = database::connect(&self.url, 1).await?;
        database::migrate(&pool, &self.deployment).await?;
        pool.close().await;
        Ok(())
    }
}

async fn of_this_machine() -> Result<(String, Place), GroundError> {
    match Embedded::start(Durability::None).await {
        Ok(server) => Ok((server.url("postgres"), Place::Embedded(server))),
        Err(PostgresError::NoServer) if docker_answers().await => {
            let container = docker().await?;
            Ok((container.url("postgres"), Place::Docker(container)))
        }
        Err(PostgresError::NoServer) => Err(GroundError::NoPostgres),
        Err(error) => Err(error.into()),
    }
}

async fn beside(url: &str, name: &str) -> Result<(String, Place), GroundError> {
    let failed = |error: sqlx::Error| GroundError::Prepare(describe(&error));
    let admin = PgConnectOptions::from_str(url).map_err(|_| DatabaseError::Url)?.application_name("chert-outbox");
    let unreachable = |error: sqlx::Error| DatabaseError::Connect(describe(&error));
    let mut conn = PgConnection::connect_with(&admin).await.map_err(unreachable)?;
    let there: Vec<String> = sqlx::query_scalar!(
        r#"select rolname::text as "rolname!" from pg_roles where rolname = any ($1)"#,
        &ROLES.map(str::to_owned) as &[String],
    )
    .fetch_all(&mut conn)
    .await
    .map_err(failed)?;
    let new_roles = ROLES.into_iter().filter(|role| !there.iter().any(|there| there == role)).collect();

    // From template0, which nobody can be connected to and nobody has added to.
    match execute(&mut conn, format!("create database {name} template template0")).await {
        Ok(()) => Ok((url_of(url, name), Place::Database { admin: Box::new(admin), name: name.to_owned(), new_roles })),
        Err(error) if is_forbidden(&error) => {
            // An empty outbox is no safer than a full one: a worker of somebody else may be waiting at it, and would send
            // the trial's jobs for real.
            let taken = sqlx::query_scalar!(r#"select to_regnamespace('outbox') is not null as "taken!""#)
                .fetch_one(&mut conn)
                .await
                .map_err(failed)?;
            if taken { Err(GroundError::Occupied) } else { Ok((url.to_owned(), Place::Schema { new_roles })) }
        }
        Err(error) => Err(failed(error)),
    }
}

fn is_forbidden(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|refused| refused.code()).as_deref() == Some("42501")
}

async fn execute(conn: &mut PgConnection, statement: String) -> Result<(), sqlx::Error> {
    // Only our own names go into these statements, never anything from outside.
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(conn).await.map(drop)
}

/// Roles that were not there before. Another outbox of this server may have come to need them meanwhile: then they stay.
async fn drop_roles(conn: &mut PgConnection, roles: &[&str]) {
    for role in roles {
        let _ = execute(conn, format!("drop role if exists {role}")).await;
    }
}

/// The same URL with another database. Not by `to_url_lossy`, which adds parameters that only sqlx knows.
fn url_of(url: &str, database: &str) -> String {
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let authority = base.find("://").map_or(0, |at| at + 3);
    let base = base[authority..].find('/').map_or(base, |at| &base[..authority + at]);
    let query: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("dbname=")).collect();
    if query.is_empty() { format!("{base}/{database}") } else { format!("{base}/{database}?{}", query.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_database_of_a_url_is_changed() {
        for (url, wanted) in [
            ("postgres://a:b@host:5432/app", "postgres://a:b@host:5432/new"),
            ("postgres://host", "postgres://host/new"),
            ("postgres://host/app?sslmode=require", "postgres://host/new?sslmode=require"),
            ("postgres:///app?host=/run/postgresql", "postgres:///new?host=/run/postgresql"),
            ("postgres://host?dbname=app&user=a", "postgres://host/new?user=a"),
        ] {
            assert_eq!(url_of(url, "new"), wanted);
        }
    }
}
