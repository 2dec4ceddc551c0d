//! A throw-away Postgres for the demo, the bench and the tests: from the machine's own server binaries, or from Docker.
//!
//! Not the crate pgtemp: as root it needs sudo, it panics where it should return errors, it cannot restart its server, and
//! it leaves the server's output in a pipe that nobody drains.
//!
//! The server must end with us, also when we are killed. `PR_SET_PDEATHSIG` would need unsafe code and Linux, so a small
//! shell, the watcher, stands between us and the server and holds one end of a pipe from us: however we end, the kernel
//! closes our end, the watcher reads the end of its input, stops the server and removes its directory.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::unistd::{Uid, User};
use tempfile::TempDir;

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
        blocking(move || {
            let mut watcher = Watcher::start()?;
            watcher.make_cluster(durability)?;
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
        let (watcher, port) = (Arc::clone(&self.watcher), self.port);
        blocking(move || {
            let mut watcher = watcher.lock().expect("no holder of this lock panics");
            watcher.stop_server(how)?;
            watcher.start_server_again(port)
        })
        .await
    }

    /// Ends the server in good order and removes its data. Dropping it does the same, in the way of [`Stop::Immediate`].
    pub async fn stop(self) -> Result<(), PostgresError> {
        blocking(move || {
            self.watcher.lock().expect("no holder of this lock panics").stop_server(Stop::Fast)?;
            drop(self);
            Ok(())
        })
        .await
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
    #[error("starting Postgres in Docker: {reason}")]
    Docker { reason: String },
}

/// Runs in the watcher with the bin directory and the root directory as arguments; answers each command with one line.
/// It must outlive us, so it ignores that nobody reads its answers any more.
const WATCHER: &str = r#"
bin=$1 root=$2
trap '' PIPE
answer() { if "$@" >>"$root/watcher.log" 2>&1 </dev/null; then echo ok; else echo failed; fi; }
stop() { "$bin/pg_ctl" stop -s -w -t 60 -D "$root/data" -m "$1"; }
echo ok
while read -r command argument; do
    case $command in
        initdb) answer "$bin/initdb" -D "$root/data" -U postgres -A trust -E UTF8 --no-locale --no-sync ;;
        start) answer "$bin/pg_ctl" start -s -w -t 60 -D "$root/data" -l "$root/server.log" -o "-p $argument" ;;
        stop) answer stop "$argument" ;;
    esac
done
stop immediate >/dev/null 2>&1 </dev/null
rm -rf "$root"
"#;

/// The shell, our ends of its pipes, and the directory that it removes in the end.
#[derive(Debug)]
struct Watcher {
    child: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    root: PathBuf,
}

impl Watcher {
    fn start() -> Result<Watcher, PostgresError> {
        let bin = find_bin().ok_or(PostgresError::NoServer)?;
        let account = account()?;
        let root = make_root(account.as_ref()).map_err(PostgresError::Directory)?;

        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(WATCHER).arg("chert-outbox-postgres").arg(bin).arg(root.path());
        // A group of its own: the Ctrl-C that lets us finish must not take the server away under us. Nothing of the
        // caller's PG* variables, and English messages, since one of them is looked for below.
        shell.process_group(0).current_dir("/").env_clear().env("LC_ALL", "C");
        shell.env("PATH", std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()));
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        if let Some(user) = &account {
            // The standard library also clears the supplementary groups when root sets a uid.
            shell.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        let mut child = shell.spawn().map_err(PostgresError::Watcher)?;
        let commands = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().expect("its output is a pipe"));
        let mut watcher = Watcher { child, commands, answers, root: root.path().to_owned() };
        // From its first word on, the watcher is the one that removes the directory.
        watcher.answer().map_err(PostgresError::Talk)?;
        let _ = root.keep();
        Ok(watcher)
    }

    fn make_cluster(&mut self, durability: Durability) -> Result<(), PostgresError> {
        if !self.ask("initdb")? {
            return Err(PostgresError::InitDb { log: self.log_tail("watcher.log") });
        }
        let mut settings = format!(
            "listen_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\nmax_connections = 300\n\
             shared_buffers = 128MB\nautovacuum = on\ntimezone = 'UTC'\nlog_timezone = 'UTC'\n",
            self.root.display()
        );
        if durability == Durability::None {
            // synchronous_commit stays on: without fsync it costs next to nothing, and switched off it would lose commits
            // when a test kills the server.
            settings.push_str("fsync = off\nfull_page_writes = off\n");
        }
        let append = || -> io::Result<()> {
            let mut file = File::options().append(true).open(self.root.join("data/postgresql.conf"))?;
            file.write_all(settings.as_bytes())
        };
        append().map_err(PostgresError::Directory)
    }

    /// Somebody else may take the port between our look and the server's: then another one.
    fn start_server_on_a_free_port(&mut self) -> Result<u16, PostgresError> {
        let mut tries_left = 5;
        loop {
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
            let port = free.map_err(PostgresError::Talk)?.port();
            tries_left -= 1;
            match self.start_server(port) {
                Err(error) if error.is_port_taken() && tries_left > 0 => {}
                result => return result.map(|()| port),
            }
        }
    }

    /// The port must stay, and the system may have lent it to an outgoing connection meanwhile (even to a client that
    /// kept knocking and so reached itself): that ends soon.
    fn start_server_again(&mut self, port: u16) -> Result<(), PostgresError> {
        let mut tries_left = 25;
        loop {
            tries_left -= 1;
            match self.start_server(port) {
                Err(error) if error.is_port_taken() && tries_left > 0 => std::thread::sleep(Duration::from_millis(200)),
                result => return result,
            }
        }
    }

    fn start_server(&mut self, port: u16) -> Result<(), PostgresError> {
        match self.ask(&format!("start {port}"))? {
            true => Ok(()),
            false => Err(PostgresError::Start { log: self.log_tail("server.log") }),
        }
    }

    fn stop_server(&mut self, how: Stop) -> Result<(), PostgresError> {
        let mode = match how {
            Stop::Fast => "fast",
            Stop::Immediate => "immediate",
        };
        if self.ask(&format!("stop {mode}"))? { Ok(()) } else { Err(PostgresError::Stop) }
    }

    fn ask(&mut self, command: &str) -> Result<bool, PostgresError> {
        let commands = self.commands.as_mut().expect("the pipe is closed by drop alone");
        writeln!(commands, "{command}").and_then(|()| self.answer()).map_err(PostgresError::Talk)
    }

    fn answer(&mut self) -> io::Result<bool> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        match line.trim() {
            "ok" => Ok(true),
            "failed" => Ok(false),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn log_tail(&self, file: &str) -> String {
        let log = fs::read_to_string(self.root.join(file)).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        drop(self.commands.take());
        let _ = self.child.wait();
    }
}

impl PostgresError {
    fn is_port_taken(&self) -> bool {
        matches!(self, PostgresError::Start { log } if log.contains("Address already in use"))
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PostgresError> + Send + 'static,
) -> Result<T, PostgresError> {
    tokio::task::spawn_blocking(work).await.expect("the work neither panics nor is aborted")
}

fn url(port: u16, database: &str) -> String {
    format!("postgres://postgres@127.0.0.1:{port}/{database}")
}

/// The directory of the server's programs: on PATH, else where packages put it, the newest version first.
fn find_bin() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let packaged = [
        ("/usr/lib/postgresql", "", "bin"),
        ("/usr", "pgsql-", "bin"),
        ("/opt/homebrew/opt", "postgresql", "bin"),
        ("/usr/local/opt", "postgresql", "bin"),
    ];
    let packaged = packaged.into_iter().flat_map(|(parent, prefix, bin)| {
        let names = fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.file_name());
        let names = names.filter_map(|name| name.into_string().ok()).filter(|name| name.starts_with(prefix));
        let mut found: Vec<(u32, PathBuf)> =
            names.map(|name| (version(&name), Path::new(parent).join(name).join(bin))).collect();
        found.sort_by(|a, b| b.cmp(a));
        found.into_iter().map(|(_, bin)| bin)
    });
    let programs = ["postgres", "initdb", "pg_ctl"];
    let whole = |bin: &PathBuf| bin.is_absolute() && programs.iter().all(|program| bin.join(program).is_file());
    std::env::split_paths(&path).chain(packaged).find(whole)
}

/// The number in `17`, `pgsql-17` or `postgresql@17`; 0 if there is none.
fn version(name: &str) -> u32 {
    name.trim_start_matches(|c: char| !c.is_ascii_digit()).split('.').next().unwrap_or_default().parse().unwrap_or(0)
}

/// Whom to run the server as; none is ourselves.
fn account() -> Result<Option<User>, PostgresError> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    let named = |name| User::from_name(name).ok().flatten();
    named("postgres").or_else(|| named("nobody")).map(Some).ok_or(PostgresError::NoAccount)
}

/// An empty directory that the account owns and can reach; the temporary directory may lie in root's own home.
fn make_root(account: Option<&User>) -> io::Result<TempDir> {
    let Some(user) = account else { return tempfile::Builder::new().prefix("chert-outbox-pg-").tempdir() };
    let everybody_may_pass = |dir: &&PathBuf| {
        dir.ancestors().all(|dir| fs::metadata(dir).is_ok_and(|dir| dir.is_dir() && dir.mode() & 0o001 != 0))
    };
    let bases = [std::env::temp_dir(), "/tmp".into(), "/var/tmp".into()];
    let base = bases.iter().find(everybody_may_pass).unwrap_or(&bases[0]);
    let root = tempfile::Builder::new().prefix("chert-outbox-pg-").tempdir_in(base)?;
    chown(root.path(), Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
    Ok(root)
}

/// A server in a container, with the superuser `postgres` and no password. It goes when this is dropped or when this
/// process ends.
#[derive(Debug)]
pub struct Container {
    port: u16,
    _removal: ContainerRemoval,
}

impl Container {
    /// The URL of one of its databases; `postgres` is always there.
    pub fn url(&self, database: &str) -> String {
        url(self.port, database)
    }
}

/// Where the server's programs are missing: the same by the docker command line, if an engine answers. Fetching the image
/// may take minutes.
/// Errors: [`PostgresError::Docker`] with what docker said.
pub async fn docker() -> Result<Container, PostgresError> {
    let mut run = vec!["run", "--rm", "-d", "-p", "127.0.0.1::5432", "-e", "POSTGRES_HOST_AUTH_METHOD=trust"];
    run.extend(["postgres:17-alpine", "-c", "max_connections=300"]);
    let id = docker_says(&run).await?;
    let removal = ContainerRemoval::arm(&id).map_err(|error| PostgresError::Docker { reason: error.to_string() })?;
    let address = docker_says(&["port", &id, "5432/tcp"]).await?;
    let port = address.lines().next().and_then(|line| line.rsplit(':').next()?.trim().parse().ok());
    let port = port.ok_or_else(|| PostgresError::Docker { reason: format!("no port in `{address}`") })?;

    // While the image sets itself up, its server listens on a socket only: TCP answers when all is done.
    let mut tries_left = 150;
    loop {
        tries_left -= 1;
        match docker_says(&["exec", &id, "pg_isready", "-h", "127.0.0.1", "-U", "postgres"]).await {
            Ok(_) => return Ok(Container { port, _removal: removal }),
            Err(error) if tries_left == 0 => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

/// Whether a Docker engine answers, asked for three seconds.
pub async fn docker_answers() -> bool {
    let asked = docker_says(&["version", "--format", "{{.Server.Version}}"]);
    tokio::time::timeout(Duration::from_secs(3), asked).await.is_ok_and(|answer| answer.is_ok())
}

async fn docker_says(args: &[&str]) -> Result<String, PostgresError> {
    let mut docker = tokio::process::Command::new("docker");
    let output = docker.args(args).stdin(Stdio::null()).kill_on_drop(true).output().await;
    let output = output.map_err(|error| PostgresError::Docker { reason: format!("running docker: {error}") })?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(PostgresError::Docker { reason: text(&output.stderr) }),
    }
}

/// Removes a container when it is dropped or when this process ends in whatever way: a shell waits at a pipe from us, as
/// the watcher does.
#[derive(Debug)]
pub struct ContainerRemoval(Child);

impl ContainerRemoval {
    /// From now on, the container of this id ends with us. Errors: there is no /bin/sh.
    pub fn arm(id: &str) -> io::Result<ContainerRemoval> {
        let script = r#"read -r _; docker rm -f "$1""#;
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", script, "chert-outbox-container", id]).process_group(0);
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        shell.spawn().map(ContainerRemoval)
    }
}

impl Drop for ContainerRemoval {
    fn drop(&mut self) {
        // `wait` closes the pipe first.
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use sqlx::{Connection as _, PgConnection};

    use super::*;

    async fn ask(server: &Embedded, sql: &'static str) -> Result<String, sqlx::Error> {
        let mut conn = PgConnection::connect(&server.url("postgres")).await?;
        sqlx::query_scalar(sql).fetch_one(&mut conn).await
    }

    #[test]
    fn versions_are_read_from_names() {
        assert_eq!(["17", "9.6", "pgsql-16", "postgresql@15", "postgresql"].map(version), [17, 9, 16, 15, 0]);
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

        for how in [Stop::Immediate, Stop::Fast] {
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
        if find_bin().is_none() {
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
