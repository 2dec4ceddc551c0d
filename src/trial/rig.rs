//! Worker processes for trials: this very program, started as `worker`, so that a SIGKILL is a real one. None outlives us,
//! however we end: a shell waits at a pipe from us beside each of them.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

/// What all workers of a trial are started with. It shows itself to nobody: it holds the database's URL and the secret.
#[derive(Clone)]
pub struct WorkerSetup {
    /// The program; usually `std::env::current_exe()`.
    pub program: PathBuf,
    pub database_url: String,
    pub base_url: String,
    pub secret: String,
    /// More of the environment, e.g. `("OUTBOX_LEASE", "5s")`. Nothing else of `OUTBOX_*` and `CHERT_*` reaches a worker,
    /// whatever is in ours.
    pub env: Vec<(&'static str, String)>,
    /// Where each worker's log goes, as `<name>.log`.
    pub logs: PathBuf,
}

/// Why a worker does not run.
#[derive(Debug, thiserror::Error)]
pub enum RigError {
    #[error("opening a worker's log file: {0}")]
    Log(#[source] io::Error),
    #[error("starting a worker process: {0}")]
    Start(#[source] io::Error),
    #[error("starting the shell that watches over a worker: {0}")]
    Guard(#[source] io::Error),
    #[error("waiting for the end of a worker: {0}")]
    Wait(#[source] io::Error),
    #[error("{name} did not end within {patience:?} of SIGTERM")]
    Stuck { name: String, patience: Duration },
}

/// A running worker; dropping it kills it.
pub struct WorkerProcess {
    name: String,
    pid: Pid,
    child: Child,
    guard: Guard,
    log: PathBuf,
}

impl WorkerProcess {
    /// Starts a worker of this name, which is also what `status` shows. It claims as soon as it is up, within a second.
    pub fn start(setup: &WorkerSetup, name: &str) -> Result<WorkerProcess, RigError> {
        let log = setup.logs.join(format!("{name}.log"));
        let log_file = File::create(&log).map_err(RigError::Log)?;
        let mut command = Command::new(&setup.program);
        let ours = std::env::vars_os().map(|(variable, _)| variable);
        for foreign in ours.filter(|variable| is_foreign(&variable.to_string_lossy())) {
            command.env_remove(foreign);
        }
        command
            .arg("worker")
            .env("DATABASE_URL", &setup.database_url)
            .env("CHERT_BASE_URL", &setup.base_url)
            .env("CHERT_SIGNING_SECRET", &setup.secret)
            .env("OUTBOX_WORKER_NAME", name)
            // Trials count what is sent; one of what comes back says so in `setup.env`.
            .env("OUTBOX_ROLES", "send")
            .env("RUST_LOG", "info,sqlx=warn")
            .envs(setup.env.iter().map(|(variable, value)| (*variable, value.as_str())))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log_file)
            // A group of its own: a Ctrl-C is for us, and we end it.
            .process_group(0)
            .kill_on_drop(true);
        let child = command.spawn().map_err(RigError::Start)?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
        let pid = pid.expect("nobody has waited for it yet");
        // Should there be no guard, dropping `child` kills it.
        let guard = Guard::over(pid).map_err(RigError::Guard)?;
        Ok(WorkerProcess { name: name.to_owned(), pid, child, guard, log })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// How it ended, if it ended by itself.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, RigError> {
        let ended = self.child.try_wait().map_err(RigError::Wait)?;
        if ended.is_some() {
            self.guard.stand_down();
        }
        Ok(ended)
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The last line of its log, for an error message.
    pub fn last_words(&self) -> String {
        self.log().lines().last().unwrap_or("it said nothing").to_owned()
    }

    /// SIGKILL: it has no chance to finish or to record anything. Returns when it is gone.
    pub async fn kill(mut self) -> Result<(), RigError> {
        self.signal(Signal::SIGKILL);
        self.guard.stand_down();
        self.child.wait().await.map(drop).map_err(RigError::Wait)
    }

    /// SIGTERM: it finishes what is in flight. Returns how it ended.
    /// Errors: `RigError::Stuck` if it takes longer than `patience`; it is killed then.
    pub async fn stop(mut self, patience: Duration) -> Result<ExitStatus, RigError> {
        self.signal(Signal::SIGTERM);
        match tokio::time::timeout(patience, self.child.wait()).await {
            Ok(ended) => ended.map_err(RigError::Wait),
            Err(_) => Err(RigError::Stuck { name: self.name.clone(), patience }),
        }
    }

    /// SIGSTOP: it stands still, and its clock goes on.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// SIGCONT: it goes on where it stood.
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// The most memory that it ever held, in kB; none where the kernel does not tell, or when it is gone.
    pub fn peak_rss_kb(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        peak.trim().strip_suffix("kB")?.trim().parse().ok()
    }

    fn signal(&self, signal: Signal) {
        // Once it is reaped, its number may be another's; until then a signal to it cannot go astray.
        if self.child.id().is_some() {
            let _ = kill(self.pid, signal);
        }
    }
}

/// Variables that a worker must not inherit: they could make it work otherwise than the trial thinks, and no proxy leads to
/// a simulator on this machine.
fn is_foreign(variable: &str) -> bool {
    let ours = ["OUTBOX_", "CHERT_"].iter().any(|prefix| variable.starts_with(prefix));
    ours || variable.to_ascii_lowercase().ends_with("_proxy")
}

/// A shell that kills the worker when our end of its pipe closes, which the kernel does should we be killed.
struct Guard(Option<std::process::Child>);

impl Guard {
    fn over(pid: Pid) -> io::Result<Guard> {
        use std::os::unix::process::CommandExt as _;

        let script = r#"read -r _; kill -9 "$1""#;
        let mut shell = std::process::Command::new("/bin/sh");
        shell.args(["-c", script, "chert-outbox-worker-guard", &pid.to_string()]).process_group(0);
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        shell.spawn().map(|shell| Guard(Some(shell)))
    }

    /// Ends the shell while it has nothing to do any more: after the worker is reaped, its number may be another's.
    fn stand_down(&mut self) {
        if let Some(mut shell) = self.0.take() {
            let _ = shell.kill();
            let _ = shell.wait();
        }
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        // Before `child`, which kills and reaps the worker when it is dropped after this.
        self.guard.stand_down();
    }
}

/// The directory of a trial's logs, which goes when this is dropped.
pub fn log_directory() -> io::Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix("chert-outbox-logs-").tempdir()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_worker_inherits_neither_settings_nor_a_proxy() {
        assert!(["CHERT_AUTH", "OUTBOX_DEPLOYMENT", "https_proxy", "ALL_PROXY"].into_iter().all(is_foreign));
        assert!(!is_foreign("PATH") && !is_foreign("PGSSLMODE"));
    }

    /// The shell stands in for the product: it ignores its argument and sleeps.
    fn sleeper(logs: &Path) -> WorkerSetup {
        WorkerSetup {
            program: logs.join("sleeper"),
            database_url: String::new(),
            base_url: String::new(),
            secret: String::new(),
            env: Vec::new(),
            logs: logs.to_owned(),
        }
    }

    fn write_sleeper(path: &Path) {
        use std::os::unix::fs::PermissionsExt as _;
        fs::write(path, "#!/bin/sh\necho awake >&2\nexec sleep 600\n").expect("writes");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("is made a program");
    }

    fn is_alive(pid: i32) -> bool {
        kill(Pid::from_raw(pid), None).is_ok()
    }

    #[tokio::test]
    async fn a_worker_ends_by_kill_by_stop_and_by_being_dropped() {
        let logs = log_directory().expect("a directory");
        let setup = sleeper(logs.path());
        write_sleeper(&setup.program);

        let worker = WorkerProcess::start(&setup, "a").expect("starts");
        let pid = worker.pid();
        worker.kill().await.expect("is killed");
        assert!(!is_alive(pid), "killed and reaped");

        let mut worker = WorkerProcess::start(&setup, "b").expect("starts");
        assert_eq!(worker.ended().expect("can be asked"), None);
        let status = worker.stop(Duration::from_secs(10)).await.expect("ends by SIGTERM");
        assert!(!status.success());

        let worker = WorkerProcess::start(&setup, "c").expect("starts");
        let pid = worker.pid();
        drop(worker);
        let gone = async {
            while is_alive(pid) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), gone).await.expect("killed and reaped by its drop");
    }
}
