//! The processes of a bench: this program again, as a worker, a receiver or the local Chert.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::simulate::DEFAULT_SECRET;
use crate::trial::bench::{BenchError, process};

/// This program again, with nothing of the caller's settings.
fn again(role: &'static str) -> Result<Command, BenchError> {
    let program = std::env::current_exe().map_err(|source| BenchError::Child { role, source })?;
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if ["OUTBOX_", "CHERT_", "SIMULATE_"].iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(&*name);
        }
    }
    command.env("RUST_LOG", "warn").env("CHERT_SIGNING_SECRET", DEFAULT_SECRET);
    command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    Ok(command)
}

/// A worker that sends, on lines as the bench made them, and hears nobody.
pub fn worker(database_url: &str, base_url: &str, concurrency: u16, drain: bool) -> Result<Child, BenchError> {
    let mut command = again("the worker")?;
    command.arg("worker").args(["--concurrency", &concurrency.to_string()]);
    command.args(["--lines-refresh", "0", "--roles", "send"]).args(drain.then_some("--drain"));
    command.env("DATABASE_URL", database_url).env("CHERT_BASE_URL", base_url);
    command.spawn().map_err(|source| BenchError::Child { role: "the worker", source })
}

/// A worker that only receives, by webhook at `address`, signed with `secret`.
pub fn receiver(database_url: &str, base_url: &str, address: &str, secret: &str) -> Result<Child, BenchError> {
    let mut command = again("the receiver")?;
    command.args(["worker", "--roles", "inbound", "--events-stream", "off", "--events-list", "off"]);
    command.args(["--webhook-listen", address]).env("CHERT_WEBHOOK_SECRET", secret);
    command.env("DATABASE_URL", database_url).env("CHERT_BASE_URL", base_url);
    command.spawn().map_err(|source| BenchError::Child { role: "the receiver", source })
}

/// The local Chert in a process of its own: no latency, no first-touch rules.
pub struct Simulator {
    child: Child,
    pub base_url: String,
}

impl Simulator {
    pub async fn start() -> Result<Simulator, BenchError> {
        const ROLE: &str = "the simulator";
        let failed = |source| BenchError::Child { role: ROLE, source };
        let mut command = again(ROLE)?;
        command.args(["simulate", "--port", "0", "--lines", "1"]);
        command.args(["--first-touch-gap", "0s", "--first-touch-cap", "none", "--ledger-limit", "10000"]);
        let mut child = command.stdout(Stdio::piped()).spawn().map_err(failed)?;
        let mut said = BufReader::new(child.stdout.take().expect("its output is a pipe")).lines();
        while let Some(line) = said.next_line().await.map_err(failed)? {
            if let Some(base_url) = line.strip_prefix("export CHERT_BASE_URL=") {
                let base_url = base_url.to_owned();
                // Read on, so that it never waits for a reader.
                tokio::spawn(async move { while let Ok(Some(_)) = said.next_line().await {} });
                return Ok(Simulator { child, base_url });
            }
        }
        Err(BenchError::ChildEnded { role: ROLE, how: "it did not say where it listens".to_owned() })
    }

    pub fn cpu_secs(&self) -> Option<f64> {
        process::cpu_secs(self.child.id()?)
    }

    pub async fn stop(&mut self) -> Result<(), BenchError> {
        self.child.kill().await.map_err(|source| BenchError::Child { role: "the simulator", source })
    }
}
