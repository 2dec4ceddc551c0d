//! One Postgres a test binary, one database a test.
//!
//! The server is that of TEST_DATABASE_URL (whose user may create databases), else a container where a Docker engine
//! answers, else the machine's own. Tests run on runtimes of their own, so nothing here belongs to a runtime; and statics
//! are never dropped, so the servers end when this process does.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::str::FromStr as _;

use chert_outbox::trial::postgres::{ContainerRemoval, Durability, Embedded, docker_answers};
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};
use testcontainers_modules::postgres::Postgres;
use testcontainers_modules::testcontainers::runners::AsyncRunner as _;
use testcontainers_modules::testcontainers::{ImageExt as _, TestcontainersError};
use tokio::sync::OnceCell;
use uuid::Uuid;

static MIGRATOR: Migrator = sqlx::migrate!();

/// A migrated database of its own for one test, dropped with this value, also when the test panics.
pub struct Database {
    name: String,
    url: String,
    admin: PgConnectOptions,
    pool: PgPool,
}

impl Database {
    pub async fn create() -> Database {
        let server = Server::get().await;
        let mut admin = server.lock().await;
        let name = format!("chert_outbox_it_{}", Uuid::new_v4().simple());
        execute(&mut admin, format!("create database {name} template {}", server.template)).await;
        admin.close().await.expect("the lock is let go");

        let pool = PgPoolOptions::new().max_connections(20).connect_lazy_with(server.admin.clone().database(&name));
        Database { url: url_of(&server.url, &name), name, admin: server.admin.clone(), pool }
    }

    /// Its URL, for other programs.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn pool(&self) -> &PgPool {
        &self.pool
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (admin, name) = (self.admin.clone(), self.name.clone());
        // The test's runtime may be the one that drops this, and must not be blocked on itself.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be made").block_on(async {
                let mut admin = PgConnection::connect_with(&admin).await?;
                sqlx::raw_sql(AssertSqlSafe(format!("drop database {name} with (force)"))).execute(&mut admin).await?;
                admin.close().await
            })
        });
        if !matches!(dropping.join(), Ok(Ok(()))) {
            eprintln!("the test database {} was left behind", self.name);
        }
    }
}

/// The server, and its template: a migrated database that tests are copied from.
struct Server {
    url: String,
    admin: PgConnectOptions,
    template: String,
    _keep: Keep,
}

/// What must live as long as the server is needed.
enum Keep {
    Nothing,
    Embedded { _server: Embedded },
    Container { _removal: ContainerRemoval },
}

impl Server {
    async fn get() -> &'static Server {
        static SERVER: OnceCell<Server> = OnceCell::const_new();
        SERVER.get_or_init(Server::start).await
    }

    async fn start() -> Server {
        let (url, keep) = match std::env::var("TEST_DATABASE_URL") {
            Ok(url) => (url, Keep::Nothing),
            Err(_) => match container().await {
                Some((url, removal)) => (url, Keep::Container { _removal: removal }),
                None => {
                    let server = Embedded::start(Durability::None).await;
                    let server = server.unwrap_or_else(|error| panic!("{error} ({error:?}); or set TEST_DATABASE_URL"));
                    (server.url("postgres"), Keep::Embedded { _server: server })
                }
            },
        };
        let admin = PgConnectOptions::from_str(&url).expect("TEST_DATABASE_URL is a URL of Postgres");
        let server = Server { url, admin, template: template_name(), _keep: keep };
        server.make_template().await;
        server
    }

    /// An administrator's session that holds the lock: a template that somebody copies cannot be made, nor copied by
    /// two at once.
    async fn lock(&self) -> PgConnection {
        let mut admin = PgConnection::connect_with(&self.admin).await.expect("the test server answers");
        sqlx::query("select pg_advisory_lock(hashtext('chert_outbox_template'))")
            .execute(&mut admin)
            .await
            .expect("the lock is free in the end");
        admin
    }

    /// Named after the migrations, so that a server that stays keeps one template a schema. It gets its name when it is
    /// whole: a run that was killed half-way leaves none.
    async fn make_template(&self) {
        let mut admin = self.lock().await;
        let there: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
            .bind(&self.template)
            .fetch_one(&mut admin)
            .await
            .expect("databases can be listed");
        if !there {
            let unfinished = format!("{}_unfinished", self.template);
            execute(&mut admin, format!("drop database if exists {unfinished} with (force)")).await;
            execute(&mut admin, format!("create database {unfinished}")).await;
            let mut conn =
                PgConnection::connect_with(&self.admin.clone().database(&unfinished)).await.expect("it was just made");
            MIGRATOR.run(&mut conn).await.expect("the migrations apply to an empty database");
            conn.close().await.expect("closes");
            execute(&mut admin, format!("alter database {unfinished} rename to {}", self.template)).await;
        }
        admin.close().await.expect("the lock is let go");
    }
}

/// The same URL with another database. Not by `to_url_lossy`, which adds parameters that only sqlx knows.
fn url_of(url: &str, database: &str) -> String {
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let authority = base.find("://").map_or(0, |at| at + 3);
    let base = base[authority..].find('/').map_or(base, |at| &base[..authority + at]);
    if query.is_empty() { format!("{base}/{database}") } else { format!("{base}/{database}?{query}") }
}

fn template_name() -> String {
    let mut hash = DefaultHasher::new();
    MIGRATOR.iter().for_each(|migration| migration.checksum.hash(&mut hash));
    format!("chert_outbox_template_{:016x}", hash.finish())
}

async fn execute(conn: &mut PgConnection, statement: String) {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(conn).await.expect("this user may create databases");
}

/// The URL of a server in a container, none where there is no Docker. Its removal is a process of ours and not the
/// container's destructor, which a static never runs.
async fn container() -> Option<(String, ContainerRemoval)> {
    if !docker_answers().await {
        return None;
    }
    let started: Result<_, TestcontainersError> = async {
        let image = Postgres::default().with_host_auth().with_tag("17-alpine");
        let settings = ["postgres", "-c", "fsync=off", "-c", "full_page_writes=off", "-c", "max_connections=300"];
        let container = image.with_cmd(settings).start().await?;
        let removal = ContainerRemoval::arm(container.id()).expect("there is a shell");
        let (host, port) = (container.get_host().await?, container.get_host_port_ipv4(5432).await?);
        std::mem::forget(container);
        Ok((format!("postgres://postgres@{host}:{port}/postgres"), removal))
    }
    .await;
    started.inspect_err(|error| eprintln!("no container, trying the machine's own Postgres: {error}")).ok()
}
