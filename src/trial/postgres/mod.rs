//! A throw-away Postgres for the demo, the bench, the proof and the tests: from the machine's own server binaries, or from
//! Docker.
//!
//! Not the crate pgtemp: as root it needs sudo, it panics where it should return errors, it cannot restart its server, and
//! it leaves the server's output in a pipe that nobody drains.

mod docker;
mod machine;
mod pooler;
mod watcher;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::trial::postgres::watcher::Watcher;

pub use docker::{Container, ContainerRemoval, docker, docker_answers};

/// How safe, and so how slow, a commit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// As on a production server: what was committed survives a crash of the machine.
    Full,
    /// For tests: survives a kill of the server, not of the machine.
    None,
}

/// How the server goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Sessions are ended and all is written.
    Fast,
    /// As in a crash: the next start recovers from the log.
    Immediate,
    /// A crash: SIGKILL to every process of the server at once.
    Kill,
}

/// A server on a free port of 127.0.0.1, with the superuser `postgres` and no password. It ends, and its data goes, when
/// this is dropped (which waits for that, some tenths of a second), and also when this process is killed. It belongs to no
/// runtime: start it in one, use it in others.
#[derive(Debug)]
pub struct Embedded {
    watcher: Arc<Mutex<Watcher>>,
    root: PathBuf,
    port: u16,
}

impl Embedded {
    /// Makes a cluster in a temporary directory and starts its server, which takes a second or two. Started by root, the
    /// server runs as the user `postgres`, or else `nobody`.
    /// Errors: see [`PostgresError`]; nothing is left behind.
    pub async fn start(durability: Durability) -> Result<Embedded, PostgresError> {
        Embedded::make(Watcher::start, move |watcher| watcher.make_cluster(durability)).await
    }

    /// The same without durability, and with a tablespace `small` on a disk of 32 MB, which [`Embedded::fill_disk`] fills.
    /// Errors: `PostgresError::NoSmallDisk` where the kernel does not let us make such a disk.
    pub async fn start_on_a_small_disk() -> Result<Embedded, PostgresError> {
        Embedded::make(Watcher::start_on_a_small_disk, |watcher| watcher.make_cluster(Durability::None)).await
    }

    /// The same without durability, and with a clock that [`Embedded::set_clock`] sets.
    /// Errors: `PostgresError::NoFakeClock` where libfaketime is not installed.
    pub async fn start_with_a_clock() -> Result<Embedded, PostgresError> {
        Embedded::make(Watcher::start_with_a_clock, |watcher| watcher.make_cluster(Durability::None)).await
    }

    /// The same without durability, and with a clock that is this many seconds off the machine's. It cannot be set, and costs less.
    /// Errors: `PostgresError::NoFakeClock` where libfaketime is not installed.
    pub async fn start_off_by(offset_secs: i32) -> Result<Embedded, PostgresError> {
        let watch = move || Watcher::start_off_by(offset_secs);
        Embedded::make(watch, |watcher| watcher.make_cluster(Durability::None)).await
    }

    /// Sets the server's clock this many seconds off the machine's.
    pub fn set_clock(&self, offset_secs: i32) -> Result<(), PostgresError> {
        watcher::write_clock(&self.root, offset_secs)
    }

    /// Makes a standby of this server, which streams from it and answers questions on a port of its own. It is a server by
    /// itself: it stays when this one goes.
    pub async fn standby(&self) -> Result<Embedded, PostgresError> {
        let primary = self.port;
        Embedded::make(Watcher::start, move |watcher| watcher.copy_cluster(primary)).await
    }

    async fn make(
        watch: impl FnOnce() -> Result<Watcher, PostgresError> + Send + 'static,
        fill: impl FnOnce(&mut Watcher) -> Result<(), PostgresError> + Send + 'static,
    ) -> Result<Embedded, PostgresError> {
        blocking(move || {
            let mut watcher = watch()?;
            fill(&mut watcher)?;
            let port = watcher.start_server_on_a_free_port()?;
            let root = watcher.root.clone();
            Ok(Embedded { watcher: Arc::new(Mutex::new(watcher)), root, port })
        })
        .await
    }

    /// The URL of one of its databases; `postgres` is always there.
    pub fn url(&self, database: &str) -> String {
        url(self.port, database)
    }

    /// Stops the server, as told, and starts it again on the same port and data.
    pub async fn restart(&self, how: Stop) -> Result<(), PostgresError> {
        self.take_down(how).await?;
        self.bring_up().await
    }

    /// Stops the server: from now on, nobody answers on its port.
    pub async fn take_down(&self, how: Stop) -> Result<(), PostgresError> {
        self.tell(move |watcher| watcher.stop_server(how)).await
    }

    /// Starts a server that was taken down, on the same port and data.
    pub async fn bring_up(&self) -> Result<(), PostgresError> {
        let port = self.port;
        self.tell(move |watcher| watcher.start_server_again(port)).await
    }

    /// Makes a standby a server of its own, which takes writes from now on.
    pub async fn promote(&self) -> Result<(), PostgresError> {
        self.tell(Watcher::promote).await
    }

    /// Leaves no room on the small disk, or makes room again.
    pub async fn fill_disk(&self, full: bool) -> Result<(), PostgresError> {
        self.tell(move |watcher| watcher.fill_disk(full)).await
    }

    async fn tell(
        &self,
        command: impl FnOnce(&mut Watcher) -> Result<(), PostgresError> + Send + 'static,
    ) -> Result<(), PostgresError> {
        let watcher = Arc::clone(&self.watcher);
        blocking(move || command(&mut watcher.lock().expect("no holder of this lock panics"))).await
    }

    /// Ends the server in good order and removes its data. Dropping it does the same, in the way of [`Stop::Immediate`].
    pub async fn stop(self) -> Result<(), PostgresError> {
        self.take_down(Stop::Fast).await?;
        blocking(move || {
            drop(self);
            Ok(())
        })
        .await
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id of the server; none while it is down.
    pub fn pid(&self) -> Option<u32> {
        let pid_file = fs::read_to_string(self.root.join("data/postmaster.pid")).ok()?;
        pid_file.lines().next()?.trim().parse().ok()
    }

    /// Where its data and its log are.
    pub fn directory(&self) -> &Path {
        &self.root
    }
}

/// The library that lets a program see another time than the machine's.
/// Errors: `PostgresError::NoFakeClock` where libfaketime is not installed.
pub fn fake_clock() -> Result<PathBuf, PostgresError> {
    machine::find_fake_clock().ok_or(PostgresError::NoFakeClock)
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    #[error(
        "found no Postgres server (the programs postgres, initdb and pg_ctl). Install one (Debian and Ubuntu: apt install \
         postgresql; Fedora: dnf install postgresql-server; macOS: brew install postgresql), or put its directory on PATH"
    )]
    NoServer,
    #[error("Postgres refuses to run as root, and there is neither a user `postgres` nor `nobody` to run it as")]
    NoAccount,
    #[error("making a directory for the data of Postgres")]
    Directory(#[source] io::Error),
    #[error("starting the shell that watches over Postgres")]
    Watcher(#[source] io::Error),
    #[error("talking to the shell that watches over Postgres")]
    Talk(#[source] io::Error),
    #[error("initdb failed: {log}")]
    InitDb { log: String },
    #[error("the Postgres server did not start: {log}")]
    Start { log: String },
    #[error("the Postgres server did not stop")]
    Stop,
    #[error("pg_basebackup is not installed beside the Postgres server")]
    NoBaseBackup,
    #[error("making a standby: {log}")]
    Standby { log: String },
    #[error("a small disk of our own cannot be made here: the kernel refuses user namespaces (unshare -Urm)")]
    NoSmallDisk,
    #[error("libfaketime is not installed (Debian and Ubuntu: apt install faketime)")]
    NoFakeClock,
    #[error("setting the clock of Postgres")]
    Clock(#[source] io::Error),
    #[error("pgbouncer is not installed (Debian and Ubuntu: apt install pgbouncer)")]
    NoPooler,
    #[error("pgbouncer did not start: {log}")]
    Pooler { log: String },
    #[error("starting Postgres in Docker: {reason}")]
    Docker { reason: String },
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PostgresError> + Send + 'static,
) -> Result<T, PostgresError> {
    tokio::task::spawn_blocking(work).await.expect("the work neither panics nor is aborted")
}

pub(super) fn url(port: u16, database: &str) -> String {
    format!("postgres://postgres@127.0.0.1:{port}/{database}")
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};

    use sqlx::{Connection as _, PgConnection};

    use super::*;

    async fn ask(server: &Embedded, sql: &'static str) -> Result<String, sqlx::Error> {
        let mut conn = PgConnection::connect(&server.url("postgres")).await?;
        sqlx::query_scalar(sql).fetch_one(&mut conn).await
    }

    #[tokio::test]
    async fn a_restarted_server_keeps_its_port_and_data_and_a_dropped_one_leaves_nothing() {
        let server = match Embedded::start(Durability::None).await {
            Err(PostgresError::NoServer) => return eprintln!("skipped: {}", PostgresError::NoServer),
            started => started.expect("the server starts"),
        };
        assert_eq!(ask(&server, "select current_setting('fsync')").await.expect("answers"), "off");
        let mut conn = PgConnection::connect(&server.url("postgres")).await.expect("connects");
        sqlx::raw_sql("create table kept as select 'kept'::text as it").execute(&mut conn).await.expect("creates");
        let (url, first_pid) = (server.url("postgres"), server.pid());

        for how in [Stop::Immediate, Stop::Kill, Stop::Fast] {
            server.restart(how).await.expect("restarts");
            assert_eq!(ask(&server, "select it from kept").await.expect("answers"), "kept");
        }
        assert_eq!(server.url("postgres"), url);
        assert!(first_pid.is_some() && server.pid().is_some() && server.pid() != first_pid);

        let root = server.directory().to_owned();
        drop(server);
        assert!(!root.exists());
        assert!(PgConnection::connect(&url).await.is_err());
    }

    #[tokio::test]
    async fn a_standby_has_what_its_primary_had_and_takes_its_place() {
        let primary = match Embedded::start(Durability::None).await {
            Err(PostgresError::NoServer) => return eprintln!("skipped: {}", PostgresError::NoServer),
            started => started.expect("the server starts"),
        };
        let standby = match primary.standby().await {
            Err(PostgresError::NoBaseBackup) => return eprintln!("skipped: {}", PostgresError::NoBaseBackup),
            made => made.expect("the standby starts"),
        };
        assert_eq!(ask(&standby, "select pg_is_in_recovery()::text").await.expect("answers"), "true");
        primary.take_down(Stop::Kill).await.expect("is killed");
        assert!(primary.pid().is_none() && ask(&primary, "select 'up'").await.is_err());
        standby.promote().await.expect("takes over");
        assert_eq!(ask(&standby, "select pg_is_in_recovery()::text").await.expect("answers"), "false");
    }

    #[tokio::test]
    async fn a_small_disk_can_be_filled_and_goes_with_its_server() {
        let server = match Embedded::start_on_a_small_disk().await {
            Err(error @ (PostgresError::NoServer | PostgresError::NoSmallDisk)) => {
                return eprintln!("skipped: {error}");
            }
            started => started.expect("the server starts"),
        };
        let disk = server.directory().join("small");
        let mut conn = PgConnection::connect(&server.url("postgres")).await.expect("connects");
        let table = format!("create tablespace small location '{}'", disk.display());
        sqlx::raw_sql(sqlx::AssertSqlSafe(table)).execute(&mut conn).await.expect("is a disk");
        sqlx::raw_sql("create table t (b text) tablespace small").execute(&mut conn).await.expect("has room");
        let write = "insert into t select repeat('x', 1000) from generate_series(1, 100)";
        server.fill_disk(true).await.expect("is filled");
        let full = sqlx::raw_sql(write).execute(&mut conn).await.expect_err("there is no room");
        let code = full.as_database_error().and_then(|refused| refused.code()).map(|code| code.into_owned());
        assert_eq!(code.as_deref(), Some("53100"), "{full}");
        server.fill_disk(false).await.expect("is emptied");
        sqlx::raw_sql(write).execute(&mut conn).await.expect("has room again");
        let root = server.directory().to_owned();
        drop((conn, server));
        assert!(!root.exists());
    }

    #[tokio::test]
    async fn a_pooler_ends_with_its_server() {
        let server = match Embedded::start(Durability::None).await {
            Err(PostgresError::NoServer) => return eprintln!("skipped: {}", PostgresError::NoServer),
            started => started.expect("the server starts"),
        };
        let url = match server.pooler(1).await {
            Err(PostgresError::NoPooler) => return eprintln!("skipped: {}", PostgresError::NoPooler),
            made => made.expect("the pooler starts"),
        };
        drop(server);
        assert!(PgConnection::connect(&url).await.is_err());
    }

    #[tokio::test]
    async fn a_stopped_server_leaves_nothing() {
        let server = match Embedded::start(Durability::Full).await {
            Err(PostgresError::NoServer) => return eprintln!("skipped: {}", PostgresError::NoServer),
            started => started.expect("the server starts"),
        };
        assert_eq!(ask(&server, "select current_setting('fsync')").await.expect("answers"), "on");
        let root = server.directory().to_owned();
        server.stop().await.expect("stops");
        assert!(!root.exists());
    }

    /// Not a test by itself: the process that the next test kills.
    #[tokio::test]
    #[ignore = "run by a_server_ends_when_its_owner_is_killed"]
    async fn owner_of_a_server() {
        let server = Embedded::start(Durability::None).await.expect("the server starts");
        println!("\nURL {}", server.url("postgres"));
        std::future::pending::<()>().await;
    }

    #[tokio::test]
    async fn a_server_ends_when_its_owner_is_killed() {
        if machine::find_bin().is_none() {
            return eprintln!("skipped: {}", PostgresError::NoServer);
        }
        let mut owner = Command::new(std::env::current_exe().expect("this binary has a path"))
            .args(["trial::postgres::tests::owner_of_a_server", "--exact", "--ignored", "--nocapture"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("this binary runs again");
        let said = BufReader::new(owner.stdout.take().expect("its output is a pipe")).lines();
        let url = said.map_while(Result::ok).find_map(|line| line.strip_prefix("URL ").map(str::to_owned));
        let mut conn = PgConnection::connect(&url.expect("the owner told it")).await.expect("the server answers");

        owner.kill().expect("SIGKILL");
        owner.wait().expect("the owner is gone");
        let cut_off = sqlx::query("select pg_sleep(60)").execute(&mut conn).await;
        assert!(cut_off.is_err(), "the server outlived its owner by a minute");
    }
}
