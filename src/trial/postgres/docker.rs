//! The same by Docker, where the server's programs are missing.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::trial::postgres::{PostgresError, url};

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
